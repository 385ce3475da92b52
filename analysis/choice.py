"""Which path stands for a depth that has several.

Middle depths are never trained, and the paper reports the path with the median WER. It is chosen on the test sets, as
in the paper; the path that the same rule picks on the development set stands beside it, because a choice made on the
test data flatters nobody here (it is the median, not the best) but could not be made in use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.counts import Counts
from analysis.results import Results
from analysis.schemas import Point, Row
from common.errors import UserError


@dataclass(frozen=True)
class Choice:
    """The point that stands for a row, for one seed."""

    point: Point
    candidates: tuple[Point, ...]
    """All the points it was chosen from, in path order."""
    on_dev: Point | None
    """What the development set would have chosen; None where not all candidates were decoded on it."""


def median_point(counted: Sequence[tuple[Point, Counts]]) -> Point:
    """The point with the median errors: the lower one of an even number, ties in path order."""
    ordered = sorted(counted, key=lambda pair: (pair[1].errors, pair[0].path or ()))
    return ordered[(len(ordered) - 1) // 2][0]


def choose(results: Results, row: Row, seed: int, decode: str, where: str) -> Choice:
    """The point of `row` for one seed. `where` names the row in error messages.

    Raises `UserError` when the system has no such point, or one of the candidates was not decoded on a test set.
    """
    candidates = _candidates(results, row, seed, where)
    if len(candidates) == 1:
        return Choice(candidates[0], tuple(candidates), candidates[0])
    experiment = results.experiment
    counted = [(point, results.counts(point, decode, experiment.test_sets)) for point in candidates]
    on_dev = None
    if all(results.decoded(point, decode, experiment.dev_set) for point in candidates):
        on_dev = median_point([(p, results.counts(p, decode, [experiment.dev_set])) for p in candidates])
    return Choice(median_point(counted), tuple(candidates), on_dev)


def offered_at(results: Results, system: str, seed: int, depth: int) -> list[Point]:
    """The points a system itself offers at a depth, in path order."""
    points = [point for point in results.points(system, seed).points if point.offered and point.depth == depth]
    return sorted(points, key=lambda point: point.path or ())


def _candidates(results: Results, row: Row, seed: int, where: str) -> list[Point]:
    points = results.points(row.system, seed).points
    if row.path is not None:
        found, wanted = [point for point in points if point.path == row.path], f"path {list(row.path)}"
    elif row.point is not None:
        found, wanted = [point for point in points if point.id == row.point], f"point '{row.point}'"
    elif row.depth is not None:
        found, wanted = offered_at(results, row.system, seed, row.depth), f"point of depth {row.depth}"
    else:
        raise UserError(f"{where}: names neither 'depth' nor 'path' nor 'point'")
    if not found:
        depths = results.points(row.system, seed).depths
        raise UserError(
            f"{where}: system '{row.system}' (seed {seed}) has no {wanted} (offered depths: "
            f"{', '.join(map(str, depths)) or 'none'})"
        )
    return found if row.depth is not None else found[:1]
