"""Which points the tables of an experiment ask for, whichever path then stands for a depth."""

from collections.abc import Hashable, Sequence

from asr.paths import parse_path
from methods.contract import Method, Point
from workflows.experiment import Experiment
from workflows.experiment.entries import Row


def wanted_points(
    experiment: Experiment, system: str, points: list[Point], rows: Sequence[Row] | None = None
) -> list[Point]:
    """Points that may stand in a table: the row's path or point, or every offered point of the row's depth. `rows` are
    those that are asked about; None: all that show the system, and the further paths that it is evaluated at.

    A system without rows gives all its points, so that it has costs.
    """
    further = {parse_path(row.path) for row in rows or () if row.path is not None}
    if rows is None:
        rows, further = experiment.rows_of(system), set(experiment.further_paths(system))
    if not rows:
        return points
    depths = {row.depth for row in rows if row.depth is not None}
    named = {row.point for row in rows}
    return [
        point
        for point in points
        if point.id in named or point.path in further or (point.offered and point.depth in depths)
    ]


def points_by_cost(experiment: Experiment, system: str, method: Method, points: list[Point]) -> list[list[Point]]:
    """The points that may stand in a table, together those that cost the same: the first of them is measured."""
    alike: dict[Hashable, list[Point]] = {}
    for point in wanted_points(experiment, system, points):
        alike.setdefault(method.cost_key(point), []).append(point)
    return list(alike.values())
