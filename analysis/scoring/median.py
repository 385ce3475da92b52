"""Which of several points stands for all: the one with the median errors."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from analysis.scoring.counts import Counts


class HasPath(Protocol):
    """A point as far as it matters here: repeat counts, or None where points are not paths."""

    @property
    def path(self) -> tuple[int, ...] | None: ...


AnyPoint = TypeVar("AnyPoint", bound=HasPath)


def median_point(counted: Sequence[tuple[AnyPoint, Counts]]) -> AnyPoint:
    """The point with the median errors: the lower one of an even number, ties in path order."""
    ordered = sorted(counted, key=lambda pair: (pair[1].errors, pair[0].path or ()))
    return ordered[(len(ordered) - 1) // 2][0]
