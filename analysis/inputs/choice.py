"""Which path stands for a depth that has several: the one that the evaluation chose and wrote into `points.json`.

Nothing is chosen here, so that tables and figures show what was decoded for them. How it is chosen says
`workflows.steps.choice`.
"""

from dataclasses import dataclass

from analysis.inputs.results import Results
from analysis.inputs.schemas import ChosenPoint, Decode, Point, Row
from common.errors import UserError


@dataclass(frozen=True)
class Choice:
    """The point that stands for a row, for one seed."""

    point: Point
    candidates: tuple[Point, ...]
    """All the points it was chosen from, in path order."""
    on_dev: Point | None
    """What the same rule would have chosen on the development set; None where that was not decoded."""
    how: ChosenPoint | None = None
    """How it was chosen; None where there was nothing to choose."""
    best: bool = False
    """Whether it is the best one on the development set, not the median one."""


def choose(results: Results, row: Row, seed: int, decode: str, where: str) -> Choice:
    """The point of `row` for one seed. `where` names the row in error messages.

    Raises `UserError` when the system has no such point, or when it has several and the evaluation chose none of them.
    """
    candidates = _candidates(results, row, seed, where)
    if len(candidates) == 1:
        return Choice(candidates[0], tuple(candidates), candidates[0])
    by_id, best = {point.id: point for point in candidates}, row.choose == "best"
    found = _chosen(results, row, seed, decode)
    chosen = None if found is None else by_id.get(found.best_on_dev if best else found.point)
    if found is None or chosen is None:
        file = results.system_folder(row.system, seed) / "eval" / "points.json"
        raise UserError(
            f"{where}: {file} says of none of the {len(candidates)} points of depth {row.depth} that it stands for "
            f"them when decoded by '{decode}'; name a decode that holds them, or evaluate the system again"
        )
    on_dev = by_id.get(found.on_dev)
    test_sets = results.experiment.test_sets
    if on_dev is not None and not all(results.decoded(on_dev, decode, name) for name in test_sets):
        on_dev = None
    return Choice(chosen, tuple(candidates), on_dev, found, best)


def _chosen(results: Results, row: Row, seed: int, decode: str) -> ChosenPoint | None:
    choices = results.points(row.system, seed).decodes.get(decode, Decode(sets={})).choices
    return next((choice for choice in choices if choice.depth == row.depth), None)


def offered_at(results: Results, system: str, seed: int, depth: int) -> list[Point]:
    """The points a system itself offers at a depth, in path order."""
    points = [point for point in results.points(system, seed).points if point.stands_for_depth and point.depth == depth]
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
