"""The papers' tables as they were printed, from `analysis/published/*.csv`, with what was found when checking them.

`slips.csv` holds the contradictions in the papers; they are shown as notes under a table, never mended in silence.
"""

import csv
from functools import cache
from pathlib import Path

from common.errors import UserError, unknown

FOLDER = Path(__file__).parents[1] / "published"
CELLS = {
    "paper_table1": {
        "hub5_00_swbd": "Hub5'00 SWBD",
        "hub5_00_callhm": "Hub5'00 CallHome",
        "rt02_swbd1": "RT02 SWBD1",
        "rt02_swbd2": "RT02 SWBD2",
        "rt02_swbd3_cellular": "RT02 SWBD3",
        "rt03_fsh": "RT03 FSH",
        "rt03_swbd": "RT03 SWBD",
    },
    "paper_table2": {
        "test_clean": "test-clean",
        "test_other": "test-other",
        "dev_clean": "dev-clean",
        "dev_other": "dev-other",
    },
}
"""The sets that have a WER each in a published table: column to heading."""


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
