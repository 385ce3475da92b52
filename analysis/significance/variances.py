"""Variances known from a few values each, and the t interval of a figure to whose chance several of them add.

A variance that was estimated from n values has n - 1 degrees of freedom. The sum V of several, each V_i with f_i of
them, is treated as one with f = V² / sum(V_i² / f_i) (Satterthwaite, An approximate distribution of estimates of
variance components, Biometrics Bulletin 2, 1946; Welch, Biometrika 34, 1947), and the interval reaches t(f) sqrt(V) to
either side. With two or three training seeds that alone is too short: where the seeds happen to lie close together
their variance is small and f large at once, and 95 % become 93 (three seeds, three times the speakers' error) or 89
(two). So the interval is never shorter than that of each part alone, t(f_i) sqrt(V_i). It then covers at least what
it should, and reaches no less far than the speakers' interval when all seeds agree.

    half_width([Variance(0.04, 39), Variance(0.09, 2)])
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.significance.intervals import LEVEL

EQUAL_AT = 0.05
"""Variances are taken as equal unless Bartlett's test finds a p below this."""


@dataclass(frozen=True, eq=False)
class Variance:
    """A variance and the degrees of freedom it was estimated with: numbers, or arrays of equal shape."""

    value: float | np.ndarray
    freedom: float | np.ndarray


@dataclass(frozen=True)
class Pool:
    """The variance over seeds that the systems of a table have in common, in points², and whether they do."""

    variance: float
    freedom: int
    trainings: int
    p: float
    """Bartlett's test that all rows have the same variance."""

    @property
    def holds(self) -> bool:
        """Whether the test leaves the assumption standing."""
        return self.p >= EQUAL_AT

    @property
    def note(self) -> str:
        """What was assumed and what the test said of it, as sentences end."""
        if self.holds:
            return f"variance over seeds pooled over {self.trainings} systems (Bartlett p {self.p:.2g})"
        return f"variances over seeds differ between systems (Bartlett p {self.p:.2g}): not pooled"


def combined(parts: Sequence[Variance]) -> Variance:
    """The sum of independent variances, with Satterthwaite's degrees of freedom."""
    total = sum(part.value for part in parts)
    per_freedom = sum(part.value**2 / part.freedom for part in parts)
    known = np.asarray(per_freedom) > 0
    freedom = np.where(known, np.square(total) / np.where(known, per_freedom, 1.0), sum(p.freedom for p in parts))
    return Variance(total, freedom)


def widest(parts: Sequence[Variance], level: float = LEVEL) -> Variance:
    """Of the parts and their sum the one whose t interval is the longest."""
    found = combined(parts)
    for part in parts:
        longer = _reach(part, level) > _reach(found, level)
        found = Variance(np.where(longer, part.value, found.value), np.where(longer, part.freedom, found.freedom))
    return found


def half_width(parts: Sequence[Variance], level: float = LEVEL) -> np.ndarray:
    """How far the interval of a level (default: 95 %) reaches to either side, in the unit whose squares the variances
    are."""
    return _reach(widest(parts, level), level)


def two_sided_p(figure: float, parts: Sequence[Variance]) -> float:
    """The p of "the figure is 0", two-sided: 0.05 where the interval of `half_width` ends at 0."""
    from scipy.special import stdtr

    each = [combined(parts), *parts]
    tails = [float(stdtr(one.freedom, -abs(figure) / np.sqrt(one.value))) if one.value > 0 else 0.0 for one in each]
    return 2 * max(tails) if any(one.value > 0 for one in each) else float(figure == 0)


def critical(freedom, level: float = LEVEL) -> np.ndarray:
    """The quantile of Student's t that bounds a two-sided interval of a level (default: 95 %)."""
    from scipy.special import stdtrit  # most experiments have one seed and need none of it

    return stdtrit(freedom, (1 + level) / 2)


def pooled(wers: Sequence[np.ndarray], trainings: Sequence[str]) -> Pool:
    """One variance over seeds for all rows of a table: of each row its WERs, float64, (seeds,), two or more; the system
    that each row runs.

    A system weighs as its degrees of freedom, one less than it has seeds. Rows of one system (its depths) are one
    training seen several times: they share one system's weight and one system's degrees of freedom. They are not
    independent either, which lets the test miss a difference sooner than find one that is none. Source: Bartlett,
    Properties of sufficiency and statistical tests (1937).
    """
    names = list(dict.fromkeys(trainings))
    by_row = [(row.var(ddof=1), len(row) - 1, name) for row, name in zip(wers, trainings, strict=True)]
    means = [np.mean([variance for variance, _, name in by_row if name == one]) for one in names]
    freedoms = [next(freedom for _, freedom, name in by_row if name == one) for one in names]
    variance = float(np.average(means, weights=freedoms))
    return Pool(variance, sum(freedoms), len(names), float(equality_p(wers)))


def equality_p(wers: Sequence[np.ndarray]) -> np.ndarray:
    """The p of Bartlett's test that all rows have one variance over seeds: each row float64, (…, seeds)."""
    from scipy.stats import bartlett

    variances = np.stack([row.var(axis=-1, ddof=1) for row in wers], axis=-1)
    if len(wers) < 2:
        return np.ones(variances.shape[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        p = bartlett(*wers, axis=-1).pvalue
    some, every = (variances > 0).any(axis=-1), (variances > 0).all(axis=-1)
    return np.where(every, p, np.where(some, 0.0, 1.0))  # without variance the statistic is not defined


def _reach(one: Variance, level: float = LEVEL) -> np.ndarray:
    return critical(one.freedom, level) * np.sqrt(one.value)
