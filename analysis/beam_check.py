"""Decodes that stand behind no table (a beam search on a few utterances, say) beside the tables' decode, like for like.

Both are scored on exactly the utterances of the smaller decode, so that the difference is the search, not the speech.
"""

from analysis.alignment import align
from analysis.formats import Column, Table
from analysis.results import Results
from analysis.schemas import Point
from analysis.trn import Transcript

COLUMNS = [
    Column("decode", "decode", numeric=False),
    Column("system", "system", numeric=False),
    Column("path", "path", numeric=False),
    Column("set", "set", numeric=False),
    Column("utterances", "utterances"),
    Column("ref_words", "words"),
    Column("wer", "WER %"),
    Column("other_decode", "beside", numeric=False),
    Column("other_wer", "WER %"),
]


def decode_table(results: Results) -> Table:
    """One line for each point and set of every further decode, first seed; no line where there is none."""
    experiment = results.experiment
    tables = {spec.decode for spec in experiment.tables.values()} or set(experiment.decodes)
    rows = []
    for decode in experiment.decodes:
        if decode in tables:
            continue
        for system in experiment.systems:
            found = results.points(system, experiment.seeds[0])
            sets = found.decodes[decode].sets if decode in found.decodes else {}
            for name, decoded in sets.items():
                points = [point for point in found.points if point.id in decoded.points]
                rows += [_row(results, point, decode, name, min(tables)) for point in points]
    notes = ["Both decodes are scored on the same utterances; few utterances, so only to see that the search works."]
    return Table("decodes", f"Further decodes ({experiment.name})", COLUMNS, rows, notes)


def _row(results: Results, point: Point, decode: str, test_set: str, other: str) -> dict:
    ours = results.alignment(point, decode, test_set)
    counts = ours.counts
    cells = {
        "decode": decode,
        "system": point.system,
        "path": point.shown,
        "set": test_set,
        "utterances": len(ours.reference.lines),
        "ref_words": counts.ref_words,
        "wer": (counts.wer, f"{counts.wer:.2f}"),
        "other_decode": other,
    }
    if results.decoded(point, other, test_set):
        path = results.system_folder(point.system, point.seed) / "eval" / other / test_set / f"{point.id}.trn"
        whole = results.transcript(path)
        part = Transcript(path, {u: whole.lines[u] for u in ours.reference.lines if u in whole.lines})
        wer = align(ours.reference, part).counts.wer
        cells["other_wer"] = (wer, f"{wer:.2f}")
    return cells
