"""Every transcript of an experiment with its counts and interval: one tidy table, for who wants to look further."""

from analysis.inputs.results import Results
from analysis.significance.intervals import wer_interval
from analysis.tables.formats import Column, Table, brief
from analysis.tables.rows import systems_in_order

ALL = [
    Column("system", "system", numeric=False),
    Column("seed", "seed"),
    Column("point", "point", numeric=False),
    Column("path", "path", numeric=False),
    Column("depth", "depth"),
    Column("offered", "offered"),
    Column("trained", "trained"),
    Column("decode", "decode", numeric=False),
    Column("set", "set", numeric=False),
    Column("sub", "sub"),
    Column("del", "del"),
    Column("ins", "ins"),
    Column("ref_words", "words"),
    Column("wer", "WER %"),
    *[Column(key) for key in ("wer_low", "wer_high", "units")],
]
COLUMNS = brief(ALL, "system", "seed", "point", "path", "depth", "decode", "set", "ref_words", "wer", "trained")


def point_table(results: Results) -> Table:
    """One line for each system, seed, decode, set and point that was decoded."""
    rows = []
    for system in systems_in_order(results):
        for seed in results.seeds_of(system):
            found = results.points(system, seed)
            for decode, decoded in found.decodes.items():
                for test_set, content in decoded.sets.items():
                    points = [point for point in found.points if point.id in content.points]
                    rows += [_row(results, point, decode, test_set) for point in points]
    notes = results.experiment.family_notes(row["system"] for row in rows)
    return Table("points", f"Every point that was decoded ({results.experiment.name})", COLUMNS, rows, notes)


def _row(results: Results, point, decode: str, test_set: str) -> dict:
    alignment = results.alignment(point, decode, test_set)
    counts, interval = alignment.counts, wer_interval([alignment])
    return {
        "system": point.system,
        "seed": point.seed,
        "point": point.id,
        "path": point.shown,
        "depth": point.depth,
        "offered": int(point.offered),
        "trained": int(point.trained),
        "decode": decode,
        "set": test_set,
        **counts.to_json(),
        "wer": (counts.wer, f"{counts.wer:.2f}"),
        "wer_low": interval.low,
        "wer_high": interval.high,
        "units": interval.units,
    }
