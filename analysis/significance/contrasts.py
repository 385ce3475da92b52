"""Differences between systems, and the spread among them, with intervals over speakers and over training seeds.

With one seed an interval says what other test speakers would have given: the percentiles of a bootstrap over speakers.
With K seeds it says what other seeds and other speakers would have given, value ± half-width, from two variances:

- of the speakers: the bootstrap's, times n / (n - 1) for n speakers, with n - 1 degrees of freedom. All seeds of a
  system hear the same speakers, so one draw of speakers serves all seeds (Owen, The pigeonhole bootstrap, Annals of
  Applied Statistics 1, 2007); drawing them anew for each would let their chance average out, which it does not;
- of the seeds: S² / K with K - 1, where S² is the variance of the figure over seeds. The figure (a difference, say) is
  made within each seed first. That holds whatever the systems share: two depths are one training, two systems of one
  seed may start from the same weights; and treating them as independent would gain next to nothing.

`analysis.significance.variances` adds them up and says how far t reaches. What the test words alone add to S² is
counted twice, which makes the interval rather too long. A `Pool` replaces S² by the sum of the squared coefficients
times the variance that all systems of a table have in common; it is for rows that were trained apart.

    errors = system_errors([[[alignment of A with seed 0 on a set, …], [… with seed 1]], [the same of B]])
    contrast(errors, [1, -1])     # WER of A minus WER of B
    spread(errors)                # standard deviation over the systems
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.scoring.alignment import Alignment
from analysis.scoring.speakers import unit_noun
from analysis.scoring.trn import UTTERANCES
from analysis.significance.intervals import FEW_UNITS, LEVEL, drawn_sums
from analysis.significance.references import check_same_reference, number_units
from analysis.significance.variances import Pool, Variance, half_width, two_sided_p


@dataclass(frozen=True)
class Estimate:
    """A figure in points of WER with its 95 % interval, and what stands behind it."""

    value: float
    low: float
    high: float
    test_low: float
    """The interval over speakers alone, by the bootstrap; the whole one with a single seed."""
    test_high: float
    seeds: int
    units: int
    """Speakers, or utterances where nobody named the speakers."""
    words: int
    """Reference words of the test sets, counted once."""
    p: float = 1.0
    """Two-sided p of "the figure is 0": below 0.05 where the interval excludes 0."""
    noun: str = "speakers"
    """What the units are, in words."""
    parts: tuple[Variance, Variance] | None = None
    """The variances of the speakers and of the seeds, in points²; None with a single seed."""
    pool: Pool | None = None
    """The variance over seeds of the table, where it was asked for."""
    own: tuple[float, float] | None = None
    """The interval with the figure's own variance over seeds, where the pooled one was taken."""
    squared: float | None = None
    """A spread is estimated as a variance: its estimate, which `parts` are of, and which chance can make negative."""

    @property
    def named(self) -> bool:
        """Whether all units are speakers, or groups of them."""
        return UTTERANCES not in self.noun

    @property
    def few_units(self) -> bool:
        """Whether there are too few speakers for the interval to keep its level."""
        return self.units < FEW_UNITS

    def plus(self, points: float) -> "Estimate":
        """The same chance about a figure that is larger by a known number: its p of 0 is no longer known."""
        names = ("value", "low", "high", "test_low", "test_high")
        moved = {name: getattr(self, name) + points for name in names} | {"p": math.nan}
        return replace(self, **moved, own=self.own and (self.own[0] + points, self.own[1] + points))

    @property
    def centre(self) -> float:
        """The estimate on the scale on which its chance is symmetric, see `scaled`."""
        return self.value if self.squared is None else self.squared

    def scaled(self, points: float) -> float:
        """A figure in points on the scale of `centre`: itself, or its square for a spread."""
        return points if self.squared is None else points**2


@dataclass(frozen=True, eq=False)
class SystemErrors:
    """Errors by system, seed and speaker: int64, (systems, seeds, speakers); reference words: int64, (speakers,)."""

    errors: np.ndarray
    words: np.ndarray
    noun: str = "speakers"
    """What stands for a speaker, in words: where nobody knows who speaks, every utterance stands for itself."""

    @property
    def wers(self) -> np.ndarray:
        """WER of each system and seed in percent: float64, (systems, seeds)."""
        return 100.0 * self.errors.sum(axis=2) / self.words.sum()

    def drawn(self) -> np.ndarray:
        """The WERs of each replicate: float64, (replicates, systems, seeds)."""
        systems, seeds, speakers = self.errors.shape
        return drawn_rates(self.errors.reshape(-1, speakers), self.words).reshape(-1, systems, seeds)


