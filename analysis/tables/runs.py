"""How an experiment was run: time and memory of each rule, and where each trained system comes from."""

import csv
from pathlib import Path

from analysis.inputs.results import Results
from analysis.inputs.schemas import Provenance
from analysis.tables.formats import Column, Table
from analysis.tables.rows import systems_in_order
from common.errors import UserError

SHOWN_VERSIONS = ("python", "torch", "espnet", "numpy")


def rule_times(results: Results) -> Table | None:
    """Wall time and memory of each rule over all its jobs, from Snakemake's benchmark files; None without any."""
    folder = results.folder / "benchmarks"
    jobs: dict[str, list[tuple[float, float | None]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).with_suffix("").parts[0]
        jobs.setdefault(rule, []).append(read_benchmark(path))
    if not jobs:
        return None
    rows = [_rule_cells(rule, measured) for rule, measured in jobs.items()]
    rows.append(_rule_cells("all of them", [job for measured in jobs.values() for job in measured]))
    columns = [
        Column("rule", "rule", numeric=False),
        Column("jobs", "jobs"),
        Column("seconds", "wall seconds, all jobs"),
        Column("longest_seconds", "longest job"),
        Column("max_rss_mb", "peak memory MB of a job"),
    ]
    notes = [
        "Jobs run beside each other, so the sum is more than the wait. Only jobs that ran in this folder are counted: "
        "of systems that were trained or decoded elsewhere the times stand in their provenance.",
        "The time of the analysis, which writes this, is that of its previous run.",
    ]
    return Table("rules", "Wall time of each rule", columns, rows, notes)


def _rule_cells(rule: str, jobs: list[tuple[float, float | None]]) -> dict:
    seconds = [job[0] for job in jobs]
    memory = max((job[1] for job in jobs if job[1] is not None), default=None)
    return {
        "rule": rule,
        "jobs": len(jobs),
        "seconds": (sum(seconds), f"{sum(seconds):.1f}"),
        "longest_seconds": (max(seconds), f"{max(seconds):.1f}"),
        "max_rss_mb": None if memory is None else (memory, f"{memory:.0f}"),
    }


def read_benchmark(path: Path) -> tuple[float, float | None]:
    """Mean wall seconds and peak resident MB of one benchmark file (one line a repeat)."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    try:
        seconds = [float(line["s"]) for line in lines]
        memory = [float(line["max_rss"]) for line in lines if line.get("max_rss") not in (None, "", "-", "NA")]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a Snakemake benchmark file (no number in column 's' or 'max_rss')") from None
    if not seconds:
        raise UserError(f"{path}: not a Snakemake benchmark file (it holds no line)")
    return sum(seconds) / len(seconds), max(memory, default=None)


def provenance_table(results: Results) -> Table | None:
    """Where each system comes from: commit, device, versions, training time; None where nothing is known."""
    rows = []
    for system in systems_in_order(results):
        for seed in results.seeds_of(system):
            found = results.provenance(system, seed)
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
    notes = results.experiment.family_notes(row["system"] for row in rows)
    return Table("provenance", "Where each system comes from", columns, rows, notes)


def _provenance_cells(found: Provenance) -> dict:
    commit = (found.commit or "unknown")[:12]
    seconds = found.wall_seconds
    return {
        "commit": f"{commit} (modified)" if found.modified else commit,
        "device": ", ".join(filter(None, (found.device, found.processor))),
        "wall_seconds": None if seconds is None else (seconds, f"{seconds:.0f}"),
        "versions": ", ".join(f"{name} {found.versions[name]}" for name in SHOWN_VERSIONS if name in found.versions),
    }
