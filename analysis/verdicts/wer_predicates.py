"""The predicates about WERs: an effect in points, a sum of rows' WERs, is held against a bound.

`better` and `gains_more` state a direction: they hold above 0, and are contradicted below it. `worse_by`, `no_loss` and
`spread_below` state a bound, and hold beyond it. To be contradicted, the interval must lie beyond the other end of what
the statement leaves open:

    predicate              effect      reproduced       contradicted               … where nothing was published
    better, gains_more     gain        low > 0          high < 0                   high < 0
    worse_by               loss        low > margin     high < min(margin, pub.)   high < margin
    no_loss                loss        high < margin    low > max(margin, pub.)    low > margin
    spread_below           spread      high < bound     low > bound                (no paper prints one)

`pub.` is the same effect in the published table, where that bears the statement out. So a claim is never contradicted
by an interval that holds what the paper found, nor a direction for being small, and no interval both bears out and
contradicts: with more data an effect ends on one side. Where the margin is a share of a WER alone, the paper's share
lies beyond it too, and the margin is what contradicts: points of other WERs say nothing there.

A margin that is a share of a WER alone is as uncertain as that WER: of 20 % of 60 % that is much. So the interval is
that of loss minus share, shown beside the measured margin: it is not that of the loss, which stands in the tables. The
default margin, 0.3 points or 2 %, is taken at the measured WER.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field

from analysis.significance.contrasts import Estimate
from analysis.significance.power import Power, power_of, shown_ways
from analysis.verdicts.evidence import Evidence
from analysis.verdicts.frame import Margin
from analysis.verdicts.outcomes import (
    AGAINST,
    ENOUGH_TRAININGS,
    FOR,
    INCONCLUSIVE,
    NEITHER,
    Effect,
    Judgement,
    Outcome,
    clearance,
    judge,
    pointing,
    too_few_speakers,
)
from analysis.verdicts.statements import Predicate


@dataclass(frozen=True)
class Bounds:
    """What the effect is held against, in points; `published` is the paper's own effect."""

    margin: float
    reproduced_at: float
    contradicted_at: float
    published: float | None


