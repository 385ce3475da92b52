"""What an interval says of a claim: reproduced, contradicted or inconclusive, and which way it points.

A figure is claimed to lie below or above a bound. It *points for* the claim when the whole interval does, *against* it
when the whole interval lies on the other side, of the published effect too: what a paper printed cannot be contradicted
by an interval that holds it. "Not significant" is thus never read as "equal". The verdict is where it points,
*reproduced* or *contradicted*, from three trainings on: fewer say too little of what another seed would give, so the
verdict is *inconclusive*, and where it points is only shown. Fewer than 10 speakers, or utterances
whose speakers nobody named, point nowhere: the interval would not keep its level.

A claim of several parts needs all of them, so their p values need no correction for being many (the intersection-union
test; Berger, Technometrics 24, 1982).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from analysis.significance.contrasts import Estimate
from analysis.significance.exact import ALPHA
from analysis.significance.intervals import FEW_UNITS
from analysis.significance.power import Power, seeds_needed, words_needed, words_needed_by_p
from common.wording import counted

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"
VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_TESTED)
DECIDING = (CONTRADICTED, NOT_TESTED, INCONCLUSIVE, REPRODUCED)  # the first of these that a part has is the claim's
FOR, AGAINST, NEITHER = "for", "against", "neither"
POINTING = (AGAINST, NEITHER, FOR)  # of parts with one verdict, the first of these is the claim's
VERDICT_OF = {FOR: REPRODUCED, AGAINST: CONTRADICTED, NEITHER: INCONCLUSIVE}
ENOUGH_TRAININGS = 3


class NotTestedHere(Exception):
    """The experiment has not what a predicate needs. The text says what is missing."""


@dataclass(frozen=True)
class Effect:
    """The measured figure that decides. `interval` is None for figures without chance, such as parameters."""

    name: str
    value: float
    unit: str
    interval: tuple[float, float] | None = None
    own_interval: tuple[float, float] | None = None
    """The one with the figure's own variance over seeds, where `interval` has one pooled over systems."""
    published: float | None = None
    """The same figure in the paper's tables; None where they do not print it."""

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval: how near to a bound a figure can come before nothing is said of it."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2


@dataclass(frozen=True)
class Outcome:
    """The verdict on one predicate. `margin` is the bound that the effect was held against, in its unit."""

    verdict: str
    reason: str
    name: str = ""
    leans: str = NEITHER
    """Which way the interval of an inconclusive one points."""
    trainings: int | None = None
    """How many trainings of each system are behind it; None where no training decides, as with parameters."""
    seeds: tuple[int, ...] = ()
    """Which ones: the seeds that all systems in it have."""
    words: int | None = None
    """The reference words that each of them was scored on."""
    score: str = "words"
    """What is counted in their place: `characters`, where error rates are of these."""
    enough_speakers: bool = True
    """Whether they are many enough, and named, for an interval to decide at all."""
    power: Power | None = None
    """How surely it would be settled if the effect is what was found; None where the effect lies on neither side."""
    effect: Effect | None = None
    margin: float | None = None
    p: float | None = None
    words_needed: int | None = None
    """Test words that would settle an inconclusive verdict, if the effect stays and speakers are added."""
    seeds_needed: int | None = None
    """Training seeds that would, on the same test words."""
    clearance: float = math.inf
    """How far the interval keeps from the bound, in widths of the interval: the smallest is the weakest part."""
    parts: tuple["Outcome", ...] = ()

    @property
    def points(self) -> str:
        """Which way it points: the verdict's own way where there is one."""
        return {REPRODUCED: FOR, CONTRADICTED: AGAINST}.get(self.verdict, self.leans)

    @property
    def shown(self) -> str:
        """The verdict as people read it: `inconclusive (1 training)` where more trainings could give another."""
        few = self.trainings is not None and self.trainings < ENOUGH_TRAININGS and self.enough_speakers
        waits = self.verdict == INCONCLUSIVE and few
        return f"{self.verdict} ({counted(self.trainings, 'training')})" if waits else self.verdict

    def to_json(self) -> dict:
        """The keys that `claims.json` has for a claim and for each of its parts."""
        effect = self.effect and {
            "name": self.effect.name,
            "value": self.effect.value,
            "unit": self.effect.unit,
            "interval": self.effect.interval and [*self.effect.interval],
            "own_interval": self.effect.own_interval and [*self.effect.own_interval],
            "half_width": self.effect.half_width,
            "published": self.effect.published,
        }
        keys = ("verdict", "shown", "points", "trainings", "margin", "p", "words_needed", "seeds_needed", "reason")
        behind = {"seeds": [*self.seeds], "words": self.words, "score": self.score}
        behind |= {"power": self.power and asdict(self.power)}
        return {"effect": effect, **{key: getattr(self, key) for key in keys}, **behind}

    @property
    def behind(self) -> str:
        """What is behind the verdict: `3 seeds (0, 1, 2), 30,120 words`; nothing where no training decides."""
        return shown_behind(self.seeds, self.words, self.score)


