"""What was run and on what: the facts of a run, and the corpus, systems and jobs as tables."""

from typing import Any

from analysis.inputs.results import Results
from analysis.tables.formats import Column, Table
from analysis.tables.rows import systems_in_order
from analysis.tables.runs import read_benchmark
from common.files import read_json


def facts(results: Results) -> list[tuple[str, str]]:
    """`(question, answer)` pairs. What nobody wrote down is left out."""
    experiment, corpus = results.experiment, results.corpus
    origins = _origins(results)
    pairs = [
        ("Experiment", experiment.name),
        ("Corpus", _corpus_text(experiment.corpus.name, corpus)),
        ("Scored on", ", ".join(experiment.test_sets) + f" (choices also on {experiment.dev_set})"),
        ("Systems", f"{len(experiment.systems)}: {', '.join(systems_in_order(results))}"),
        ("Text normaliser", f"{results.normaliser.name}: {results.normaliser.rules.description}"),
        ("Seeds", _seeds_text(results)),
        ("Machine", "; ".join(_different(map(_machine, origins)))),
        ("Commit", "; ".join(_different(map(_commit, origins)))),
        ("Trained", _span(_different(origin.get("finished") for origin in origins))),
        ("Training time", _duration(sum(origin.get("wall_seconds") or 0.0 for origin in origins))),
    ]
    return [(question, answer) for question, answer in pairs if answer]


def set_table(results: Results) -> Table | None:
    """The sets of the corpus with their sizes; None where the corpus was not described."""
    sets = results.corpus.get("sets", {})
    columns = [Column("set", "set", numeric=False), Column("used_for", "used for", numeric=False)]
    columns += [Column(key, key) for key in ("utterances", "speakers", "words")]
    columns += [Column("seconds", "minutes of speech")]
    order = ["train", *results.experiment.decoded_sets]
    names = sorted(sets, key=lambda name: order.index(name) if name in order else len(order))
    rows = [{"set": name, "used_for": _use(results, name), **sets[name], **_minutes(sets[name])} for name in names]
    return Table("corpus", f"The corpus {results.experiment.corpus.name}", columns, rows) if rows else None


def system_table(results: Results) -> Table:
    """Each system: its method, how many layers have weights, how many ways there are to run it."""
    columns = [
        Column("system", "system", numeric=False),
        Column("method", "method", numeric=False),
        Column("physical_layers", "physical layers"),
        Column("points", "ways to run it"),
        Column("depths", "depths", numeric=False),
        Column("parameters", "stored parameters"),
    ]
    rows = []
    for system in systems_in_order(results):
        found = results.first_points(system)
        costs = results.costs(system, results.seeds_of(system)[0])
        stored = max((point.parameters_stored for point in costs.points.values()), default=None) if costs else None
        depths = found.depths
        rows.append(
            {
                "system": system,
                "method": results.experiment.systems[system].method,
                "physical_layers": found.physical_layers,
                "points": sum(point.offered for point in found.points),
                "depths": f"{depths[0]} to {depths[-1]}" if len(depths) > 1 else "".join(map(str, depths)),
                "parameters": (stored, "not measured" if stored is None else f"{stored:,}"),
            }
        )
    notes = results.experiment.family_notes(row["system"] for row in rows)
    return Table("systems", "The systems", columns, rows, notes)


def job_table(results: Results) -> Table | None:
    """Every job with its wall time and peak memory, the longest first; None without benchmark files."""
    folder = results.folder / "benchmarks"
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        seconds, memory = read_benchmark(path)
        rule, *rest = path.relative_to(folder).with_suffix("").parts
        cells = {"rule": rule, "job": "/".join(rest), "seconds": (seconds, f"{seconds:.1f}")}
        rows.append({**cells, "max_rss_mb": None if memory is None else (memory, f"{memory:.0f}")})
    columns = [Column("rule", "rule", numeric=False), Column("job", "job", numeric=False)]
    columns += [Column("seconds", "wall seconds"), Column("max_rss_mb", "peak memory MB")]
    rows.sort(key=lambda row: -row["seconds"][0])
    return Table("jobs", "Wall time and memory of each job", columns, rows) if rows else None


def _seeds_text(results: Results) -> str:
    """`3 (0, 1, 2)`; where systems have different ones, whose they are: `5 (0, 1, 2, 3, 4) of a12, f6; 3 (0, 1, 2) of
    the others`."""
    systems: dict[tuple[int, ...], list[str]] = {}
    for name in systems_in_order(results):
        systems.setdefault(tuple(results.seeds_of(name)), []).append(name)
    shown = {seeds: f"{len(seeds)} ({', '.join(map(str, seeds))})" for seeds in systems}
    if len(systems) == 1:
        return next(iter(shown.values()))
    *few, most = sorted(systems, key=lambda seeds: len(systems[seeds]))
    return "; ".join(
        [*(f"{shown[seeds]} of {', '.join(systems[seeds])}" for seeds in few), f"{shown[most]} of the others"]
    )


def _corpus_text(name: str, corpus: dict[str, Any]) -> str:
    rate, licence = corpus.get("sampling_rate"), corpus.get("licence")
    return "; ".join(filter(None, [name, f"{rate / 1000:g} kHz" if rate else "", licence]))


def _use(results: Results, name: str) -> str:
    if name in results.experiment.test_sets:
        return "test"
    if name in results.experiment.further_sets:
        return "further, never pooled"
    return "development" if name == results.experiment.dev_set else "training" if name == "train" else ""


def _minutes(sizes: dict[str, Any]) -> dict:
    seconds = sizes.get("seconds")
    return {} if seconds is None else {"seconds": (seconds, f"{seconds / 60:.1f}")}


def _origins(results: Results) -> list[dict[str, Any]]:
    """The provenance of every trained system, as written."""
    paths = sorted((results.folder / "systems").glob("*/seed*/provenance.json"))
    return [content for path in paths if isinstance(content := read_json(path), dict)]


def _machine(origin: dict[str, Any]) -> str:
    device, cores, threads = origin.get("device"), origin.get("cores"), origin.get("threads")
    parts = [device, origin.get("processor") or "", f"{cores} cores" if cores else ""]
    return ", ".join(filter(None, [*parts, f"{threads} thread(s) a job" if threads else "", origin.get("platform")]))


def _commit(origin: dict[str, Any]) -> str:
    commit = (origin.get("commit") or "")[:12]
    return f"{commit} (modified)" if commit and origin.get("modified") else commit


def _different(values) -> list[str]:
    return sorted({value for value in values if value})


def _span(times: list[str]) -> str:
    times = [time.replace("T", " ").replace("+00:00", " UTC") for time in times]
    return "" if not times else times[0] if len(times) == 1 else f"{times[0]} to {times[-1]}"


def _duration(seconds: float) -> str:
    if not seconds:
        return ""
    minutes = seconds / 60
    return f"{minutes:.1f} minutes over all systems" if minutes < 120 else f"{minutes / 60:.1f} hours over all systems"