class WerPredicate(Predicate):
    """A statement about WERs: an effect in points is held against a bound."""

    side: ClassVar[Literal["below", "above"]] = "above"
    noun: ClassVar[str] = "loss"
    directional: ClassVar[bool] = False
    """Whether it says no more than that there is an effect: then the margin is no part of the statement."""
    needs_p: ClassVar[bool] = False
    margin: Margin | None = None
    each_seed: bool = False
    """Asked of every training by itself too, not only of their mean."""
    sets: tuple[str, ...] | None = Field(None, min_length=1)
    """The sets whose errors are pooled; None: all test sets of the experiment."""

    @property
    def named_sets(self) -> tuple[str, ...]:
        return self.sets or ()

    @abstractmethod
    def terms(self) -> list[tuple[str, int]]:
        """The effect: rows and what their WERs are multiplied by before they are added up."""

    @abstractmethod
    def base(self) -> str:
        """The row whose WER a relative margin is a share of."""

    @abstractmethod
    def effect(self, evidence: Evidence) -> str:
        """What the effect is called."""

    def bound(self) -> Margin | None:
        """The margin of its own, or None for the file's."""
        return self.margin

    def _bound(self, evidence: Evidence) -> Margin:
        return self.bound() or evidence.margin

    def judged(self, evidence: Evidence) -> Outcome:
        seeds = evidence.common_seeds([*(row for row, _ in self.terms()), self.base()])
        whole = self._judged_over(evidence, seeds)
        if not self.each_seed or whole.points != FOR or len(seeds) == 1:
            return whole
        alone = [self._judged_over(evidence, [seed]) for seed in seeds]
        if all(one.points == FOR for one in alone):
            return whole
        short = sum(one.points != FOR for one in alone)
        values = ", ".join(f"{one.effect.value:+.2f}" for one in alone)
        reason = f"{whole.reason}; but {short} of {len(alone)} trainings alone do not show it (by seed: {values})"
        return replace(whole, verdict=INCONCLUSIVE, leans=NEITHER, reason=reason, seeds_needed=None)

    def _judged_over(self, evidence: Evidence, seeds: Sequence[int]) -> Outcome:
        estimate, wer, p = self.measured(evidence, seeds)
        bounds = self.bounds(evidence, wer)
        tested = p if self.needs_p else None
        found = judge(estimate, self.side, bounds.reproduced_at, bounds.contradicted_at, tested)
        decided_at = bounds.contradicted_at if found.points == AGAINST else bounds.reproduced_at
        interval = (estimate.low, estimate.high)
        name, enough = self.effect(evidence) + self.on, not too_few_speakers(estimate)
        power = self._power(estimate, bounds) if enough else None
        return Outcome(
            found.verdict,
            self._reason(found, estimate, bounds, p, evidence.score)
            + self._reached(found, estimate, bounds, power, evidence.score),
            name=self.said(evidence),
            leans=found.points,
            trainings=len(seeds),
            seeds=tuple(seeds),
            words=estimate.words,
            score=evidence.score,
            enough_speakers=enough,
            power=power,
            effect=Effect(name, estimate.value, "points", interval, estimate.own, bounds.published),
            margin=None if self.directional else bounds.margin,
            p=p,
            words_needed=found.words_needed,
            seeds_needed=found.seeds_needed,
            clearance=clearance(estimate, decided_at),
        )

    def _power(self, estimate: Estimate, bounds: Bounds) -> Power | None:
        """The power against that end of what is left open on whose side the effect lies; None in between, and of one
        training, which says nothing of what another gives."""
        if estimate.seeds == 1:
            return None
        sign = 1.0 if self.side == "below" else -1.0
        for bound, beyond in ((bounds.reproduced_at, -1.0), (bounds.contradicted_at, 1.0)):
            if beyond * sign * estimate.value > beyond * sign * bound:
                return power_of(estimate, bound, ENOUGH_TRAININGS)
        return None

    def _reached(self, found: Judgement, estimate: Estimate, bounds: Bounds, power: Power | None, score: str) -> str:
        """What is said beside the reason; nothing but where a margin is all that is claimed, see `NoLoss`."""
        return ""

    def measured(self, evidence: Evidence, seeds: Sequence[int]) -> tuple[Estimate, float, float | None]:
        """The effect, the WER that a relative margin is a share of, and p where a single seed compares two rows."""
        rows, coefficients = zip(*self.terms(), strict=True)
        base, wer = self.base(), evidence.wer(self.base(), seeds, self.sets)
        bound = self._bound(evidence)
        share = bound.relative if bound.is_share and not self.directional else 0.0
        held = [c - share * (row == base) for row, c in zip(rows, coefficients, strict=True)]
        estimate = evidence.contrast(rows, held, seeds, self.sets).plus(share * wer)
        p = evidence.p(*rows, seeds[0], self.sets) if len(rows) == 2 and len(seeds) == 1 else None
        return estimate, wer, p

    def published(self, evidence: Evidence) -> float | None:
        """The effect in the published tables; None where they do not print it, or do not bear the statement out."""
        rows, coefficients = zip(*self.terms(), strict=True)
        wers = [evidence.published_wer(row, self.sets) for row in (*rows, self.base())]
        if None in wers:
            return None
        effect = sum(c * wer for c, wer in zip(coefficients, wers[:-1], strict=True))
        bound = 0.0 if self.directional else self._bound(evidence).points(wers[-1])
        borne_out = effect < bound if self.side == "below" else effect > bound
        return round(effect, 6) if borne_out else None

    def bounds(self, evidence: Evidence, wer: float) -> Bounds:
        """The bounds beside a WER in percent, see the module."""
        bound, published = self._bound(evidence), self.published(evidence)
        margin = bound.points(wer)
        if self.directional:
            return Bounds(margin, 0.0, 0.0, published)
        if published is None or bound.is_share:
            return Bounds(margin, margin, margin, published)
        farther = max if self.side == "below" else min
        return Bounds(margin, margin, farther(margin, published), published)

    def _reason(self, found: Judgement, estimate: Estimate, bounds: Bounds, p: float | None, score: str) -> str:
        few = too_few_speakers(estimate)
        # Where speakers are too few to point, the reason still says on which side the interval lies.
        points = pointing(estimate, self.side, bounds.reproduced_at, bounds.contradicted_at, p) if few else found.points
        text = self._finding(points, estimate, bounds)
        if self.side == "below" and p is not None and estimate.low > 0 and points != AGAINST:
            text += "; this training surely loses, but not surely more than the margin"
        if few:
            text += f"; {few}"
        elif estimate.seeds < ENOUGH_TRAININGS and found.points != NEITHER:
            text += f"; a verdict needs {ENOUGH_TRAININGS} trainings, not {estimate.seeds}"
        elif found.points == NEITHER:
            text += "; " + _what_would_settle(found, estimate, score)
        return text + (f"; {estimate.pool.note}" if estimate.pool else "")

    def _finding(self, points: str, estimate: Estimate, bounds: Bounds) -> str:
        other = {"above": "below", "below": "above"}[self.side]
        interval, published = f"interval of the {self.noun}", bounds.published
        if points == FOR:
            return f"the whole {interval} lies {self.side} {bounds.reproduced_at:.2f}"
        if points == AGAINST:
            papers = ", what the paper found" if bounds.contradicted_at == published else ""
            return f"the whole {interval} lies {other} {bounds.contradicted_at:.2f}{papers}"
        if self.side == "above" and estimate.high < bounds.margin and estimate.low <= bounds.reproduced_at:
            short = f"below the margin of {bounds.margin:.2f}"
            if published is not None and estimate.high < published and self.directional:
                short += f" and below the paper's {published:.2f}"
            elif published is not None:
                short += f", but {_beside(estimate, published)}"
            also = "" if not self.directional else ", and includes 0.00"
            return f"the whole {interval} lies {short}{also}"
        if self.side == "below" and estimate.low > bounds.margin and published is not None:
            return (
                f"the whole {interval} lies above the margin of {bounds.margin:.2f}, but {_beside(estimate, published)}"
            )
        if self.needs_p and estimate.low > bounds.reproduced_at:
            return f"the interval excludes {bounds.reproduced_at:.0f}, but the test finds no significance"
        return f"the {interval} includes {bounds.reproduced_at:.2f}"


