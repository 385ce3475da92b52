"""Cost against WER: every way to run a system that was measured, with what it costs and the errors it makes."""

import statistics
from dataclasses import dataclass

from analysis.inputs.results import Results
from analysis.inputs.schemas import Point, PointCosts
from analysis.tables.rows import measure, systems_in_order, table_decode


@dataclass(frozen=True)
class CostPoint:
    """An operating point of the first seed with its costs."""

    point: Point
    family: str | None
    """None for the experiment's own backbone: models of two families are not on one scale."""
    wer: float
    """Percent, the mean over seeds."""
    costs: PointCosts
    audio_seconds: float
    """What MACs and memory are for."""
    in_table: bool
    """Whether a table reports it, or no table names its system."""

    @property
    def system(self) -> str:
        return self.point.system


def cost_points(results: Results) -> list[CostPoint]:
    """Every offered point with its costs and, offered or not, every one that a table reports."""
    experiment = results.experiment
    rows = [row for name, spec in experiment.tables.items() for row in measure(results, name, spec).values()]
    shown = {(row.row.system, row.first.point.id) for row in rows}
    named = {system for system, _ in shown}
    # A table by another decode, beam search say, shows another WER of the same point: one decode a system, or none of
    # its points can be held against another.
    reported = {
        (row.row.system, row.first.point.id): row.wer()
        for row in rows
        if row.decode == _decode(results, row.row.system)
    }
    found = []
    for system in systems_in_order(results):
        costs, decode = results.costs(system, results.seeds_of(system)[0]), _decode(results, system)
        for point in results.first_points(system).points if costs else []:
            key = (system, point.id)
            decoded = all(results.decoded(point, decode, name) for name in experiment.test_sets)
            if (point.offered or key in shown) and decoded and point.id in costs.points:
                found.append(
                    CostPoint(
                        point=point,
                        family=experiment.systems[system].family,
                        wer=reported[key] if key in reported else _mean_wer(results, point, decode),
                        costs=costs.points[point.id],
                        audio_seconds=costs.audio_seconds,
                        in_table=system not in named or key in shown,
                    )
                )
    return found


def _mean_wer(results: Results, point: Point, decode: str) -> float:
    """The WER of a point, averaged over the seeds that decoded it."""
    test_sets, found = results.experiment.test_sets, []
    for seed in results.seeds_of(point.system):
        own = next((each for each in results.points(point.system, seed).points if each.id == point.id), None)
        if own and own.path == point.path and all(results.decoded(own, decode, name) for name in test_sets):
            found.append(results.counts(own, decode, test_sets).wer)
    return statistics.fmean(found)


def _decode(results: Results, system: str) -> str:
    """The decode whose WER stands for a system: that of its table; without tables the first that it has."""
    decodes = results.first_points(system).decodes
    return table_decode(results, system) or next(iter(decodes), next(iter(results.experiment.decodes)))
