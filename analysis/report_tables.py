"""Tables as the report shows them: ours beside the published one, and each as CSV and LaTeX behind a link.

The links are `data:` addresses, so that the page stays one file.
"""

import urllib.parse
from dataclasses import dataclass

from analysis.formats import Column, Table, to_csv, to_latex

MIME = {"csv": "text/csv", "tex": "application/x-tex"}


@dataclass(frozen=True)
class View:
    """A table with what its template needs. `name` is unique on the page."""

    table: Table
    name: str
    links: dict[str, str]
    """Kind of file ("CSV", "LaTeX") to the `data:` address that holds it."""

    @property
    def columns(self) -> list[Column]:
        return self.table.shown(wide=True)

    @property
    def texts(self) -> list[list[str]]:
        return self.table.texts(wide=True)


def view(table: Table, experiment: str) -> View:
    """The view of one table; downloaded files are named after the experiment and the table."""
    links = {"CSV": _address(to_csv(table), "csv"), "LaTeX": _address(to_latex(table), "tex")}
    return View(table, f"{experiment}_{table.name}", links)


def _address(text: str, kind: str) -> str:
    return f"data:{MIME[kind]};charset=utf-8,{urllib.parse.quote(text)}"


def beside(table: Table, reference: str) -> Table | None:
    """Ours beside the paper's, with how each differs from its own reference row; None for a table with no paper's WER.

    WERs of other data cannot be subtracted with profit, though that difference is shown too; what can be compared is
    how far each row is from the reference row of its own column.
    """
    if "published_wer" not in {column.key for column in table.columns}:
        return None
    base = next((row for row in table.rows if row["sys"] == reference), {})
    ours_base, paper_base = _number(base.get("wer")), _number(base.get("published_wer"))
    columns = [
        Column("sys", "Sys.", numeric=False),
        Column("system", "system", numeric=False),
        Column("depth", "depth"),
        Column("wer", "our WER %"),
        Column("relative", f"ours: % against Sys. {reference}"),
        Column("published_wer", "paper WER %"),
        Column("published_relative", f"paper: % against its Sys. {reference}"),
        Column("relative_gap", "ours − paper, points of %"),
        Column("gap", "ours − paper, WER"),
        Column("direction", f"direction from Sys. {reference}", numeric=False),
    ]
    rows = [_beside_row(row, ours_base, paper_base, row["sys"] == reference) for row in table.rows]
    notes = [
        "The paper's numbers come from other data and larger systems. Compare the direction and the relative change "
        f"against Sys. {reference}, not the WERs. Whether a difference is real is said by the tests of the full table."
    ]
    return Table(f"{table.name}_beside", f"{table.title}: ours beside the paper's", columns, rows, notes)


def _beside_row(row: dict, ours_base: float | None, paper_base: float | None, is_reference: bool) -> dict:
    ours, paper = _number(row.get("wer")), _number(row.get("published_wer"))
    cells = {key: row.get(key) for key in ("sys", "system", "depth", "wer", "published_wer")}
    ours_change, paper_change = _change(ours, ours_base), _change(paper, paper_base)
    cells["gap"] = _signed(None if None in (ours, paper) else ours - paper, 2)
    if is_reference:
        return {**cells, "direction": "reference"}
    both = None not in (ours_change, paper_change)
    return {
        **cells,
        "relative": _signed(ours_change, 1),
        "published_relative": _signed(paper_change, 1),
        "relative_gap": _signed(ours_change - paper_change if both else None, 1),
        "direction": _direction(ours_change, paper_change) if both else None,
    }


def _direction(ours: float, paper: float) -> str:
    if not ours or not paper:
        return "–"
    return "same" if (ours > 0) == (paper > 0) else "opposite"


def _change(wer: float | None, base: float | None) -> float | None:
    return None if wer is None or not base else 100.0 * (wer - base) / base


def _signed(value: float | None, digits: int):
    return None if value is None else (value, f"{value:+.{digits}f}")


def _number(cell) -> float | None:
    value = cell[0] if isinstance(cell, tuple) else cell
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