def _beside(estimate: Estimate, published: float) -> str:
    """Where the effect that the paper found lies: in the interval, or on that side of it where it shows nothing."""
    if estimate.low <= published <= estimate.high:
        return f"holds the paper's {published:.2f}"
    return f"not {'above' if estimate.high < published else 'below'} the paper's {published:.2f} points"


def _what_would_settle(found: Judgement, estimate: Estimate, score: str) -> str:
    """Test words (characters, where `score` says so) or training seeds, at the power of `analysis.significance.power`,
    that would settle what points nowhere."""
    few = estimate.seeds < ENOUGH_TRAININGS
    ways = shown_ways(found.words_needed, found.seeds_needed, score, (estimate.words, estimate.seeds))
    if ways is None:
        alone = f"more test {score} alone" if few else f"neither more test {score} nor more trainings alone"
        return f"{alone} would {'not ' if few else ''}settle it"
    does = "show which way it points" if few else "settle it"
    return f"{ways} would {does}" + (", with a power of 80 %" if not few else "")


class NoLoss(WerPredicate):
    """The row's WER exceeds another's by less than the margin."""

    kind = "no_loss"
    side = "below"
    row: str
    against: str

    def terms(self):
        return [(self.row, 1), (self.against, -1)]

    def base(self):
        return self.against

    def name(self, evidence):
        return f"{evidence.label(self.row)} loses nothing against {evidence.label(self.against)}"

    def effect(self, evidence):
        return f"{evidence.rate} of {evidence.label(self.row)} minus {evidence.label(self.against)}"

    def _reached(self, found, estimate, bounds, power, score):
        """The margin, the half-width that was reached, and what gives a power of 80 %: an interval longer than the
        margin can hardly bear out that nothing is lost."""
        half = (estimate.high - estimate.low) / 2
        text = f"; margin {bounds.margin:.2f}, half-width {half:.2f}"
        if too_few_speakers(estimate):
            return text
        if estimate.seeds == 1:
            return f"{text}; one training says nothing of its power"
        if power is None:
            return f"{text}; the loss lies between margin and published effect: nothing settles that"
        text += f"; power {100 * power.now:.0f} %"
        ways = shown_ways(power.words, power.seeds, score)
        said = found.points == NEITHER  # what would settle it was said already
        return text if said or not ways else f"{text}, 80 % from {ways} on"


