"""Results that were accepted although something that decides them has changed, or that come from another folder.

Hours of training should outlive an edit that does not matter. `accepted.json` beside a system notes for each product of
it (its training, its transcripts, its costs) which recipe counts as the one that it was made under; the difference
stays in the system's provenance and under its tables. Another change later is another difference, and is not accepted
by itself. A system that is trained again loses the file.

`brought`: the system was not made here but taken from the committed results (`workflows.bring`). Its weights may be
missing. `of`: what was committed when it was taken, see `workflows.kept.digest`.
"""

from pathlib import Path
from typing import Any

from common.files import read_json, write_json

SCHEMA = 2
FILE = "accepted.json"
TRAINED = "train"
"""The product that is the trained system itself, as `workflows.why` calls it."""


def is_brought(folder: Path | str) -> bool:
    """Whether a system was taken from the committed results."""
    return bool(_read(folder).get("brought"))


def counted_as(folder: Path | str, recipe: str, kind: str = TRAINED) -> str:
    """The hash of the recipe that a product of a system was made under, where `recipe` was accepted in its place; else
    `recipe` itself."""
    found = accepted_for(folder, kind)
    return found["made"] if found is not None and found["accepted"] == recipe else recipe


def accepted_for(folder: Path | str, kind: str) -> dict[str, Any] | None:
    """What was accepted for a product: hashes of the recipe that `made` it and of the `accepted` one, and the
    `contents` that count as those it read."""
    return _read(folder).get("products", {}).get(kind)


def write_accepted(folder: Path, kind: str, made: str, accepted: str, contents: dict[str, Any]) -> None:
    """Let the recipe of hash `accepted` count as that of hash `made`, and today's `contents` as those it read."""
    found = _read(folder)
    products = {**found.get("products", {}), kind: {"made": made, "accepted": accepted, "contents": contents}}
    write_json(folder / FILE, {"brought": False, **found, "schema": SCHEMA, "products": products})


def write_brought(folder: Path, settled: bool, of: str | None = None) -> None:
    """Note that a system comes from the committed results, and, with `of`, from which; until it is `settled`, what
    differs between them and the checkout has still to be looked at."""
    found = {**_read(folder), **({"of": of} if of else {})}
    write_json(folder / FILE, {**found, "schema": SCHEMA, "brought": True, "settled": settled})


def brought_of(folder: Path) -> str | None:
    """The digest of what a system was taken from; None where that was not noted."""
    return _read(folder).get("of")


def is_unsettled(folder: Path) -> bool:
    """Whether a system was taken from the committed results by a command that did not end."""
    return is_brought(folder) and not _read(folder).get("settled")


def _read(folder: Path | str) -> dict[str, Any]:
    path = Path(folder) / FILE
    found = read_json(path) if path.is_file() else {}
    if found.get("schema") != 1:
        return found
    products = {TRAINED: {"made": found["trained"], "accepted": found["accepted"], "contents": found["contents"]}}
    return {"products": products}
