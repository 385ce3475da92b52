"""The closed vocabulary of claims: each predicate knows the rows it names and how to judge them.

Which rows, bounds and depths a paper speaks of is data (`claims.yaml`); a new kind of statement is a class here. WERs
are pooled over the test sets and averaged over the training seeds; MAPSSWE (exact below 30 segments) belongs to one
seed.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from analysis.contrasts import Estimate
from analysis.evidence import Evidence
from analysis.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_TESTED,
    REPRODUCED,
    Effect,
    NotTestedHere,
    Outcome,
    all_of,
    clearance,
    judge,
)
from common.errors import unknown
from common.settings import Settings

Quantity = Literal[
    "parameters_stored", "parameters_nonzero", "parameters_executed", "stored_bytes", "macs", "peak_memory_bytes",
    "training_peak_memory_bytes", "training_seconds",
]  # fmt: skip
TOLERANCES = {"peak_memory_bytes": 0.02, "training_peak_memory_bytes": 0.02, "training_seconds": 0.1}
"""Shares by which measured costs may differ by chance: a peak repeats to 1 %, so a quotient of two to 2 %; times vary
more. What is counted is exact."""


class Margin(Settings):
    """A difference of WER that does not matter: the larger of points and of a share of another row's WER."""

    absolute: float = Field(0.0, ge=0)
    relative: float = Field(0.0, ge=0)

    def points(self, wer: float) -> float:
        """The margin in points beside a WER in percent."""
        return max(self.absolute, self.relative * wer)