def shown_behind(seeds: Sequence[int], words: int | None, score: str) -> str:
    """Seeds and words (or characters, as `score` says): `3 seeds (0, 1, 2), 30,120 words`; nothing without seeds."""
    if not seeds:
        return ""
    said = f"{counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))})"
    return said if words is None else f"{said}, {words:,} {score}"


@dataclass(frozen=True)
class Judgement:
    """What one interval says: where it points, the verdict, and what would settle it where it points nowhere."""

    points: str
    verdict: str
    words_needed: int | None = None
    seeds_needed: int | None = None


def judge(
    estimate: Estimate,
    side: Literal["below", "above"],
    reproduced_at: float,
    contradicted_at: float,
    p: float | None = None,
) -> Judgement:
    """The verdict on "the figure lies on `side` of the bound", and the words and seeds that would settle it.

    `reproduced_at` and `contradicted_at` are the bound as either verdict sees it; they differ where a margin or a
    published effect lies between. With `p`, reproduced needs p < 0.05 as well.
    """
    if too_few_speakers(estimate):
        return Judgement(NEITHER, INCONCLUSIVE)
    points = pointing(estimate, side, reproduced_at, contradicted_at, p)
    verdict = VERDICT_OF[points] if estimate.seeds >= ENOUGH_TRAININGS else INCONCLUSIVE
    if verdict != INCONCLUSIVE:
        return Judgement(points, verdict)
    sign = 1.0 if side == "below" else -1.0
    words, seeds = [], []
    if points != AGAINST and sign * estimate.value < sign * reproduced_at:
        seeds.append(seeds_needed(estimate, reproduced_at, ENOUGH_TRAININGS))
        words.append(_larger(words_needed(estimate, reproduced_at), estimate.words, p))
    if points != FOR and sign * estimate.value > sign * contradicted_at:
        seeds.append(seeds_needed(estimate, contradicted_at, ENOUGH_TRAININGS))
        words.append(words_needed(estimate, contradicted_at))
    return Judgement(points, verdict, _least(words) if points == NEITHER else None, _least(seeds))


def too_few_speakers(estimate: Estimate) -> str:
    """Why there is no verdict, where speakers are too few or nobody named them; else nothing."""
    if not estimate.named:
        return f"the interval is over utterances, not over named speakers, of whom a verdict needs {FEW_UNITS}"
    if estimate.few_units:
        return (
            f"only {counted(estimate.units, estimate.noun.removesuffix('s'))}, and a verdict needs at least {FEW_UNITS}"
        )
    return ""


def pointing(estimate: Estimate, side: str, reproduced_at: float, contradicted_at: float, p: float | None) -> str:
    """Which way an interval points, whoever may say so: for a claim where it lies on `side` of the bound, with
    p < 0.05 where a test is asked for, against it where it lies on the other."""
    sign = 1.0 if side == "below" else -1.0
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if high < sign * reproduced_at and (p is None or p < ALPHA):
        return FOR
    return AGAINST if low > sign * contradicted_at else NEITHER


def _larger(by_interval: int | None, words: int, p: float | None) -> int | None:
    """What interval and test both need."""
    if p is None or by_interval is None:
        return by_interval
    by_p = words_needed_by_p(words, p)
    return None if by_p is None else max(by_interval, by_p)


