"""The papers' tables as they were printed, from `analysis/published/*.csv`, with what was found when checking them.

`slips.csv` holds the contradictions in the papers; they are shown as notes under a table, never mended in silence.
"""

import csv
from functools import cache
from pathlib import Path

from common.errors import UserError, unknown

FOLDER = Path(__file__).parent / "published"


@cache
def published_table(name: str) -> dict[str, dict[str, str]]:
    """The rows of one published table by their first column, in the paper's order; cells as printed.

    Raises `UserError` for a table that is not there, with the closest name that is.
    """
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        raise unknown("published table", name, [file.stem for file in FOLDER.glob("*.csv") if file.stem != "slips"])
    rows = _read(path)
    key = next(iter(rows[0]))
    table = {row[key]: row for row in rows}
    if len(table) != len(rows):
        raise UserError(f"{path}: two rows have the same '{key}'")
    return table


@cache
def slips(name: str) -> list[tuple[str, str]]:
    """What is wrong or surprising in one published table: `(row, or "" for all rows; the note)`."""
    return [(row["sys"], row["note"]) for row in _read(FOLDER / "slips.csv") if row["table"] == name]


def _read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
