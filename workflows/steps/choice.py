"""Which points the tables of an experiment show."""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from analysis.alignment import align
from analysis.choice import median_point
from analysis.counts import Counts
from analysis.trn import Transcript
from methods.contract import Point
from workflows.experiment import Experiment, Row

Decoded = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Set -> point id -> utterance id -> words."""


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


def table_points(
    experiment: Experiment,
    system: str,
    points: list[Point],
    decoded: Decoded,
    references: Mapping[str, Mapping[str, str]],
) -> list[Point]:
    """The points that table rows show: of several at one depth, the one with the median errors over the test sets."""
    wanted = wanted_points(experiment, system, points)
    named = {row.point for row in table_rows(experiment, system)}
    alone = [point for point in wanted if point.path is None or not point.offered or point.id in named]
    ordered = sorted((point for point in wanted if point not in alone), key=lambda point: (point.depth, point.path))
    chosen = []
    for _, group in groupby(ordered, key=lambda point: point.depth):
        candidates = list(group)
        if len(candidates) > 1:
            counted = [(p, _counts(p, experiment.test_sets, decoded, references)) for p in candidates]
            candidates = [median_point(counted)]
        chosen += candidates
    return alone + chosen


def _counts(point: Point, sets: list[str], decoded: Decoded, references: Mapping[str, Mapping[str, str]]) -> Counts:
    """The counts of a point, pooled over sets."""
    return sum((counts_of(references[name], decoded[name][point.id]) for name in sets), Counts.zero())


def counts_of(reference: Mapping[str, str], hypothesis: Mapping[str, str]) -> Counts:
    """The counts of one set, both given as utterance id -> words."""
    return align(_transcript(reference), _transcript(hypothesis)).counts


def _transcript(texts: Mapping[str, str]) -> Transcript:
    return Transcript(Path("in memory"), {utterance: text.encode() for utterance, text in texts.items()})
