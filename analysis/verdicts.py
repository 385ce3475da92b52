"""What an interval says of a claim: reproduced, contradicted or inconclusive, and how many test words would settle it.

A figure is claimed to lie below or above a bound. The claim is *reproduced* when the whole interval does,
*contradicted* when the whole interval lies on the other side, else *inconclusive*. "Not significant" is thus never
read as "equal". A claim of several parts needs all of them, so their p values need no correction for being many (the
intersection-union test; Berger, Technometrics 24, 1982).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.contrasts import Estimate
from analysis.significance import ALPHA

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"
VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_TESTED)
DECIDING = (CONTRADICTED, NOT_TESTED, INCONCLUSIVE, REPRODUCED)  # the first of these that a part has is the claim's
CRITICAL_Z = 1.959964  # two-sided, at ALPHA


class NotTestedHere(Exception):
    """The experiment has not what a predicate needs. The text says what is missing."""


@dataclass(frozen=True)
class Effect:
    """The measured figure that decides. `interval` is None for figures without chance, such as parameters."""

    name: str
    value: float
    unit: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Outcome:
    """The verdict on one predicate. `margin` is the bound that the effect was held against, in its unit."""

    verdict: str
    reason: str
    name: str = ""
    effect: Effect | None = None
    margin: float | None = None
    p: float | None = None
    words_needed: int | None = None
    """Test words that would settle an inconclusive verdict, if the effect stays and speakers are added."""
    clearance: float = math.inf
    """How far the interval keeps from the bound, in widths of the interval: the smallest is the weakest part."""
    parts: tuple["Outcome", ...] = ()

    def to_json(self) -> dict:
        """The keys that `claims.json` has for a claim and for each of its parts."""
        effect = self.effect and {
            "name": self.effect.name,
            "value": self.effect.value,
            "unit": self.effect.unit,
            "interval": self.effect.interval and [*self.effect.interval],
        }
        keys = ("verdict", "margin", "p", "words_needed", "reason")
        return {"effect": effect, **{key: getattr(self, key) for key in keys}}


def judge(
    estimate: Estimate,
    side: Literal["below", "above"],
    reproduced_at: float,
    contradicted_at: float,
    p: float | None = None,
) -> tuple[str, int | None]:
    """The verdict on "the figure lies on `side` of the bound", and the words that would settle it.

    `reproduced_at` and `contradicted_at` are the bound as either verdict sees it; they differ where a margin lies
    between no effect and one that matters. With `p`, reproduced needs p < 0.05 as well.
    """
    sign = 1.0 if side == "below" else -1.0
    value, good, bad = sign * estimate.value, sign * reproduced_at, sign * contradicted_at
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if high < good and (p is None or p < ALPHA):
        return REPRODUCED, None
    if low > bad:
        return CONTRADICTED, None
    needed = [_words_by_p(estimate, p)] if high < good else []
    if value < good and not needed:
        needed.append(_words(estimate, good - value, high - value, sign))
    if value > bad:
        needed.append(_words(estimate, value - bad, value - low, -sign))
    return INCONCLUSIVE, min((words for words in needed if words is not None), default=None)


def _words(estimate: Estimate, distance: float, half_width: float, towards: float) -> int | None:
    """Test words at which the interval's half towards the bound is shorter than `distance`; None where none suffice.

    Only the part of the width that comes from test speakers shrinks, with 1 / sqrt(words); that of the seeds stays.
    """
    side = estimate.test_high if towards > 0 else estimate.test_low
    from_words = min(abs(side - estimate.value), half_width)
    allowed = distance**2 - (half_width**2 - from_words**2)
    return math.ceil(estimate.words * from_words**2 / allowed) if allowed > 0 else None


def _words_by_p(estimate: Estimate, p: float) -> int | None:
    """Test words at which Z, which grows with sqrt(words), reaches its critical value."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(1 - p / 2) if p < 1 else 0.0
    return math.ceil(estimate.words * (CRITICAL_Z / z) ** 2) if z else None


def clearance(estimate: Estimate, bound: float) -> float:
    """How far the interval keeps from `bound`, in its own widths: negative when the bound lies inside."""
    width = estimate.high - estimate.low
    gap = max(bound - estimate.high, estimate.low - bound)
    return gap / width if width else math.inf


def all_of(parts: Sequence[Outcome]) -> Outcome:
    """The verdict on a claim that needs all its parts; the effect shown is that of the part that decides."""
    decisive = min(parts, key=_rank)
    same = [part for part in parts if part.verdict == decisive.verdict]
    needed = [part.words_needed for part in same]
    known = decisive.verdict == INCONCLUSIVE and None not in needed
    return Outcome(
        verdict=decisive.verdict,
        reason=_combined_reason(parts, decisive),
        effect=decisive.effect,
        margin=decisive.margin,
        p=decisive.p,
        words_needed=max(needed) if known else None,
        clearance=decisive.clearance,
        parts=tuple(parts),
    )


def _rank(part: Outcome) -> tuple[int, float]:
    """The worst verdict first; among equal ones the part that is least sure, among contradicted ones the surest."""
    return DECIDING.index(part.verdict), -part.clearance if part.verdict == CONTRADICTED else part.clearance


def _combined_reason(parts: Sequence[Outcome], decisive: Outcome) -> str:
    if decisive.verdict == REPRODUCED:
        return f"all {len(parts)} parts hold; the closest: {decisive.reason}" if len(parts) > 1 else decisive.reason
    others = [f"{n} {verdict}" for verdict in VERDICTS if (n := sum(part.verdict == verdict for part in parts))]
    return decisive.reason + (f" (parts: {', '.join(others)})" if len(parts) > 1 else "")
