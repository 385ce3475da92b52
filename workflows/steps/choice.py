"""Which points the tables of an experiment show."""

from pathlib import Path

from methods.contract import Point
from workflows.experiment import Experiment, Row


def rows_of(experiment: Experiment, system: str) -> list[Row]:
    """The table rows that show a system."""
    return [row for table in experiment.tables.values() for row in table.rows.values() if row.system == system]


def wanted_points(experiment: Experiment, system: str, points: list[Point]) -> list[Point]:
    """Points that may stand in a table: the row's path, or every offered point of the row's depth.

    A system without rows gives all its points: methods whose points are not paths have no depth to ask for.
    """
    rows = rows_of(experiment, system)
    if not rows:
        return points
    depths = {row.depth for row in rows if row.path is None}
    paths = set(experiment.further_paths(system))
    return [
        point
        for point in points
        if (point.offered and point.depth in depths) or (point.path in paths) or point.path is None
    ]


def table_points(
    experiment: Experiment, system: str, points: list[Point], decoded: dict, data_folder: Path
) -> list[Point]:
    """The points that table rows show: one a depth, chosen by the first decode's errors."""
    return wanted_points(experiment, system, points)
