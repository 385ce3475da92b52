"""How many test words, or how many training seeds, would settle a claim: enough for a power of 80 %.

If the true figure is what was found, an experiment with exactly as much data as the interval needs to clear the bound
would clear it half of the time. To do so four times in five, the figure must keep a further distance: of many speakers
and one seed (1.96 + 0.84) standard errors instead of 1.96, which takes 2.04 times the words (Cohen, Statistical Power
Analysis for the Behavioral Sciences, 1988). With several seeds the interval's length is itself a matter of chance, so
the power is the mean of Phi((distance - half-width) / sqrt(V)) over the chi-square distributions of both variances.

More words mean more speakers of the same kind: the speakers' variance shrinks with their number, that of the seeds with
the seeds'.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from analysis.significance.contrasts import Estimate
from analysis.significance.intervals import FEW_UNITS
from analysis.significance.variances import Variance, half_width

POWER = 0.8
CRITICAL_Z = 1.959964
POWERED_Z = CRITICAL_Z + NormalDist().inv_cdf(POWER)
LARGEST = 1e3
"""No experiment is answered with "so many times as much data": beyond this nothing settles it."""
STEPS = (16, 64)
"""Quantiles that stand for the distribution of the speakers' variance, and of the seeds'."""


@dataclass(frozen=True)
class Power:
    """How surely a figure that truly is what was found keeps clear of a bound, and what makes that 80 %."""

    now: float
    """With the seeds and words there are, from 0 to 1."""
    words: int | None
    """Test words for a power of 80 % with the seeds there are; None where no number is enough."""
    seeds: int | None
    """Training seeds for it on the words there are; None where no number is enough, and for a single seed."""


def power_of(found: Estimate, bound: float, at_least: int) -> Power:
    """The power of an estimate against a bound; `at_least` so many seeds are asked for."""
    distance = _distance(found, bound)
    if found.parts is not None:
        now = power(distance, *found.parts)
    elif half := _half(found, bound):
        now = NormalDist().cdf((distance / half - 1) * CRITICAL_Z)
    else:
        now = float(distance > 0)
    return Power(now, words_needed(found, bound), seeds_needed(found, bound, at_least))


def words_needed(found: Estimate, bound: float) -> int | None:
    """The test words at which the figure would keep clear of `bound` with the seeds there are, and no fewer than the
    speakers of a verdict say; None for no number."""
    distance = _distance(found, bound)
    fewest = min(1.0, FEW_UNITS / found.units)  # with fewer speakers there is no verdict
    if found.parts is None:
        times = (_half(found, bound) / distance * POWERED_Z / CRITICAL_Z) ** 2 if distance else None
        return None if times is None or times > LARGEST else math.ceil(found.words * max(times, fewest))
    speakers, seeds = found.parts

    def parts(times: float) -> tuple[Variance, Variance]:
        freedom = max(found.units * times - 1, 1.0)
        return Variance(speakers.value / times, freedom), seeds

    times = _smallest(lambda times: power(distance, *parts(times)) >= POWER, fewest)
    return None if times is None else math.ceil(found.words * times)


def words_needed_by_p(words: int, p: float) -> int | None:
    """The test words at which Z, which grows with their root, is significant; None where there is no difference."""
    z = -NormalDist().inv_cdf(max(p, 1e-300) / 2)
    return math.ceil(words * (POWERED_Z / z) ** 2) if z else None


def seeds_needed(found: Estimate, bound: float, at_least: int) -> int | None:
    """The training seeds at which the figure would keep clear of `bound` on the present test words.

    None where no number does, and for a single seed, whose spread nobody knows.
    """
    if found.parts is None:
        return None
    distance = _distance(found, bound)
    speakers, seeds = found.parts

    def parts(number: float) -> tuple[Variance, Variance]:
        of_a_seed = seeds.freedom / (found.seeds - 1)  # a pooled variance has more than one for each further seed
        return speakers, Variance(seeds.value * found.seeds / number, of_a_seed * (number - 1))

    number = _smallest(lambda number: power(distance, *parts(number)) >= POWER, float(at_least))
    return None if number is None else math.ceil(number)


def shown_words(words: int) -> str:
    """A number of words as sentences print it: two significant digits above 100, thousands apart."""
    digits = len(str(words)) - 2
    return f"{round(words, -digits) if digits > 0 else words:,}"


def shown_ways(words: float | None, seeds: float | None, score: str, now: tuple[int, int] | None = None) -> str | None:
    """What each alone is enough for a power: `about 1,400 test words with these trainings, or 5 trainings on these
    words`; with `now`, the words and seeds there are, these instead. None where nothing is enough."""
    had = [f"(now {shown_words(number)})" for number in now] if now else ["with these trainings", f"on these {score}"]
    ways = [f"{shown_words(int(words))} test {score} {had[0]}"] if words else []
    ways += [f"{shown_words(int(seeds))} trainings {had[1]}"] if seeds else []
    return f"about {', or '.join(ways)}" if ways else None


def _half(found: Estimate, bound: float) -> float:
    """How far the interval reaches towards a bound, on the scale on which its chance is symmetric."""
    return abs(found.scaled(found.high if bound > found.value else found.low) - found.centre)


def _distance(found: Estimate, bound: float) -> float:
    return abs(found.scaled(bound) - found.centre)


def power(distance: float, speakers: Variance, seeds: Variance) -> float:
    """How probable it is that the interval of a figure which truly keeps `distance` from a bound clears it."""
    from scipy.special import chdtri, ndtr

    total = math.sqrt(speakers.value + seeds.value)
    if not total:
        return float(distance > 0)
    axes = []
    for part, steps in zip((speakers, seeds), STEPS, strict=True):
        tails = (np.arange(steps) + 0.5) / steps
        axes.append(part.value * chdtri(part.freedom, tails) / part.freedom)
    of_speakers, of_seeds = np.meshgrid(*axes)
    half = half_width([Variance(of_speakers, speakers.freedom), Variance(of_seeds, seeds.freedom)])
    return float(ndtr((distance - half) / total).mean())


def _smallest(suffices: Callable[[float], bool], start: float) -> float | None:
    """The smallest number from `start` on that suffices, to a thousandth of itself; larger ones suffice too."""
    low, high = start, start
    while not suffices(high):
        low, high = high, 2 * high
        if high > LARGEST * max(start, 1.0):
            return None
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
