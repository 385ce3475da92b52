"""Decodes that stand behind no table (a beam search on a few utterances, say) beside the tables' decode, like for like.

Both are scored on exactly the utterances of the further decode, so that the difference is the search, not the speech.
"""

from analysis.alignment import Alignment, align
from analysis.counts import Counts
from analysis.formats import Column, Table
from analysis.results import Results
from analysis.rows import systems_in_order, table_decode
from analysis.schemas import Point
from analysis.trn import Transcript

COLUMNS = [
    Column("system", "system", numeric=False),
    Column("depth", "depth"),
    Column("path", "path", numeric=False),
    Column("utterances", "utterances"),
    Column("ref_words", "words"),
    Column("decode", "decode", numeric=False),
    Column("wer", "WER %"),
    Column("other_decode", "beside", numeric=False),
    Column("other_wer", "WER %"),
]


def decode_table(results: Results) -> Table:
    """One line for each point of every further decode, test sets pooled, first seed; no line where there is none.

    A system whose family has not that decode has no line.
    """
    experiment = results.experiment
    in_tables = [spec.decode for spec in experiment.tables.values()]
    rows = []
    for decode in experiment.decodes if in_tables else []:
        if decode not in in_tables:
            for system in systems_in_order(results):
                rows += _rows(results, system, decode, table_decode(results, system))
    notes = ["Both decodes are scored on the same utterances, test sets pooled: to see that the search works, no more."]
    notes += [f"Seed {experiment.seeds[0]} alone."] if len(experiment.seeds) > 1 else []
    notes += experiment.family_notes(row["system"] for row in rows)
    return Table("decodes", f"Further decodes ({experiment.name})", COLUMNS, rows, notes)


def _rows(results: Results, system: str, decode: str, other: str) -> list[dict]:
    rows = []
    for point in results.points(system, results.experiment.seeds[0]).points:
        sets = [name for name in results.experiment.test_sets if results.decoded(point, decode, name)]
        if not sets:
            continue
        ours = results.alignments(point, decode, sets)
        counts = sum((alignment.counts for alignment in ours), Counts.zero())
        cells = {"system": system, "depth": point.depth, "path": point.shown, "decode": decode, "other_decode": other}
        cells["utterances"] = sum(len(alignment.reference.lines) for alignment in ours)
        cells["ref_words"] = counts.ref_words
        cells["wer"] = (counts.wer, f"{counts.wer:.2f}")
        if all(results.decoded(point, other, name) for name in sets):
            wer = sum(
                (_restricted(results, point, other, *pair) for pair in zip(sets, ours, strict=True)), Counts.zero()
            ).wer
            cells["other_wer"] = (wer, f"{wer:.2f}")
        rows.append(cells)
    return rows


def _restricted(results: Results, point: Point, decode: str, test_set: str, to: Alignment) -> Counts:
    """The counts of another decode on the utterances of an alignment."""
    path = results.system_folder(point.system, point.seed) / "eval" / decode / test_set / f"{point.id}.trn"
    whole = results.transcript(path)
    part = {utterance: whole.lines[utterance] for utterance in to.reference.lines if utterance in whole.lines}
    return align(to.reference, Transcript(path, part)).counts
