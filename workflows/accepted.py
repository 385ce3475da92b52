"""Results that were accepted although something that decides them has changed.

Hours of training should outlive an edit that does not matter. `python -m workflows.why --accept SYSTEM` notes beside a
system which recipe counts as the one that it was trained under; the difference stays in its provenance and under its
tables. Another change later is another difference, and is not accepted by itself.
"""

from pathlib import Path
from typing import Any

from common.files import read_json, write_json

SCHEMA = 1
FILE = "accepted.json"


def counted_as(folder: Path | str, recipe: str) -> str:
    """The hash of the recipe that a system was trained under, where `recipe` was accepted in its place; else
    `recipe` itself."""
    path = Path(folder) / FILE
    if not path.is_file():
        return recipe
    found = read_json(path)
    return found["trained"] if found.get("accepted") == recipe else recipe


def write_accepted(folder: Path, trained: str, accepted: str, contents: dict[str, Any]) -> None:
    """Let the recipe of hash `accepted` count as that of hash `trained`, and today's `contents` as those it read."""
    write_json(folder / FILE, {"schema": SCHEMA, "trained": trained, "accepted": accepted, "contents": contents})
