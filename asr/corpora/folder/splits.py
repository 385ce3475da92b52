"""Splits: made so that nobody is in two of them, and a recording that is in two of them refused."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from asr.corpora.folder.items import Item
from asr.corpora.folder.settings import Splits
from common.errors import UserError
from common.files import sha256
from common.wording import counted

Sets = dict[str, list[Item]]


def make_splits(items: list[Item], splits: Splits) -> tuple[Sets, str]:
    """Train, dev and test set of utterances, and in words how they were made: by speaker, or by recording where nobody
    says who speaks."""
    known = bool(items) and bool(items[0].speaker)
    what = "speakers" if known else "recordings"
    # By the names that the source gives: where the recordings lie is to change nothing.
    first: dict[Path, str] = {}
    units = [item.speaker if known else first.setdefault(item.audio, item.name) for item in items]
    chosen = share_out(units, splits, what)
    sets: Sets = {"train": [], "dev": [], "test": []}
    for unit, item in zip(units, items, strict=True):
        sets[chosen[unit]].append(item)
    count = {name: sum(found == name for found in chosen.values()) for name in sets}
    counted = ", ".join(f"{name} {number}" for name, number in count.items())
    return sets, f"splits made by {what[:-1]} (seed {splits.seed}): {counted} of {len(chosen)} {what}"


def share_out(units: Iterable[str], splits: Splits, what: str) -> dict[str, str]:
    """Unit -> its set. A function of the units' names and the settings: in the order of a hash of each name, the first
    ones are for testing, the next ones for development."""
    ranked = sorted(set(units), key=lambda unit: hashlib.sha256(f"{splits.seed} {unit}".encode()).digest())
    if len(ranked) < 3:
        raise UserError(
            f"corpus.settings.source: {len(ranked)} {what}, and three splits without a common one need at least 3; "
            "give the splits yourself (train, dev, test)"
        )
    test = max(1, round(splits.test * len(ranked)))
    dev = max(1, round(splits.dev * len(ranked)))
    if test + dev >= len(ranked):
        raise UserError(f"corpus.settings.splits: nothing is left to train on: dev {dev}, test {test} of {len(ranked)}")
    return {
        unit: "test" if place < test else "dev" if place < test + dev else "train" for place, unit in enumerate(ranked)
    }


def refuse_common_recordings(sets: Sets) -> None:
    """Raise `UserError` for a recording that is in two sets: the same file, or another one of the same bytes."""
    places: dict[Path, tuple[str, Item]] = {}
    sizes: dict[int, dict[Path, tuple[str, Item]]] = defaultdict(dict)
    for name, items in sets.items():
        for item in items:
            path = item.audio.resolve()
            if path not in places:
                places[path] = (name, item)
                sizes[path.stat().st_size][path] = (name, item)
            elif places[path][0] != name:
                _refuse(places[path], (name, item), "the same file")
    for alike in sizes.values():  # only files of one size can have the same bytes
        if len({name for name, _ in alike.values()}) > 1:
            contents: dict[str, tuple[str, Item]] = {}
            for path, (name, item) in alike.items():
                other = contents.setdefault(sha256(path), (name, item))
                if other[0] != name:
                    _refuse(other, (name, item), "the same bytes")


def _refuse(one: tuple[str, Item], other: tuple[str, Item], how: str) -> None:
    raise UserError(
        f"the same recording is in set '{one[0]}' and in set '{other[0]}' ({how}): {one[1].audio} ({one[1].where}) and "
        f"{other[1].audio} ({other[1].where}); leave it in one of them"
    )


def say_common_speakers(sets: Sets) -> None:
    """Say which speakers are in two given splits: results then tell nothing about unknown voices."""
    speakers = {name: {item.speaker for item in items if item.speaker} for name, items in sets.items()}
    for name in sets:
        common = sorted(speakers["train"] & speakers[name]) if name != "train" else []
        if common:
            shown = ", ".join(common[:3]) + (", ..." if len(common) > 3 else "")
            who = f"{counted(len(common), 'speaker')} of '{name}' {'is' if len(common) == 1 else 'are'}"
            print(f"note: {who} in the training set too ({shown})", file=sys.stderr)
