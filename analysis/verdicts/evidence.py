"""What an experiment has for the rows that claims name: counts, differences and costs, each read once."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from analysis.inputs.choice import offered_at
from analysis.inputs.published import CELLS, published_table
from analysis.inputs.results import Results
from analysis.inputs.schemas import Point, TableSpec
from analysis.scoring.alignment import Alignment
from analysis.significance.comparison import Comparison
from analysis.significance.contrasts import Estimate, SystemErrors, contrast, spread, system_errors
from analysis.significance.intervals import LEVEL
from analysis.significance.variances import Pool, pooled
from analysis.tables.rows import MeasuredRow, measure, point_costs
from analysis.verdicts.frame import Frame
from analysis.verdicts.outcomes import NotTestedHere

Sets = Sequence[str] | None


class Evidence:
    """One experiment, as the claims of a file see it.

    Rows are given as `table1.S1`; `sets` are pooled, None are all test sets. Everything raises `NotTestedHere` for a
    row or a set that the experiment does not have.
    """

    def __init__(self, results: Results, frame: Frame):
        self.results, self.frame, self.tables, self.margin = results, frame, frame.tables, frame.margin
        self.rate, self.score = results.experiment.rate, results.experiment.score
        self._measured: dict[str, dict[str, MeasuredRow]] = {}
        self.comparisons = 1

    def among(self, comparisons: int) -> "Evidence":
        """The same where one of so many comparisons is asked to hold: intervals and tests are Bonferroni's. Within
        another such choice the numbers multiply."""
        stricter = copy(self)
        stricter.comparisons = self.comparisons * comparisons
        return stricter

    @property
    def level(self) -> float:
        """Of intervals."""
        return 1 - (1 - LEVEL) / self.comparisons

    def common_seeds(self, names: Sequence[str]) -> list[int]:
        """The training seeds that all of some rows have: a figure is made within each of them."""
        first, *others = (self.row(name).seeds for name in names)
        found = [seed for seed in first if all(seed in seeds for seeds in others)]
        if not found:
            raise NotTestedHere(f"{' and '.join(dict.fromkeys(names))} have no training seed in common")
        return found

    @property
    def test_words(self) -> int:
        """Reference words of all test sets together, by the table that hears most of them; 0 where no table tells."""
        tables = [measure(self.results, name, spec) for name, spec in self.results.experiment.tables.items()]
        heard = [next(iter(rows.values())).alignments_by_seed()[0] for rows in tables]
        return max((sum(alignment.counts.ref_words for alignment in sets) for sets in heard), default=0)

    def known_rows(self, table: str) -> set[str]:
        """The rows that a claim may name: the published ones, and the experiment's own."""
        _, spec = self._spec(table)
        published = published_table(self.tables[table]) if self.tables[table] else ()
        return {*published, *(spec.rows if spec else ())}

    def row(self, name: str) -> MeasuredRow:
        """What was measured for a row."""
        table, _, row = name.partition(".")
        own, spec = self._spec(table)
        if spec is None or row not in spec.rows:
            raise NotTestedHere(f"{name} is not part of this experiment")
        shown, system = self.results.experiment.systems, spec.rows[row].system
        if system not in shown:
            raise NotTestedHere(f"{name} was not made: it needs {self.results.made.lacking(system)}")
        if table not in self._measured:
            rows = {key: each for key, each in spec.rows.items() if each.system in shown}
            self._measured[table] = measure(self.results, own, spec.model_copy(update={"rows": rows}))
        return self._measured[table][row]

    def label(self, name: str) -> str:
        """What stands for a row here: `f6@12`; the row's own name where nothing does."""
        try:
            found = self.row(name)
        except NotTestedHere:
            return name
        point, best = found.first.point, " by its best path" if found.first.best else ""
        return f"{point.system}@{point.id if point.settings else point.depth or point.shown}{best}"

    @property
    def known_sets(self) -> set[str]:
        """The sets that a claim may name: those of the published tables, and the experiment's own."""
        return {*(name for cells in CELLS.values() for name in cells), *self.results.experiment.decoded_sets}

    def wer(self, name: str, seeds: Sequence[int], sets: Sets = None) -> float:
        """The row's WER in percent, averaged over seeds."""
        return float(self._errors([name], seeds, sets).wers.mean())

    def contrast(
        self, names: Sequence[str], coefficients: Sequence[float], seeds: Sequence[int], sets: Sets = None
    ) -> Estimate:
        """The sum of the rows' WERs times `coefficients`, in points."""
        return contrast(self._errors(names, seeds, sets), coefficients, self._pool(names, seeds, sets), self.level)

    def p(self, name: str, other: str, seed: int, sets: Sets = None) -> float:
        """The p of the test of one row against another, which belongs to one seed; corrected where one of several
        comparisons is asked to hold."""
        found = Comparison(*(self._alignments(row, [seed], sets) for row in (name, other))).p
        return min(1.0, self.comparisons * found)

    def published_wer(self, name: str, sets: Sets = None) -> float | None:
        """The row's WER in percent as its table prints it; None for a row or for sets without one."""
        table, _, row = name.partition(".")
        cells = published_table(self.tables[table]).get(row) if self.tables[table] else None
        columns = self.frame.published_wers[table].columns(sets) if table in self.frame.published_wers else None
        if cells is None or columns is None:
            return None
        return sum(words * float(cells[column]) for column, words in columns.items()) / sum(columns.values())

    def path_spread(self, name: str, seeds: Sequence[int], sets: Sets = None) -> tuple[Estimate, float]:
        """The standard deviation of the WER over all offered paths of the row's depth, and their mean WER, both by the
        decode that heard all of them."""
        row, wanted = self.row(name), self._sets(sets)
        depth, how = row.first.point.depth, row.first.how
        decode = row.decode if how is None or how.chosen_by is None else how.chosen_by  # which heard all the paths
        paths = [offered_at(self.results, row.row.system, seed, depth) for seed in seeds]
        if len(paths[0]) < 2:
            raise NotTestedHere(f"{name}: only one path leads to depth {depth} here")
        systems = [[self._decoded(name, p, wanted, decode) for p in same] for same in zip(*paths, strict=True)]
        errors = system_errors(systems)
        return spread(errors, self.level), float(errors.wers.mean())

    def cost(self, name: str, quantity: str) -> float:
        """A measured cost of the row's first seed."""
        costs = point_costs(self.results, self.row(name).first)
        if costs is None:
            raise NotTestedHere(f"{name}: no costs were measured")
        found = getattr(costs, quantity)
        if found is None:
            raise NotTestedHere(f"{name}: {quantity} was not measured")
        return found

    def machine(self, name: str) -> str:
        """What the costs of the row's first seed were measured on."""
        point = self.row(name).first.point
        costs = self.results.costs(point.system, point.seed)
        if costs is None:
            raise NotTestedHere(f"{name}: no costs were measured")
        return costs.machine

    def matrix_zeros(self, name: str) -> list[float]:
        """The share of zeros in each matrix of the row's system, of the first seed."""
        point = self.row(name).first.point
        costs = self.results.costs(point.system, point.seed)
        if costs is None or not costs.matrices:
            raise NotTestedHere(f"{name}: the zeros of its matrices were not counted")
        return [matrix.zeros / matrix.weights for matrix in costs.matrices]

    def _sets(self, sets: Sets) -> Sequence[str]:
        """The sets that are pooled."""
        experiment = self.results.experiment
        for name in sets or ():
            if name not in experiment.decoded_sets:
                raise NotTestedHere(f"the set {name} is not part of this experiment")
        return sets or experiment.test_sets

    def _decoded(self, name: str, point: Point, sets: Sequence[str], decode: str | None = None) -> list[Alignment]:
        """The alignments of a point that stands for a row, by the row's decode or another."""
        decode = decode or self.row(name).decode
        for one in sets:
            if not self.results.decoded(point, decode, one):
                raise NotTestedHere(f"{name}: not decoded on {one}")
        return self.results.alignments(point, decode, sets)

    def _alignments(self, name: str, seeds: Sequence[int], sets: Sets) -> list[list[Alignment]]:
        row, wanted = self.row(name), self._sets(sets)
        return [self._decoded(name, row.choice_of(seed).point, wanted) for seed in seeds]

    def _errors(self, names: Sequence[str], seeds: Sequence[int], sets: Sets) -> SystemErrors:
        decodes = {name: self.row(name).decode for name in names}
        if len({*decodes.values()}) > 1:
            found = ", ".join(f"{name} by {decode}" for name, decode in decodes.items())
            raise NotTestedHere(f"the rows were decoded differently ({found})")
        return system_errors([self._alignments(name, seeds, sets) for name in names])

    def _pool(self, names: Sequence[str], seeds: Sequence[int], sets: Sets) -> Pool | None:
        """The variance over seeds of the table that the rows stand in, if it is wanted and they were trained apart:
        from all seeds of each row that has several."""
        table = names[0].partition(".")[0]
        systems = [self.row(name).row.system for name in names]
        alike = all(name.partition(".")[0] == table for name in names) and len({*systems}) == len(systems)
        if self.frame.seed_variance == "own" or len(seeds) < 2 or not alike:
            return None
        decode = self.row(names[0]).decode
        wers, trainings = [], []
        for row in self._measured[table].values():
            points = [choice.point for choice in row.choices]
            if len(points) > 1 and all(
                self.results.decoded(point, decode, one) for point in points for one in self._sets(sets)
            ):
                wers.append([self.results.counts(point, decode, self._sets(sets)).wer for point in points])
                trainings.append(row.row.system)
        return pooled([np.array(by_seed) for by_seed in wers], trainings)

    def _spec(self, table: str) -> tuple[str, TableSpec | None]:
        """The experiment's table that reproduces the one meant; of several the one of that name, else the first. One's
        own is known by its name."""
        tables, published = self.results.whole.tables, self.tables[table]
        if published is None:
            return table, tables.get(table)
        same = [name for name, spec in tables.items() if spec.published == published]
        name = table if table in same else same[0] if same else table
        return name, tables[name] if same else None