def system_errors(systems: Sequence[Sequence[Sequence[Alignment]]]) -> SystemErrors:
    """Errors of several systems, each given as `[seed][test set]`, all on the same test sets.

    Raises `UserError` where one was aligned to other references than the first.
    """
    references = [one.reference for one in systems[0][0]]
    for system in systems:
        for seed in system:
            for reference, one in zip(references, seed, strict=True):
                check_same_reference(reference, one.reference)
    rows, units = number_units(references)

    def by_speaker(values: list[np.ndarray]) -> np.ndarray:
        return np.bincount(rows, np.concatenate(values), units).astype(np.int64)

    errors = [[by_speaker([one.errors for one in seed]) for seed in system] for system in systems]
    return SystemErrors(np.array(errors), by_speaker([one.ref_words for one in systems[0][0]]), unit_noun(references))


def drawn_rates(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Rates in percent of each bootstrap replicate over speakers: (replicates, rows), from errors (rows, speakers)."""
    sums = drawn_sums(np.vstack([errors, words]).T)
    sums = sums[sums[:, -1] > 0]  # a draw of none but wordless speakers has no rate
    return 100.0 * sums[:, :-1] / sums[:, -1:]


def contrast(
    errors: SystemErrors, coefficients: Sequence[float], pool: Pool | None = None, level: float = LEVEL
) -> Estimate:
    """The sum of the systems' WERs times `coefficients`, averaged over seeds, in points.

    `pool` is the variance over seeds to take instead of the contrast's own, if its assumption holds; `level` that of
    the interval, where several are looked at.
    """
    weights = np.asarray(coefficients, dtype=np.float64)
    observed = weights @ errors.wers
    drawn = drawn_rates(np.einsum("skj,s->j", errors.errors, weights)[None] / len(observed), errors.words)[:, 0]
    value, seeds = float(observed.mean()), len(observed)
    found = _over_speakers(errors, value, drawn, seeds, level)
    if seeds == 1:
        return found
    floor = 0.0 if (weights >= 0).all() else -np.inf  # a WER is never negative

    def interval(parts: tuple[Variance, Variance]) -> tuple[float, float]:
        half = float(half_width(parts, level))
        return max(value - half, floor), value + half

    parts = (speakers_variance(drawn, len(errors.words)), seeds_variance(observed))
    own = interval(parts)
    if pool is None or not pool.holds:
        return _replaced(found, own, parts, pool=pool, p=two_sided_p(value, parts))
    parts = (parts[0], Variance(float(weights @ weights) * pool.variance / seeds, pool.freedom))
    return _replaced(found, interval(parts), parts, pool=pool, own=own, p=two_sided_p(value, parts))


def spread(errors: SystemErrors, level: float = LEVEL) -> Estimate:
    """The standard deviation of the WER over two or more systems, in points, without what the test set's chance adds.

    Systems that are equally good still differ on a finite test set, and a resampled test set doubles that chance. By
    what the replicates' mean variance exceeds the observed one, it is known: it is taken off the observed variance
    once, off the replicates twice. The interval is that of the variance, and its ends' roots are shown.
    """
    drawn = errors.drawn().var(axis=1, ddof=1)
    observed = errors.wers.var(axis=0, ddof=1)
    chance = drawn.mean(axis=0) - observed
    without, replicates = observed - chance, (drawn - 2 * chance).mean(axis=1)
    squared, seeds = float(without.mean()), len(observed)
    found = _over_speakers(errors, _root(squared), _root(replicates), seeds, level, squared)
    if seeds == 1:
        return found
    parts = (speakers_variance(replicates, len(errors.words)), seeds_variance(without))
    half = float(half_width(parts, level))
    return _replaced(found, (_root(squared - half), _root(squared + half)), parts)


def speakers_variance(drawn: np.ndarray, speakers: int) -> Variance:
    """The variance over speakers from a figure's replicates, (replicates, …); theirs is (n - 1) / n of it."""
    freedom = max(speakers - 1, 1)
    return Variance(drawn.var(axis=0) * speakers / freedom, freedom)


def seeds_variance(observed: np.ndarray) -> Variance:
    """The variance of a figure's mean over seeds, from its value with each of them, (…, seeds)."""
    seeds = observed.shape[-1]
    return Variance(observed.var(axis=-1, ddof=1) / seeds, seeds - 1)


def tails(level: float = LEVEL) -> list[float]:
    """The quantiles at which an interval of a level ends."""
    return [(1 - level) / 2, (1 + level) / 2]


def _root(variance):
    return np.sqrt(np.maximum(variance, 0.0))


def _over_speakers(
    errors: SystemErrors, value: float, drawn: np.ndarray, seeds: int, level: float, squared: float | None = None
) -> Estimate:
    """The estimate with the percentiles of its replicates, all there is to one seed."""
    low, high = map(float, np.quantile(drawn, tails(level)))
    units, words = len(errors.words), int(errors.words.sum())
    p = min(1.0, 2 * float(min(np.mean(drawn <= 0), np.mean(drawn >= 0))))
    return Estimate(float(value), low, high, low, high, seeds, units, words, p, errors.noun, squared=squared)


def _replaced(found: Estimate, interval: tuple[float, float], parts: tuple[Variance, Variance], **further) -> Estimate:
    return replace(found, low=float(interval[0]), high=float(interval[1]), parts=parts, **further)
