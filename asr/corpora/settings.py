"""The pieces that the settings of several corpora share: ranges, sizes of sets, names of sets."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from common.settings import Settings


def _ordered(pair: tuple) -> tuple:
    if not pair[0] <= pair[1]:
        raise ValueError(f"the lower end {pair[0]} is not below the upper end {pair[1]}")
    return pair


Finite = Annotated[float, Field(allow_inf_nan=False)]
Range = Annotated[tuple[Finite, Finite], AfterValidator(_ordered)]
IntRange = Annotated[tuple[int, int], AfterValidator(_ordered)]


class Size(Settings):
    """How large a set is: `utterances` of it, or as many as fill `hours`. Exactly one of them."""

    utterances: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_of_both(self):
        if (self.utterances is None) == (self.hours is None):
            raise ValueError("give either utterances or hours")
        return self

    def share(self, speakers: int) -> list[tuple[int | None, float | None]]:
        """The size split evenly among speakers: for each (utterances, None) or (None, seconds)."""
        if self.hours is not None:
            return [(None, self.hours * 3600 / speakers)] * speakers
        each, more = divmod(self.utterances, speakers)
        return [(each + (number < more), None) for number in range(speakers)]


def _plain(names: dict) -> dict:
    for name in names:
        if name in ("train", "dev") or not name.isascii() or not name.replace("_", "").isalnum():
            raise ValueError(f"'{name}' cannot name a test set: use letters, digits and _, and not train or dev")
    return names


def _at_least_one(names: dict) -> dict:
    if not names:
        raise ValueError("name at least one test set")
    return names


FurtherSetNames = AfterValidator(_plain)
TestSetNames = AfterValidator(lambda names: _at_least_one(_plain(names)))


def set_sizes(settings) -> Iterable[tuple[str, Size]]:
    """(set name, its settings) of all sets: train, dev, then the test sets in their order."""
    yield "train", settings.train
    yield "dev", settings.dev
    yield from settings.test_sets.items()
