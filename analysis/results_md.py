"""`RESULTS.md`: everything an experiment found, for people who read on a terminal or a code host."""

import csv
from pathlib import Path

from analysis.formats import Column, Table, escape_markdown, to_markdown
from analysis.headline import Headline
from analysis.results import Results
from common.errors import UserError


def results_md(results: Results, headlines: list[Headline], tables: list[Table], figures: list[str]) -> str:
    """The whole file. `tables` are shown in the given order, `figures` by name below them."""
    experiment = results.experiment
    parts = [f"# {escape_markdown(experiment.title or experiment.name)}"]
    if not experiment.evidence:
        parts.append(
            "> The numbers below come from a small run that shows the machinery at work. They are **not evidence** for or "
            "against anything the papers say."
        )
    if experiment.note:
        parts.append(escape_markdown(experiment.note))
    parts.append("## Is deeper better?")
    parts += [f"- {escape_markdown(headline.sentence)}" for headline in headlines] or [
        "No system runs at several depths."
    ]
    if not experiment.evidence and headlines:
        parts.append(
            "One seed of a small model on little data: the sign of a difference is worth a look, its size is not."
        )
    for name in figures:
        parts.append(f"## {escape_markdown(name)}")
        parts.append(f"![WER against executed depth](figures/{name}.svg)")
        parts.append(f"[PDF](figures/{name}.pdf)")
    for table in tables:
        parts.append(f"## {escape_markdown(table.name)}")
        parts.append(to_markdown(table).rstrip())
        links = ", ".join(f"[{kind}](tables/{table.name}.{suffix})" for kind, suffix in LINKS)
        parts.append(f"The same as {links}.")
    parts += ["## Time and memory of each rule", *_markdown_or(rule_times(results), "No benchmark files were found.")]
    parts += ["## Provenance", *_markdown_or(provenance_table(results), "No provenance files were found.")]
    return "\n\n".join(parts) + "\n"


LINKS = [("CSV", "csv"), ("LaTeX", "tex"), ("HTML", "html")]


def _markdown_or(table: Table | None, otherwise: str) -> list[str]:
    return [to_markdown(table).rstrip() if table else otherwise]


def rule_times(results: Results) -> Table | None:
    """Wall time and memory of each rule, from Snakemake's benchmark files; None where there are none."""
    folder = results.folder / "benchmarks"
    rows, total = [], 0.0
    for path in sorted(folder.rglob("*.tsv")):
        seconds, memory = _benchmark(path)
        total += seconds
        cells = {"rule": str(path.relative_to(folder).with_suffix("")), "seconds": (seconds, f"{seconds:.1f}")}
        rows.append({**cells, "max_rss_mb": (memory, f"{memory:.0f}" if memory is not None else None)})
    if not rows:
        return None
    rows.append({"rule": "all rules", "seconds": (total, f"{total:.1f}")})
    columns = [
        Column("rule", "rule", numeric=False),
        Column("seconds", "wall seconds"),
        Column("max_rss_mb", "peak memory MB"),
    ]
    return Table(
        "rules", "Wall time of each rule; rules run beside each other, so the sum exceeds the wait", columns, rows
    )


def _benchmark(path: Path) -> tuple[float, float | None]:
    """Mean wall seconds and peak resident MB of one benchmark file (one line a repeat)."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    try:
        seconds = [float(line["s"]) for line in lines]
        memory = [float(line["max_rss"]) for line in lines if line.get("max_rss") not in (None, "", "-", "NA")]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a Snakemake benchmark file (no number in column 's' or 'max_rss')") from None
    if not seconds:
        raise UserError(f"{path}: not a Snakemake benchmark file (no line)")
    return sum(seconds) / len(seconds), max(memory, default=None)


def provenance_table(results: Results) -> Table | None:
    """Where each system comes from: commit, device, versions, training time."""
    rows = []
    for system in results.experiment.systems:
        for seed in results.experiment.seeds:
            found = results.optional(system, seed, "provenance.json")
            if found:
                rows.append({"system": system, "seed": seed, **_provenance_cells(found)})
    if not rows:
        return None
    columns = [
        Column("system", "system", numeric=False),
        Column("seed", "seed"),
        Column("commit", "commit", numeric=False),
        Column("device", "device", numeric=False),
        Column("wall_seconds", "training seconds"),
        Column("versions", "versions", numeric=False),
    ]
    return Table("provenance", "Where each system comes from", columns, rows)


def _provenance_cells(found: dict) -> dict:
    versions = found.get("versions") or {}
    seconds = found.get("wall_seconds")
    return {
        "commit": str(found.get("commit") or "unknown")[:12],
        "device": found.get("device"),
        "wall_seconds": (seconds, f"{seconds:.0f}" if isinstance(seconds, int | float) else None),
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "numpy") if name in versions),
    }
