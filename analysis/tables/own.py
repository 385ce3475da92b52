"""A table of one's own: any rows, with nothing published beside them, each compared with a row of its own choice.

What a row needs to be kept stands in front: bits a weight, which share of the weights is zero, parameters, bytes on
disk.
"""

from analysis.tables.cells import compared, pooled_columns, row_cells, wer_cells
from analysis.tables.content import Content
from analysis.tables.formats import Column, Table, brief
from analysis.tables.notes import notes_of_own
from analysis.tables.rows import MeasuredRow


def own_table(content: Content) -> Table:
    """The rows in the experiment's order. `against` names the row that one is compared with."""
    test_sets, rows = content.experiment.test_sets, content.rows
    zeros = {name: zero_cells(row) for name, row in rows.items()}
    found = {key for cells in zeros.values() for key in cells}
    columns = [
        Column("row", "row", numeric=False),
        Column("system", "system", numeric=False),
        Column("physical_layers", "physical layers"),
        Column("depth", "depth"),
        Column("bits_a_weight", "bits a weight"),
        Column("matrix_zeros_pct", "zeros of the matrices % (of all encoder parameters)" if found else ""),
        Column("encoder_zeros_pct", ""),
        Column("params_millions", "params M"),
        Column("stored_bytes", "stored kB"),
        Column("against", "against", numeric=False),
        *pooled_columns("that row", [*rows.values()]),
    ]
    comparisons, body = compared(content.spec, rows, test_sets), []
    for name, row in rows.items():
        cells = {"row": name, "against": content.spec.reference_of(name), **zeros[name]}
        body.append(cells | row_cells(row, rows, []) | wer_cells(row, rows, test_sets, comparisons.get(name, {})))
    title = f"{content.spec.title or content.name} ({content.experiment.name}, {content.name})"
    compares = sum(content.spec.reference_of(name) is not None for name in rows)
    columns = [Column(each.key, "Holm p" if compares > 1 else "") if each.key == "p_holm" else each for each in columns]
    needed = ["row", "depth", "bits_a_weight", "stored_bytes", "wer", "star", "against", "difference", "p"]
    needed += ["matrix_zeros_pct"] if found and _pruned(zeros) else []
    return Table(content.name, title, brief(columns, *needed, "p_holm"), body, notes_of_own(content, bool(found)))


MANY = 25.0
"""Percent of zeros from which a table speaks of pruning: rounding to four bits leaves a fifth of the weights zero."""


def _pruned(zeros: dict[str, dict]) -> bool:
    return any(cells["matrix_zeros_pct"][0] > MANY for cells in zeros.values() if cells)


def zero_cells(row: MeasuredRow) -> dict:
    """The share of zeros among the matrices of the physical layers, and among all parameters of the encoder, of the
    first seed; nothing where they were not counted."""
    point = row.first.point
    costs = row.results.costs(point.system, point.seed)
    if costs is None or not costs.matrices:
        return {}
    weights = sum(matrix.weights for matrix in costs.matrices)
    zeros = sum(matrix.zeros for matrix in costs.matrices)
    share, text = 100 * zeros / weights, f"{100 * zeros / weights:.1f}"
    if not costs.encoder_parameters:
        return {"matrix_zeros_pct": (share, text)}
    whole = 100 * zeros / costs.encoder_parameters
    return {"matrix_zeros_pct": (share, f"{text} ({whole:.1f})"), "encoder_zeros_pct": (whole, f"{whole:.1f}")}
