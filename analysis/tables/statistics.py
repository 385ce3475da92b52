"""Which batch-norm statistics the rows of a table were run with, and what estimating them cost."""

from collections.abc import Iterable, Mapping

from analysis.inputs.schemas import StatisticsFacts
from analysis.tables.formats import Column
from analysis.tables.rows import MeasuredRow

COLUMN = "batch_norm_statistics"
RUNNING = "running"


def statistics_columns(rows: Iterable[MeasuredRow]) -> list[Column]:
    """The column that names them; none where no row's system has batch norm, or nobody wrote it down."""
    known = any(facts_of(row) for row in rows)
    return [Column(COLUMN, "batch-norm statistics", numeric=False)] if known else []


def statistics_cells(row: MeasuredRow) -> dict:
    """`running`, or over which paths they were estimated."""
    facts = facts_of(row)
    return {} if facts is None else {COLUMN: _over(facts, row.first.point.shown)}


def _over(facts: StatisticsFacts, path: str) -> str:
    if facts.use == RUNNING:
        return RUNNING
    others = len({*facts.points} - {path})
    more = "1 other path" if others == 1 else f"{others} other paths"
    if path not in facts.points:
        return f"of {more}"
    return f"of this path and {more}" if others else "of this path"


def statistics_notes(rows: Mapping[str, MeasuredRow], published: Iterable[str]) -> list[str]:
    """What the rows of ours are that differ from a published one in statistics alone, and what the statistics cost."""
    found = [facts for row in rows.values() for facts in _by_seed(row) if facts]
    if not found:
        return []
    notes = []
    if same := [name for name in rows if published_row(name, published)]:
        notes.append(
            f"Ours, {', '.join(same)}: the row of that number with other statistics of batch norm, the same weights. "
            "running: as training left them, an average over the last executions of each layer; path: estimated again "
            "at the very path that is run."
        )
    if again := [facts for facts in found if facts.use != RUNNING]:
        audio = _span([facts.audio_seconds / 60 for facts in again], "{:.0f}")
        notes.append(
            "Statistics that are not running ones were estimated after training, over "
            f"{audio} minutes of training speech without augmentation: the mean over batches, each execution counting "
            f"alike. That took {_span([facts.seconds for facts in again], '{:.1f}')} s a system."
        )
    size = _span([facts.bytes / 1e3 for facts in found], "{:.1f}")
    return [*notes, f"The statistics are {size} kB of each model; the running ones stand beside it."]


def published_row(name: str, published: Iterable[str]) -> str | None:
    """The published row that a row of ours, `2 running`, has another reading of; None where there is none."""
    number, space, _ = name.partition(" ")
    return number if space and number in published and name not in published else None


def facts_of(row: MeasuredRow) -> StatisticsFacts | None:
    """Those of the first seed's system; None without batch norm."""
    return _by_seed(row)[0]


def _by_seed(row: MeasuredRow) -> list[StatisticsFacts | None]:
    points = [choice.point for choice in row.choices]
    found = [row.results.provenance(point.system, point.seed) for point in points]
    return [each and each.statistics for each in found]


def _span(values: list[float], shape: str) -> str:
    low, high = shape.format(min(values)), shape.format(max(values))
    return low if low == high else f"{low} to {high}"
