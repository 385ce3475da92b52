"""Decodes that stand behind no table and no figure (a beam search on a few utterances, say) beside the tables' decode,
like for like.

Both are scored on the utterances that both decoded, so that the difference is the search, not the speech.
"""

from analysis.inputs.results import Results
from analysis.scoring.alignment import Alignment
from analysis.scoring.counts import Counts
from analysis.tables.formats import Column, Table
from analysis.tables.rows import systems_in_order, table_decode

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
    shown = [spec.decode for spec in (*experiment.tables.values(), *experiment.depth_figures.values())]
    rows = []
    for decode in experiment.decodes if experiment.tables else []:
        if decode not in shown:
            for system in systems_in_order(results):
                rows += _rows(results, system, decode, table_decode(results, system))
    notes = ["Both decodes are scored on the same utterances, test sets pooled: to see that the search works, no more."]
    several = any(len(results.seeds_of(row["system"])) > 1 for row in rows)
    notes += [f"Seed {results.first_seeds(row['system'] for row in rows)} alone."] if several else []
    notes += experiment.family_notes(row["system"] for row in rows)
    return Table("decodes", f"Further decodes ({experiment.name})", COLUMNS, rows, notes)


def _rows(results: Results, system: str, decode: str, other: str) -> list[dict]:
    rows = []
    for point in results.first_points(system).points:
        sets = [name for name in results.experiment.test_sets if results.decoded(point, decode, name)]
        if not sets:
            continue
        ours, theirs = results.alignments(point, decode, sets), []
        if all(results.decoded(point, other, name) for name in sets):
            theirs = results.alignments(point, other, sets)
        # Either may hold the first utterances of each set only.
        common = [_utterances(*pair) for pair in zip(ours, theirs or ours, strict=True)]
        counts = _counts(ours, common)
        cells = {"system": system, "depth": point.depth, "path": point.shown, "decode": decode, "other_decode": other}
        cells["utterances"] = sum(map(len, common))
        cells["ref_words"] = counts.ref_words
        cells["wer"] = (counts.wer, f"{counts.wer:.2f}")
        if theirs:
            wer = _counts(theirs, common).wer
            cells["other_wer"] = (wer, f"{wer:.2f}")
        rows.append(cells)
    return rows


def _utterances(ours: Alignment, theirs: Alignment) -> set[str]:
    return ours.reference.lines.keys() & theirs.reference.lines.keys()


def _counts(alignments: list[Alignment], utterances: list[set[str]]) -> Counts:
    """The counts of some utterances of each alignment, pooled."""
    pooled = Counts.zero()
    for alignment, wanted in zip(alignments, utterances, strict=True):
        rows = [row for row, utterance in enumerate(alignment.reference.lines) if utterance in wanted]
        correct, sub, dele, ins = (int(total) for total in alignment.totals[rows].sum(axis=0))
        pooled += Counts(sub, dele, ins, correct + sub + dele)
    return pooled