class Predicate(Settings):
    """One statement. `rows` are all the rows it names, by the key that names them."""

    kind: ClassVar[str]

    def rows(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """`(key, table row, sets that are named for it)` of everything it names."""
        keys = [key for key in ("row", "against", "than", "of") if hasattr(self, key)]
        yield from ((key, getattr(self, key), self.named_sets) for key in keys)

    def outcome(self, evidence: Evidence) -> Outcome:
        """The verdict; *not tested here* where the experiment lacks something."""
        try:
            return self.judged(evidence)
        except NotTestedHere as missing:
            return Outcome(NOT_TESTED, str(missing), name=self.said(evidence))

    @abstractmethod
    def judged(self, evidence: Evidence) -> Outcome:
        """The verdict. Raises `NotTestedHere`."""

    @abstractmethod
    def name(self, evidence: Evidence) -> str:
        """The statement in a few words."""

    @property
    def named_sets(self) -> tuple[str, ...]:
        """The sets that it asks for; none where all test sets are meant, or no set at all."""
        return ()

    @property
    def on(self) -> str:
        """Where it is judged, as sentences end; nothing for all test sets."""
        return f" on {', '.join(self.named_sets)}" if self.named_sets else ""

    def said(self, evidence: Evidence) -> str:
        """The statement, and where it is judged."""
        return self.name(evidence) + self.on


class WerPredicate(Predicate):
    """A statement about WERs: an effect in points is held against a bound."""

    side: ClassVar[Literal["below", "above"]] = "above"
    margin: Margin | None = None
    each_seed: bool = False
    sets: tuple[str, ...] | None = Field(None, min_length=1)
    """The sets whose errors are pooled; None: all test sets of the experiment."""

    @property
    def named_sets(self) -> tuple[str, ...]:
        return self.sets or ()

    def judged(self, evidence: Evidence) -> Outcome:
        if not self.each_seed or len(evidence.seeds) == 1:
            return self._judged_over(evidence, evidence.seeds)
        return all_of([self._judged_over(evidence, [seed]) for seed in evidence.seeds])

    def _judged_over(self, evidence: Evidence, seeds: Sequence[int]) -> Outcome:
        estimate, wer, p = self.measured(evidence, seeds)
        margin = (self.bound() or evidence.margin).points(wer)
        reproduced_at, contradicted_at = self.bounds(margin)
        verdict, words = judge(estimate, self.side, reproduced_at, contradicted_at, p if self.needs_p else None)
        shown = f" (seed {seeds[0]})" if self.each_seed and len(evidence.seeds) > 1 else ""
        return Outcome(
            verdict,
            self._reason(verdict, estimate, margin, p, words),
            name=self.said(evidence) + shown,
            effect=Effect(self.effect(evidence) + self.on, estimate.value, "points", (estimate.low, estimate.high)),
            margin=margin,
            p=p,
            words_needed=words,
            clearance=clearance(estimate, contradicted_at if verdict == CONTRADICTED else reproduced_at),
        )

    needs_p: ClassVar[bool] = False
    noun: ClassVar[str] = "loss"

    def bound(self) -> Margin | None:
        """The margin of its own, or None for the file's."""
        return self.margin

    def bounds(self, margin: float) -> tuple[float, float]:
        """Where the interval must lie beyond, to be reproduced and to be contradicted, in points."""
        return margin, margin

    @abstractmethod
    def measured(self, evidence: Evidence, seeds: Sequence[int]) -> tuple[Estimate, float, float | None]:
        """The effect, the WER that a relative margin is a share of, and p where two systems are compared."""

    @abstractmethod
    def effect(self, evidence: Evidence) -> str:
        """What the effect is called."""

    def _reason(self, verdict: str, found: Estimate, margin: float, p: float | None, words: int | None) -> str:
        holds, bound = {"above": "above", "below": "below"}[self.side], self.bounds(margin)[0]
        other = "below" if holds == "above" else "above"
        if verdict == REPRODUCED:
            text = f"the whole interval of the {self.noun} lies {holds} {bound:.2f}"
        elif verdict == CONTRADICTED:
            text = f"the whole interval of the {self.noun} lies {other} {self.bounds(margin)[1]:.2f}"
        elif self.needs_p and found.low > bound:
            text = "the interval excludes 0, but the test finds no significance"
        else:
            text = f"the interval of the {self.noun} includes {bound:.2f}"
        if self.side == "below" and p is not None and found.low > 0 and verdict != CONTRADICTED:
            text += "; that there is a loss is certain, not that it exceeds the margin"
        if verdict == INCONCLUSIVE:
            text += (
                f"; about {shown_words(words)} test words (now {shown_words(found.words)}) would settle it"
                if words
                else (
                    "; more test words alone would not settle it"
                    + (": more seeds are needed" if found.seeds > 1 else "")
                )
            )
        return text + (f"; weak, only {found.units} speakers" if found.few_units else "")


class NoLoss(WerPredicate):
    """The row's WER exceeds another's by less than the margin."""

    kind = "no_loss"
    side = "below"
    row: str
    against: str

    def measured(self, evidence, seeds):
        return evidence.difference(self.row, self.against, seeds, self.sets)

    def name(self, evidence):
        return f"{evidence.label(self.row)} loses nothing against {evidence.label(self.against)}"

    def effect(self, evidence):
        return f"WER of {evidence.label(self.row)} minus {evidence.label(self.against)}"


class Better(WerPredicate):
    """The row's WER is lower, significantly so; contradicted where the gain is certain to be below the margin."""

    kind = "better"
    needs_p = True
    noun = "gain"
    row: str
    than: str

    def bounds(self, margin):
        return 0.0, margin

    def measured(self, evidence, seeds):
        estimate, _, p = evidence.difference(self.than, self.row, seeds, self.sets)
        return estimate, evidence.wer(self.than, seeds, self.sets), p

    def name(self, evidence):
        return f"{evidence.label(self.row)} is better than {evidence.label(self.than)}"

    def effect(self, evidence):
        return f"WER of {evidence.label(self.than)} minus {evidence.label(self.row)}"


class WorseBy(WerPredicate):
    """The row's WER is higher than another's by more than `at_least`."""

    kind = "worse_by"
    row: str
    than: str
    at_least: Margin | None = None

    def bound(self):
        return self.at_least or self.margin

    def measured(self, evidence, seeds):
        return evidence.difference(self.row, self.than, seeds, self.sets)

    def name(self, evidence):
        return f"{evidence.label(self.row)} is worse than {evidence.label(self.than)}"

    def effect(self, evidence):
        return f"WER of {evidence.label(self.row)} minus {evidence.label(self.than)}"


class SpreadBelow(WerPredicate):
    """The WERs of all offered paths of the row's depth have a standard deviation below a bound."""

    kind = "spread_below"
    side = "below"
    noun = "spread"
    row: str
    below: Margin | None = None

    def bound(self):
        return self.below or self.margin

    def measured(self, evidence, seeds):
        return *evidence.path_spread(self.row, seeds, self.sets), None

    def name(self, evidence):
        return f"the paths of {evidence.label(self.row)} differ little"

    def effect(self, evidence):
        return f"standard deviation over the paths of {evidence.label(self.row)}, chance taken off"


class GainsMore(WerPredicate):
    """Going from the first row to the second of `first` gains more WER than doing so in `second`."""

    kind = "gains_more"
    noun = "difference of gains"
    first: tuple[str, str]
    second: tuple[str, str]

    def rows(self):
        yield from ((key, row, self.named_sets) for key in ("first", "second") for row in getattr(self, key))

    def bounds(self, margin):
        return 0.0, margin

    def measured(self, evidence, seeds):
        estimate = evidence.contrast([*self.first, *self.second], [1, -1, -1, 1], seeds, self.sets)
        return estimate, evidence.wer(self.second[1], seeds, self.sets), None

    def name(self, evidence):
        (a, b), (c, d) = ([evidence.label(row) for row in pair] for pair in (self.first, self.second))
        return f"{a} to {b} gains more than {c} to {d}"

    def effect(self, evidence):
        (a, b), (c, d) = ([evidence.label(row) for row in pair] for pair in (self.first, self.second))
        return f"gain from {a} to {b} minus gain from {c} to {d}"


class FewerParameters(Predicate):
    """The row stores fewer parameters than another, by a share of at least `at_least`."""

    kind = "fewer_parameters"
    row: str
    than: str
    at_least: float = Field(gt=0, lt=1)

    def judged(self, evidence):
        ours, theirs = (evidence.cost(row, "parameters_stored") for row in (self.row, self.than))
        saved, wanted = 100.0 * (1 - ours / theirs), 100.0 * self.at_least
        name = f"parameters that {evidence.label(self.row)} saves of {evidence.label(self.than)}"
        return Outcome(
            REPRODUCED if saved >= wanted else CONTRADICTED,
            f"{ours:,} against {theirs:,} parameters: {saved:.1f} % fewer",
            name=self.name(evidence),
            effect=Effect(name, saved, "%"),
            margin=wanted,
        )

    def name(self, evidence):
        share = f"{100 * self.at_least:g} %"
        return f"{evidence.label(self.row)} has {share} fewer parameters than {evidence.label(self.than)}"


class CostsAtMost(Predicate):
    """A measured cost of the row is at most `times` that of another.

    A quotient nearer to `times` than the tolerance is inconclusive: another measurement might fall on its other side.
    A tolerance that moved the bound instead would decide just such cases, always for the same side.
    """

    kind = "costs_at_most"
    quantity: Quantity
    row: str
    of: str
    times: float = Field(1.0, gt=0)
    tolerance: float | None = Field(None, ge=0, lt=1)
    """As a share of `times`; None: that of `TOLERANCES`, for times at least the spread of the measured steps."""

    @property
    def noun(self) -> str:
        """The quantity in words."""
        first, *_, last = self.quantity.split("_") if self.quantity.startswith("parameters") else ("", self.quantity)
        return f"{last} {first}".replace("_", " ").strip()

    def judged(self, evidence):
        ours, theirs = (evidence.cost(row, self.quantity) for row in (self.row, self.of))
        tolerance, bound = self._tolerance(evidence), self.times * theirs
        if ours <= bound * (1 - tolerance):
            verdict = REPRODUCED
        else:
            verdict = CONTRADICTED if ours > bound * (1 + tolerance) else INCONCLUSIVE
        name = f"{self.noun} of {evidence.label(self.row)} by that of {evidence.label(self.of)}"
        return Outcome(
            verdict,
            self._reason_for(verdict, ours, theirs, tolerance),
            name=self.name(evidence),
            effect=Effect(name, ours / theirs, "times"),
            margin=self.times,
        )

    def _tolerance(self, evidence) -> float:
        if self.tolerance is not None:
            return self.tolerance
        stated = TOLERANCES.get(self.quantity, 0.0)
        if self.quantity != "training_seconds":
            return stated
        return max(stated, *(evidence.cost(row, "training_seconds_spread") for row in (self.row, self.of)))

    def _reason_for(self, verdict: str, ours: float, theirs: float, tolerance: float) -> str:
        figures = (f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in (ours, theirs))
        text = f"{self.noun}: {' against '.join(figures)}"
        if not tolerance:
            return text
        text += f", {ours / theirs:.3f} times, known to {100 * tolerance:.2g} %"
        return f"{text}: too near to {self.times:g} to tell" if verdict == INCONCLUSIVE else text

    def name(self, evidence):
        times = "no more than" if self.times == 1 else f"at most {self.times:g} times"
        return f"{self.noun} of {evidence.label(self.row)}: {times} those of {evidence.label(self.of)}"


class AllOf(Predicate):
    """Every one of several statements holds."""

    kind = "all_of"
    parts: tuple["AnyPredicate", ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"parts": value} if isinstance(value, list) else value

    def rows(self):
        for number, part in enumerate(self.parts):
            yield from ((f"{number}.{part.kind}.{key}", row, sets) for key, row, sets in part.rows())

    def judged(self, evidence):
        outcomes = [part.outcome(evidence) for part in self.parts]
        return all_of([leaf for outcome in outcomes for leaf in (outcome.parts or (outcome,))])

    def name(self, evidence):
        return "all of them hold"


KINDS = {
    kind.kind: kind for kind in (NoLoss, Better, WorseBy, SpreadBelow, GainsMore, FewerParameters, CostsAtMost, AllOf)
}


def _one_kind(value: Any) -> Any:
    """`{no_loss: {…}}` as the predicate of that kind. Raises `ValueError` for an unknown kind, naming the closest."""
    if isinstance(value, Predicate):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"a predicate is one of {', '.join(KINDS)}, with its settings")
    kind, settings = next(iter(value.items()))
    if kind not in KINDS:
        raise ValueError(str(unknown("predicate", str(kind), KINDS)))
    return KINDS[kind].model_validate(settings)


AnyPredicate = Annotated[Predicate, BeforeValidator(_one_kind)]
AllOf.model_rebuild()


def shown_words(words: int) -> str:
    """A number of words as sentences print it: two significant digits above 100, thousands apart."""
    digits = len(str(words)) - 2
    return f"{round(words, -digits) if digits > 0 else words:,}"
