"""Keeping results although something that decides them has changed: the difference is written down beside them."""

import contextlib
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from common.errors import UserError
from common.files import read_json, write_json
from workflows.accepted import is_brought, write_accepted
from workflows.identity import changes, recipe_hash
from workflows.products import Product
from workflows.provenance import commit

EVERY = "all"
"""What accepts every system of which something has changed."""
OUTPUTS = ("model.safetensors", "system.json", "provenance.json", "log.jsonl")


def accept(products: Iterable[Product], system: str, everything: bool = False) -> list[str]:
    """Keep what was trained of `system`, all seeds that are finished; and what was decoded and measured of it too, with
    `everything` or where it was taken from committed results; return the differences. `products` are those of the
    experiment. Raises `UserError` where there is nothing to keep, or nothing that changed."""
    finished = [product for product in products if product.system == system and _may_be_kept(product, everything)]
    if not finished:
        raise UserError(f"{system}: there is no finished result to keep")
    for product in finished:
        if product.written is None:
            raise UserError(f"{product.name}: no identity was written down when it was made; it cannot be compared")
    accepted = accept_changes(finished)
    if not accepted:
        raise UserError(f"{system}: nothing of it has changed; there is nothing to accept")
    return accepted


def changed_systems(products: Iterable[Product], everything: bool = False) -> list[str]:
    """The systems of which something could be accepted."""
    finished = [each for each in products if each.system and _may_be_kept(each, everything) and each.written]
    return list(dict.fromkeys(each.system for each in finished if changes(each.written, each.today)))


def _may_be_kept(product: Product, everything: bool) -> bool:
    return product.made.is_file() and (everything or product.is_training or is_brought(product.folder))


def accept_changes(products: Iterable[Product]) -> list[str]:
    """Let what changed of some finished products count as what they were made by; return it."""
    accepted: list[str] = []
    for product in products:
        if found := changes(product.written, product.today):
            accept_today(product, product.folder)
            note_difference(product.folder, product.kind, found)
            _touch(product)
            accepted += found
    return list(dict.fromkeys(accepted))


def accept_today(product: Product, folder: Path) -> None:
    """Let today's identity count as that of a product; `folder` is where `accepted.json` stands."""
    made, today = recipe_hash(product.recorded["recipe"]), product.today
    write_accepted(folder, product.kind, made, recipe_hash(today["recipe"]), today["contents"])


def note_difference(folder: Path, kind: str, found: list[str]) -> None:
    """Write what was accepted for a product of a system into its provenance, which tables show."""
    provenance, when = read_json(folder / "provenance.json"), datetime.now(UTC).isoformat(timespec="seconds")
    note = {"when": when, "of": kind, "difference": found, **commit()}
    write_json(folder / "provenance.json", {**provenance, "accepted": [*provenance.get("accepted", []), note]})


def _touch(product: Product) -> None:
    """Make a product newer than what it was made from: Snakemake compares times where contents differ."""
    now, names = time.time_ns(), OUTPUTS if product.is_training else ()
    for path in (product.made, *(product.folder / name for name in names)):
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, ns=(now, now))
