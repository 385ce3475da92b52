"""What all claims of a file have in common: margin, tables, where the papers print their WERs."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from common.settings import Settings


class Margin(Settings):
    """A difference of WER that does not matter: the larger of points and of a share of another row's WER."""

    absolute: float = Field(0.0, ge=0)
    relative: float = Field(0.0, ge=0)

    def points(self, wer: float) -> float:
        """The margin in points beside a WER in percent."""
        return max(self.absolute, self.relative * wer)

    @property
    def is_share(self) -> bool:
        """Whether it is a share of a WER alone."""
        return self.absolute == 0 < self.relative


class PublishedWers(Settings):
    """Where a published table prints its WERs, which the published effects are computed from."""

    pooled: str | dict[str, int] = {}
    """The column of the WER over all test sets; or those of the test sets, each with its reference words."""
    by_set: dict[str, str] = {}
    """The columns of single sets, by the names that claims use."""

    def columns(self, sets: Sequence[str] | None) -> Mapping[str, float] | None:
        """The columns to average and their weights, for some sets or all test sets; None where none are printed."""
        if sets is None:
            return {self.pooled: 1} if isinstance(self.pooled, str) else self.pooled or None
        columns = [self.by_set.get(one) for one in sets]
        if None in columns:
            return None
        words = {} if isinstance(self.pooled, str) else self.pooled
        if len(columns) > 1 and not all(column in words for column in columns):
            return None
        return {column: words.get(column, 1) for column in columns}

    @property
    def named(self) -> list[str]:
        """All columns that are named."""
        return [*([self.pooled] if isinstance(self.pooled, str) else self.pooled), *self.by_set.values()]


class Frame(Settings):
    """What claims are judged by. `tables` maps the names that claims use to published tables, None for a table of one's
    own, which is found by that name; `margin` is the default one; `rows` are the rows of ours that claims name beside
    the published ones, by table."""

    margin: Margin
    seed_variance: Literal["own", "pooled"] = "own"
    """Whether an interval over seeds has the figure's own variance or one of all systems of its table."""
    tables: dict[str, str | None]
    rows: dict[str, list[str]] = {}
    published_wers: dict[str, PublishedWers] = {}
    """By table. Without them nothing counts as published, and only the statement itself can be contradicted."""
