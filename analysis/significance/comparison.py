"""Two systems compared on the same test sets, with every training seed that there is: all that a table, a headline or a
claim says of a difference of WER comes from here.

With one seed the difference has the interval over that seed's speakers, and the p of its MAPSSWE (the exact one where
MAPSSWE is weak). With several it is the mean over seeds, with the interval and the p of the contrast over seeds and
speakers. MAPSSWE then says something of each seed alone: the same sentences recognised by another training are no new
evidence, so segments of different seeds never enter one test.

    found = Comparison([[alignment of A with seed 0 on a set, …], [… with seed 1]], [the same of B])
    found.difference, found.interval, found.p, found.stars
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.scoring.alignment import Alignment
from analysis.scoring.counts import Counts
from analysis.significance.contrasts import Estimate, contrast, system_errors
from analysis.significance.exact import ALPHA, Significance, significance

BySeed = Sequence[Sequence[Alignment]]
"""What stands for a system: for each seed its alignments, one a test set."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """One system against another, seed by seed on the same sets: of either the seeds that both have."""

    ours: BySeed
    theirs: BySeed
    of_seeds: tuple[int, ...] = ()
    """Which training seeds these are, where that is known."""

    @cached_property
    def estimate(self) -> Estimate:
        """Our WER minus theirs, averaged over seeds, in points: over speakers, with several seeds over both."""
        return contrast(system_errors([self.ours, self.theirs]), [1, -1])

    @cached_property
    def tests(self) -> tuple[Significance, ...]:
        """The tests within each seed, over all its sets together."""
        return tuple(significance(zip(*pair, strict=True)) for pair in zip(self.ours, self.theirs, strict=True))

    @property
    def seeds(self) -> int:
        """How many trainings of either system are compared."""
        return len(self.ours)

    @property
    def difference(self) -> float:
        """Our mean WER minus theirs, in points: negative where we are better."""
        return mean_wer(self.ours) - mean_wer(self.theirs)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        return self.estimate.low, self.estimate.high

    @property
    def p(self) -> float:
        """The p to rely on: of the tests with one seed, of the contrast with several."""
        return self.tests[0].p if self.seeds == 1 else self.estimate.p

    @property
    def significant(self) -> bool:
        """Whether the systems differ, as `p` has it; with one seed by sc_stats' own bound where MAPSSWE decides."""
        return self.tests[0].significant if self.seeds == 1 else self.p < ALPHA

    @property
    def stars(self) -> int:
        """In how many seeds no significant increase is found: the paper's `*`. A better system keeps it."""
        return sum(not test.significant_increase for test in self.tests)

    @property
    def units(self) -> str:
        """What the interval is over: `40 speakers`."""
        return f"{self.estimate.units} {self.estimate.noun}"


def estimate_wer(by_seed: BySeed) -> Estimate:
    """The WER of one system, averaged over seeds, in percent: over speakers, with several seeds over both."""
    return contrast(system_errors([by_seed]), [1])


def mean_wer(by_seed: BySeed) -> float:
    """The WER of one system in percent, pooled over sets within each seed, averaged over seeds.

    All seeds hear the same sets, so this is the rate of all their errors together.
    """
    rates = [counts.wer for counts in counts_by_seed(by_seed)]
    return sum(rates) / len(rates)


def counts_by_seed(by_seed: BySeed) -> list[Counts]:
    """The counts of each seed, pooled over its sets."""
    return [sum((alignment.counts for alignment in sets), Counts.zero()) for sets in by_seed]