class Better(WerPredicate):
    """The row's WER is lower, significantly so."""

    kind = "better"
    noun = "gain"
    directional = True
    needs_p = True
    row: str
    than: str

    def terms(self):
        return [(self.than, 1), (self.row, -1)]

    def base(self):
        return self.than

    def name(self, evidence):
        return f"{evidence.label(self.row)} is better than {evidence.label(self.than)}"

    def effect(self, evidence):
        return f"{evidence.rate} of {evidence.label(self.than)} minus {evidence.label(self.row)}"


class WorseBy(WerPredicate):
    """The row's WER is higher than another's by more than `at_least`."""

    kind = "worse_by"
    row: str
    than: str
    at_least: Margin | None = None

    def bound(self):
        return self.at_least or self.margin

    def terms(self):
        return [(self.row, 1), (self.than, -1)]

    def base(self):
        return self.than

    def name(self, evidence):
        return f"{evidence.label(self.row)} is worse than {evidence.label(self.than)}"

    def effect(self, evidence):
        return f"{evidence.rate} of {evidence.label(self.row)} minus {evidence.label(self.than)}"


class SpreadBelow(WerPredicate):
    """The WERs of all offered paths of the row's depth have a standard deviation below a bound."""

    kind = "spread_below"
    side = "below"
    noun = "spread"
    row: str
    below: Margin | None = None

    def bound(self):
        return self.below or self.margin

    def terms(self):
        return []

    def base(self):
        return self.row

    def measured(self, evidence, seeds):
        return *evidence.path_spread(self.row, seeds, self.sets), None

    def published(self, evidence):
        return None

    def name(self, evidence):
        return f"the paths of {evidence.label(self.row)} differ little"

    def effect(self, evidence):
        return f"standard deviation over the paths of {evidence.label(self.row)}, chance taken off"


class GainsMore(WerPredicate):
    """Going from the first row to the second of `first` gains more WER than doing so in `second`."""

    kind = "gains_more"
    noun = "difference of gains"
    directional = True
    first: tuple[str, str]
    second: tuple[str, str]

    def rows(self):
        yield from ((key, row, self.named_sets) for key in ("first", "second") for row in getattr(self, key))

    def terms(self):
        (a, b), (c, d) = self.first, self.second
        return [(a, 1), (b, -1), (c, -1), (d, 1)]

    def base(self):
        return self.second[1]

    def name(self, evidence):
        (a, b), (c, d) = ([evidence.label(row) for row in pair] for pair in (self.first, self.second))
        return f"{a} to {b} gains more than {c} to {d}"

    def effect(self, evidence):
        (a, b), (c, d) = ([evidence.label(row) for row in pair] for pair in (self.first, self.second))
        return f"gain from {a} to {b} minus gain from {c} to {d}"
