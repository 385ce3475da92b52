"""A table of one's own: any rows, with nothing published beside them, each compared with a row of its own choice.

What a row needs to be kept stands in front: bits a weight, parameters, bytes on disk.
"""

from analysis.inputs.schemas import PointCosts
from analysis.tables.cells import compared, pooled_columns, row_cells, wer_cells
from analysis.tables.content import Content
from analysis.tables.formats import Column, Table
from analysis.tables.notes import notes_of_own
from analysis.tables.rows import MeasuredRow, point_costs

NOT_SHOWN = ("path", "paths", "dev_path", "segments", "p_holm")
"""Columns that only the CSV has, so that what was kept and what it cost fit beside each other."""


def own_table(content: Content) -> Table:
    """The rows in the experiment's order. `against` names the row that one is compared with."""
    test_sets, rows = content.experiment.test_sets, content.rows
    pooled = [
        Column(column.key) if column.key in NOT_SHOWN else column
        for column in pooled_columns("its reference", [*rows.values()], wer="WER %")
    ]
    columns = [
        Column("row", "row", numeric=False),
        Column("system"),
        Column("physical_layers"),
        Column("depth", "depth"),
        Column("bits_a_weight", "bits a weight"),
        Column("params_millions", "params M"),
        Column("stored_bytes", "kB"),
        Column("against", "against", numeric=False),
        *pooled,
    ]
    comparisons, body = compared(content.spec, rows, test_sets), []
    for name, row in rows.items():
        cells = {"row": name, "against": content.spec.reference_of(name)}
        cells |= row_cells(row, []) | size_cells(row) | wer_cells(row, test_sets, comparisons.get(name, {}))
        body.append(cells)
    title = f"{content.spec.title or content.name} ({content.experiment.name}, {content.name})"
    return Table(content.name, title, columns, body, notes_of_own(content))


def size_cells(row: MeasuredRow) -> dict:
    """What the row's point takes on disk, of each seed; nothing where it was not measured."""
    costs = [point_costs(row.results, choice) for choice in row.choices]
    if not all(costs):
        return {}
    return {
        "bits_a_weight": _one_or_list(row, costs, lambda each: each.bits_a_weight, "{:.2f}"),
        "stored_bytes": _one_or_list(row, costs, lambda each: each.stored_bytes, "{:,.0f}", 1e-3),
    }


def _one_or_list(row: MeasuredRow, costs: list[PointCosts], of, shape: str, factor: float = 1.0):
    values = [of(each) for each in costs]
    if None in values:
        return None
    shown = row.by_seed(shape.format(value * factor) for value in values)
    return (values[0] if len({*values}) == 1 else shown, shown)
