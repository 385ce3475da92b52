"""A table of one's own: any rows, with nothing published beside them, each compared with a row of its own choice.

What a row needs to be kept stands in front: bits a weight, parameters, bytes on disk.
"""

from analysis.tables.cells import compared, pooled_columns, row_cells, wer_cells
from analysis.tables.content import Content
from analysis.tables.formats import Column, Table, brief
from analysis.tables.notes import notes_of_own


def own_table(content: Content) -> Table:
    """The rows in the experiment's order. `against` names the row that one is compared with."""
    test_sets, rows = content.experiment.test_sets, content.rows
    columns = [
        Column("row", "row", numeric=False),
        Column("system", "system", numeric=False),
        Column("physical_layers", "physical layers"),
        Column("depth", "depth"),
        Column("bits_a_weight", "bits a weight"),
        Column("params_millions", "params M"),
        Column("stored_bytes", "stored kB"),
        Column("against", "against", numeric=False),
        *pooled_columns("that row", [*rows.values()]),
    ]
    comparisons, body = compared(content.spec, rows, test_sets), []
    for name, row in rows.items():
        cells = {"row": name, "against": content.spec.reference_of(name)}
        body.append(cells | row_cells(row, []) | wer_cells(row, test_sets, comparisons.get(name, {})))
    title = f"{content.spec.title or content.name} ({content.experiment.name}, {content.name})"
    compares = sum(content.spec.reference_of(name) is not None for name in rows)
    columns = [Column(each.key, "Holm p" if compares > 1 else "") if each.key == "p_holm" else each for each in columns]
    needed = ["row", "depth", "bits_a_weight", "stored_bytes", "wer", "star", "against", "difference", "p", "p_holm"]
    return Table(content.name, title, brief(columns, *needed), body, notes_of_own(content))
