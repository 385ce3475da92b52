"""The measured side of a table: for every row its counts, its significance against the reference row, its intervals.

Where an experiment has several seeds, WERs are pooled over all of them and the spread between them is shown, with a
hierarchical interval of the difference over seeds and speakers. The tests and the other intervals that compare two
systems, and the path that is named, are those of the first seed: the same test sentences recognised again by another
seed are not new evidence, so their segments must not be put together.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.alignment import Alignment
from analysis.choice import Choice, choose
from analysis.contrasts import Estimate, contrast, system_errors
from analysis.counts import Counts
from analysis.intervals import Interval, difference_interval, wer_interval
from analysis.mapsswe import Mapsswe
from analysis.published import published_table
from analysis.results import Results
from analysis.schemas import PointCosts, Row, TableSpec
from analysis.significance import significance


@dataclass(frozen=True)
class Comparison:
    """A system against the reference row, on the first seed, over one or more sets pooled."""

    test: Mapsswe
    difference: float
    """WER minus the reference row's, in points."""
    interval: Interval
    more_errors: bool
    exact_p: float | None = None
    """The sign-flip test's p, where MAPSSWE's is weak."""
    over_seeds: Estimate | None = None
    """The mean difference over all seeds, with its hierarchical interval; None for a single seed."""

    @property
    def p(self) -> float:
        """The p to rely on: the exact one where there is one."""
        return self.test.p if self.exact_p is None else self.exact_p

    @property
    def star(self) -> bool:
        """The paper's `*`: no significant increase. A system that is significantly better keeps it."""
        return not (self.test.significant and self.more_errors)


@dataclass(frozen=True, eq=False)
class MeasuredRow:
    """One row of a table as it was measured. All counts are of the table's decode."""

    results: Results
    name: str
    row: Row
    decode: str
    choices: tuple[Choice, ...]
    """What stands for the row, one for each seed of the experiment."""

    @property
    def first(self) -> Choice:
        """The first seed's choice."""
        return self.choices[0]

    @property
    def physical_layers(self) -> int | None:
        """How many layers have weights of their own."""
        point = self.first.point
        return self.results.points(point.system, point.seed).physical_layers

    @property
    def depths(self) -> list[int]:
        """The depths that the row's system offers, in order."""
        point = self.first.point
        return self.results.points(point.system, point.seed).depths

    @property
    def parameters(self) -> int | None:
        """Stored parameters of the point, from `costs.json`; None where costs were not measured."""
        costs = point_costs(self.results, self.first)
        return costs.parameters_stored if costs else None

    def counts(self, sets: Sequence[str]) -> Counts:
        """The counts of the row, pooled over sets and seeds."""
        return sum(self.counts_by_seed(sets), Counts.zero())

    def counts_by_seed(self, sets: Sequence[str]) -> list[Counts]:
        """The counts of the row for each seed, pooled over sets."""
        return [self.results.counts(choice.point, self.decode, sets) for choice in self.choices]

    @cached_property
    def pooled(self) -> Counts:
        """The counts over all test sets and seeds."""
        return self.counts(self.results.experiment.test_sets)

    def seed_spread(self, sets: Sequence[str]) -> float | None:
        """Standard deviation over seeds of the WER pooled over sets, in points; None for a single seed."""
        rates = [counts.wer for counts in self.counts_by_seed(sets)]
        return statistics.stdev(rates) if len(rates) > 1 else None

    def interval(self, sets: Sequence[str]) -> Interval:
        """The bootstrap interval of the first seed's WER, pooled over sets."""
        return wer_interval(self.alignments_by_seed(sets)[0])

    def on_dev(self, sets: Sequence[str]) -> Counts | None:
        """The counts on some sets of the path that the development set would have chosen, pooled over seeds."""
        points = [choice.on_dev for choice in self.choices]
        if any(point is None for point in points):
            return None
        return sum((self.results.counts(point, self.decode, sets) for point in points), Counts.zero())

    def against(self, reference: "MeasuredRow", sets: Sequence[str] | None = None) -> Comparison:
        """This row compared with the reference row: over some sets, or over all test sets."""
        by_seed, reference_by_seed = self.alignments_by_seed(sets), reference.alignments_by_seed(sets)
        pairs = list(zip(by_seed[0], reference_by_seed[0], strict=True))
        ours, theirs = (sum((pair[side].counts for pair in pairs), Counts.zero()) for side in (0, 1))
        tested = significance(pairs)
        over_seeds = contrast(system_errors([by_seed, reference_by_seed]), [1, -1]) if len(self.choices) > 1 else None
        return Comparison(
            test=tested.mapsswe,
            difference=ours.wer - theirs.wer,
            interval=difference_interval(pairs),
            more_errors=ours.errors > theirs.errors,
            exact_p=tested.exact_p,
            over_seeds=over_seeds,
        )

    def alignments_by_seed(self, sets: Sequence[str] | None = None) -> list[list[Alignment]]:
        """What stands for the row, by seed and set: some sets, or all test sets."""
        wanted = self.results.experiment.test_sets if sets is None else sets
        return [self.results.alignments(choice.point, self.decode, wanted) for choice in self.choices]


def measure(results: Results, table: str, spec: TableSpec) -> dict[str, MeasuredRow]:
    """Every row of a table that the experiment has something for, by name: in the paper's order, then our own."""
    file = results.folder / "experiment.json"
    printed = [*published_table(spec.published)] if spec.published else []
    ordered = sorted(spec.rows.items(), key=lambda item: printed.index(item[0]) if item[0] in printed else len(printed))
    return {
        name: MeasuredRow(
            results,
            name,
            row,
            spec.decode,
            tuple(
                choose(results, row, seed, spec.decode, f"{file}: tables.{table}.rows.{name}")
                for seed in results.experiment.seeds
            ),
        )
        for name, row in ordered
    }


def table_decode(results: Results, system: str) -> str | None:
    """The decode of the first table that shows a system; of the first table where none does; None without tables."""
    tables = results.experiment.tables.values()
    own = [spec.decode for spec in tables if any(row.system == system for row in spec.rows.values())]
    return next(iter([*own, *(spec.decode for spec in tables)]), None)


def systems_in_order(results: Results) -> list[str]:
    """All systems of the experiment: as they come in its tables, then the others."""
    named = [
        row.row.system
        for name, spec in results.experiment.tables.items()
        for row in measure(results, name, spec).values()
    ]
    return [*dict.fromkeys([*named, *results.experiment.systems])]


def point_costs(results: Results, choice: Choice) -> PointCosts | None:
    """What a point costs, or None where it was not measured."""
    costs = results.costs(choice.point.system, choice.point.seed)
    return costs.points.get(choice.point.id) if costs else None