def _least(numbers: Sequence[int | None]) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def clearance(estimate: Estimate, bound: float) -> float:
    """How far the interval keeps from `bound`, in its own widths: negative when the bound lies inside."""
    width = estimate.high - estimate.low
    gap = max(bound - estimate.high, estimate.low - bound)
    return gap / width if width else math.inf


def all_of(parts: Sequence[Outcome]) -> Outcome:
    """The verdict on a claim that needs all its parts; the effect shown is that of the part that decides.

    It points against the claim when one part does, for it when all do.
    """
    decisive = min(parts, key=_rank)
    open_parts = [part for part in parts if part.verdict == INCONCLUSIVE]
    pointing = {part.points for part in parts}
    return replace(
        decisive,
        name="",
        reason=_combined_reason(parts, decisive),
        leans=next(one for one in POINTING if one in pointing),
        words_needed=_most([p.words_needed for p in open_parts if p.points == NEITHER], decisive),
        seeds_needed=_most([p.seeds_needed for p in open_parts], decisive),
        parts=tuple(parts),
    )


def any_of(stricter: Sequence[Outcome], plain: Sequence[Outcome], level: float) -> Outcome:
    """The verdict on a claim of which one part is enough. `stricter` are the parts as an interval of `level`, corrected
    for how many there are, judges them: one of them makes it hold. `plain` are the same without a correction, which is
    not needed to say that none holds; parts that are not tested here leave that open.
    """
    tested = [pair for pair in zip(stricter, plain, strict=True) if pair[1].verdict != NOT_TESTED]
    if not tested:
        return Outcome(NOT_TESTED, plain[0].reason, parts=tuple(plain))
    holding = [pair for pair in tested if pair[0].points == FOR]
    none_holds = len(tested) == len(plain) and all(found.points == AGAINST for _, found in tested)
    corrected, shown = max(holding or tested, key=lambda pair: (POINTING.index(pair[0].points), pair[0].clearance))
    among = f"of {counted(len(tested), 'comparison')}, each at {100 * level:.3g} %"
    if holding:
        verdict, leans, reason = corrected.verdict, FOR, f"{among}, {len(holding)} hold; {corrected.reason}"
    elif none_holds:
        verdicts = {found.verdict for _, found in tested}
        verdict = CONTRADICTED if verdicts == {CONTRADICTED} else INCONCLUSIVE
        leans, reason = AGAINST, f"none holds; the closest: {shown.reason}"
    else:
        verdict, leans, reason = INCONCLUSIVE, NEITHER, f"{among}, none surely holds; the closest: {corrected.reason}"
    return replace(
        shown,
        name="",
        verdict=verdict,
        reason=reason,
        leans=leans,
        p=corrected.p,
        clearance=corrected.clearance,
        # Of one part's interval, and the claim needs any.
        power=None,
        words_needed=None,
        seeds_needed=None,
        parts=tuple(plain),
    )


def _most(needed: Sequence[int | None], decisive: Outcome) -> int | None:
    """What the hardest of several open parts needs, where the claim is open and each of them can be settled."""
    if decisive.verdict != INCONCLUSIVE or decisive.points == AGAINST or not needed or None in needed:
        return None
    return max(needed)


def _rank(part: Outcome) -> tuple[int, int, float]:
    """The worst verdict first; among equal ones the part that is least sure, among contradicted ones the surest."""
    sure = -part.clearance if part.points == AGAINST else part.clearance
    return DECIDING.index(part.verdict), POINTING.index(part.points), sure


def _combined_reason(parts: Sequence[Outcome], decisive: Outcome) -> str:
    if len(parts) == 1:
        return decisive.reason
    if decisive.verdict == REPRODUCED:
        return f"all {len(parts)} parts hold; the closest: {decisive.reason}"
    others = [f"{n} {verdict}" for verdict in VERDICTS if (n := sum(part.verdict == verdict for part in parts))]
    undecided = [part for part in parts if part.verdict == INCONCLUSIVE]
    ways = [f"{n} {way}" for way in (FOR, AGAINST) if (n := sum(part.points == way for part in undecided))]
    return f"{decisive.reason} (parts: {', '.join(others)}{'; pointing ' if ways else ''}{', '.join(ways)})"
