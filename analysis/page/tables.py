"""Tables as the report shows them: ours beside the published one, and each as CSV and LaTeX behind a link.

The links are `data:` addresses, so that the page stays one file.
"""

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.tables.formats import Column, Table, to_csv, to_latex

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


def beside(table: Table, reference: str, notes: Sequence[str] = ()) -> Table | None:
    """Ours beside the paper's, with how each differs from its own reference row; None for a table without pairs.

    `notes` are put below it: what the models are.

    WERs of other data cannot be subtracted with profit, though that difference is shown too; what can be compared is
    how far each row is from the reference row of its own column.
    """
    if not table.pairs:
        return None
    columns = [
        Column("sys", "Sys.", numeric=False),
        Column("system", "system", numeric=False),
        Column("depth", "depth"),
    ]
    rows = [{key: row.get(key) for key in ("sys", "system", "depth")} for row in table.rows]
    for pair in table.pairs:
        columns += _pair_columns(table, pair, reference)
        for cells, more in zip(rows, _pair_cells(table, pair, reference), strict=True):
            cells |= more
    notes = [
        "The paper's numbers come from other data and larger systems. Compare the direction and the relative change "
        f"against Sys. {reference}, not the WERs. Whether a difference is real is said by the tests of the full table.",
        *notes,
    ]
    if any(_over_seeds(table, f"_{name}" if name else "") for *_, name in table.pairs):
        notes.insert(1, "Ours are means over seeds; * 2/3 says in how many of them no significant increase is found.")
    return Table(f"{table.name}_beside", f"{table.title}: ours beside the paper's", columns, rows, notes)


def _pair_columns(table: Table, pair: tuple[str, str, str], reference: str) -> list[Column]:
    """What is said of one pair; of several pairs each names its set. Means over seeds have interval and star beside."""
    ours, paper, name = pair
    end, on = (f"_{name}", f"{name}: ") if name else ("", "")
    return [
        Column(ours, f"{on}our WER %" if name else "our WER % [95 % interval]"),
        *_over_seeds(table, end),
        Column(f"relative{end}", f"{on}ours: % against Sys. {reference}"),
        Column(paper, f"{on}paper WER %"),
        Column(f"published_relative{end}", f"{on}paper: % against its Sys. {reference}"),
        Column(f"relative_gap{end}", f"{on}ours − paper, points of %"),
        Column(f"gap{end}", f"{on}ours − paper, WER"),
        Column(f"direction{end}", f"{on}direction from Sys. {reference}", numeric=False),
    ]


def _pair_cells(table: Table, pair: tuple[str, str, str], reference: str) -> list[dict]:
    """The cells of those columns, row by row."""
    ours_key, paper_key, name = pair
    base = next((row for row in table.rows if row["sys"] == reference), {})
    ours_base, paper_base = _number(base.get(ours_key)), _number(base.get(paper_key))
    rows = []
    for row in table.rows:
        ours, paper = _number(row.get(ours_key)), _number(row.get(paper_key))
        ours_change, paper_change = _change(ours, ours_base), _change(paper, paper_base)
        both = None not in (ours_change, paper_change)
        cells = {"gap": _signed(None if None in (ours, paper) else ours - paper, 2)}
        if row["sys"] == reference:
            cells["direction"] = "reference"
        else:
            cells |= {
                "relative": _signed(ours_change, 1),
                "published_relative": _signed(paper_change, 1),
                "relative_gap": _signed(ours_change - paper_change if both else None, 1),
                "direction": _direction(ours_change, paper_change) if both else None,
            }
        end = f"_{name}" if name else ""
        rows.append(
            {
                ours_key: row.get(ours_key),
                paper_key: row.get(paper_key),
                **{column.key: row.get(column.key) for column in _over_seeds(table, end)},
                **{f"{key}{end}": value for key, value in cells.items()},
            }
        )
    return rows


def _over_seeds(table: Table, end: str) -> list[Column]:
    """Where WERs are means over seeds: a pair's star, which has a column of its own there, and a set's interval."""
    shown = {column.key: column for column in table.columns if column.heading}
    wanted = [f"wer_interval{end}", f"star{end}"] if f"star{end}" in shown else []
    return [shown[key] for key in wanted if key in shown]


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
