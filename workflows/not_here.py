"""What a run needs that is not here: committed results are taken as done without weights and without recordings.

A system whose weights are not here is done, until another is to be made from it or something of it is to be decoded or
measured again. Then it has to be trained again, and everything that is derived from it too: other weights come out on
another machine, and a source and all that is derived from it are one piece, made in one go. Recordings are prepared
again once something is to hear them.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from common.errors import UserError
from workflows.products import Product, Reason

FRESH, SOURCES = "1", "sources"
"""What `make reproduce FRESH=…` says: train anew what is asked for, or what lacks weights and all derived from it."""
WEIGHTS = "model.safetensors"
NO_RECORDINGS = "its recordings are not here"


def checked_fresh(fresh: str) -> str:
    """What `FRESH=` was given. Raises `UserError` for anything else."""
    if (given := str(fresh)) not in ("", FRESH, SOURCES):
        raise UserError(f"FRESH={given}: give {FRESH} (what is asked for) or {SOURCES} (what lacks weights)")
    return given


def lacks_weights(product: Product) -> bool:
    """Whether this is a trained system that is here without its weights."""
    folder = product.folder
    return product.is_training and product.made.is_file() and not (folder / WEIGHTS).is_file()


def completed(
    products: Mapping[str, Product], found: Mapping[str, Reason], needed: Collection[str], recordings: bool
) -> dict[str, Reason]:
    """`found` says what of `needed` is to be made; the same with the trainings whose weights that needs, all that then
    follows from anything (also of what nobody asked for), and the data where something is to be heard and there are no
    `recordings`. `products` are in the order in which they are made."""
    found = dict(found)
    while True:
        for name, product in products.items():
            if name not in found and (follows := tuple(each for each in product.needs if each in found)):
                found[name] = Reason(follows=follows)
        users = _users(products, [name for name in found if name in needed])
        lacking = {name: by for name, by in users.items() if name not in found and lacks_weights(products[name])}
        if not lacking:
            break
        found |= {name: Reason(needed_by=tuple(by)) for name, by in lacking.items()}
    if not recordings and any(products[name].system for name in found if name in needed):
        data = {name: Reason((NO_RECORDINGS,)) for name in products if name == "data" or name.startswith("inputs")}
        found = {**data, **found}
    return {name: found[name] for name in products if name in found}


def _users(products: Mapping[str, Product], names: Collection[str]) -> dict[str, list[str]]:
    """What each product is needed for, among `names`."""
    found: dict[str, list[str]] = {}
    for name in names:
        for needed in products[name].needs:
            found.setdefault(needed, []).append(name)
    return found


def recordings_are_here(data: Path, sets: Collection[str]) -> bool:
    """Whether the manifests of all sets are there, which are written with the recordings."""
    return all((data / f"{name}.jsonl.gz").is_file() for name in ("train", *sets))


def refusal(products: Mapping[str, Product], again: Mapping[str, Reason], asked: Collection[str]) -> list[str]:
    """Lines that say why a run must not begin which makes `asked` of `again`: it would train again what lacks its
    weights here. Empty where it may."""
    lacking = {name: reason for name, reason in again.items() if reason.needed_by}
    if not lacking:
        return []
    beside = [products[name] for name in again if name not in asked and products[name].is_training]
    stale = dict.fromkeys(product.system for product in beside if product.made.is_file())
    return [
        f"{len(lacking)} training{'s' * (len(lacking) > 1)} would have to be done again:",
        *(f"  {name.removeprefix('train ')}: {reason}" for name, reason in lacking.items()),
        "  A source and all that is derived from it are one piece, made in one go. The same call with FRESH=sources",
        "  (snakemake: --config fresh=sources) trains these again, and what is derived from them.",
        *([f"  Not asked for, and out of date afterwards: {', '.join(stale)}."] if stale else []),
    ]


def weights_file(folder: Path, brought: bool) -> Path:
    """The file without which a system is not trained: its weights, or where it was taken from committed results, what
    describes them."""
    return folder / ("system.json" if brought else WEIGHTS)
