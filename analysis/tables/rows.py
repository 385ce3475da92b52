"""The measured side of a table: for every row its counts, its WER with an interval, its comparison with another row.

Where a system has several seeds, a WER is the mean over them, and every interval is over seeds and speakers; what
belongs to one seed (its path, its tests) is kept by seed. Two systems are compared over the seeds that both have.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.inputs.choice import Choice, choose
from analysis.inputs.published import published_table
from analysis.inputs.results import Results
from analysis.inputs.schemas import Point, PointCosts, Row, TableSpec
from analysis.scoring.alignment import Alignment
from analysis.scoring.counts import Counts
from analysis.significance.comparison import Comparison, counts_by_seed, estimate_wer, mean_wer
from analysis.significance.contrasts import Estimate

Sets = Sequence[str] | None
"""The sets whose errors are pooled; None: all test sets."""


@dataclass(frozen=True, eq=False)
class MeasuredRow:
    """One row of a table as it was measured. All counts are of the table's decode."""

    results: Results
    name: str
    row: Row
    decode: str
    choices: tuple[Choice, ...]
    """What stands for the row, one for each seed of its system."""

    @property
    def first(self) -> Choice:
        """The first seed's choice."""
        return self.choices[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds of the row's system."""
        return tuple(choice.point.seed for choice in self.choices)

    @property
    def beside_dev(self) -> bool:
        """Whether the path that the development set would have chosen is another matter, to be shown beside: the row's
        own was chosen on the test sets."""
        return any(choice.how is not None and not choice.best and not self._by_dev(choice) for choice in self.choices)

    def _by_dev(self, choice: Choice) -> bool:
        return choice.how is not None and choice.how.chosen_on == [self.results.experiment.dev_set]

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
    def parameters(self) -> list[int | None]:
        """Stored parameters of each seed's point, from `costs.json`; None where costs were not measured."""
        found = [point_costs(self.results, choice) for choice in self.choices]
        return [costs and costs.parameters_stored for costs in found]

    def counts_by_seed(self, sets: Sets = None) -> list[Counts]:
        """The counts of the row for each seed, pooled over sets."""
        return counts_by_seed(self.alignments_by_seed(sets))

    def wer(self, sets: Sets = None) -> float:
        """The row's WER in percent, averaged over seeds."""
        return mean_wer(self.alignments_by_seed(sets))

    def estimate(self, sets: Sets = None) -> Estimate:
        """The row's WER with its interval: over speakers, with several seeds over both."""
        return estimate_wer(self.alignments_by_seed(sets))

    def on_dev(self, sets: Sets = None) -> list[list[Alignment]] | None:
        """What the path that the development set would have chosen heard, by seed and set; None where that is not
        known."""
        points = [choice.on_dev for choice in self.choices]
        return None if any(point is None for point in points) else self._alignments(points, sets)

    def against(self, reference: "MeasuredRow", sets: Sets = None) -> Comparison | None:
        """This row compared with the reference row over the seeds that both have; None where these are none."""
        common = tuple(seed for seed in self.seeds if seed in reference.seeds)
        if not common:
            return None
        ours, theirs = (row.alignments_by_seed(sets, common) for row in (self, reference))
        return Comparison(ours, theirs, common)

    def alignments_by_seed(self, sets: Sets = None, seeds: Sequence[int] | None = None) -> list[list[Alignment]]:
        """What stands for the row, by seed (None: all that it has) and set."""
        wanted = self.seeds if seeds is None else seeds
        return self._alignments([self.choice_of(seed).point for seed in wanted], sets)

    def choice_of(self, seed: int) -> Choice:
        """What stands for the row with one of its seeds."""
        return self.choices[self.seeds.index(seed)]

    def by_seed(self, values: Iterable[object]) -> str:
        """One value a seed as a table shows them: once where all are equal, else each with its seed."""
        texts = [str(value) for value in values]
        if len(set(texts)) == 1:
            return texts[0]
        return "; ".join(f"seed {c.point.seed}: {text}" for c, text in zip(self.choices, texts, strict=True))

    def _alignments(self, points: Iterable[Point], sets: Sets) -> list[list[Alignment]]:
        wanted = self.results.experiment.test_sets if sets is None else sets
        return [self.results.alignments(point, self.decode, wanted) for point in points]


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
                for seed in results.seeds_of(row.system)
            ),
        )
        for name, row in ordered
    }


def measure_depth(results: Results, system: str, depth: int, decode: str) -> MeasuredRow:
    """What stands for a depth of a system in figures and headlines, as `measure` has it for a row of a table."""
    row, where = Row(system=system, depth=depth), f"figures: {system}"
    choices = tuple(choose(results, row, seed, decode, where) for seed in results.seeds_of(system))
    return MeasuredRow(results, f"{system}@{depth}", row, decode, choices)


def most_seeds(rows: Iterable[MeasuredRow]) -> int:
    """How many seeds those rows have that have most of them."""
    return max(len(row.seeds) for row in rows)


def seeds_differ(rows: Iterable[MeasuredRow]) -> bool:
    """Whether rows have different seeds."""
    return len({row.seeds for row in rows}) > 1


def shown_numbers(rows: Iterable[MeasuredRow]) -> str:
    """The numbers of seeds that rows have: `3`, `3 or 5`."""
    return " or ".join(map(str, sorted({len(row.seeds) for row in rows})))


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
