"""Which points the tables of an experiment ask for, whichever path then stands for a depth."""

from collections.abc import Hashable

from methods.contract import Method, Point
from workflows.experiment import Experiment
from workflows.experiment.entries import Row


def table_rows(experiment: Experiment, system: str) -> list[Row]:
    """The rows of all tables that show a system."""
    return [row for table in experiment.tables.values() for row in table.rows.values() if row.system == system]


def wanted_points(experiment: Experiment, system: str, points: list[Point]) -> list[Point]:
    """Points that may stand in a table: the row's path or point, or every offered point of the row's depth.

    A system without rows gives all its points, so that it has costs.
    """
    rows = table_rows(experiment, system)
    if not rows:
        return points
    depths = {row.depth for row in rows if row.depth is not None}
    named = {row.point for row in rows}
    further = set(experiment.further_paths(system))
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
