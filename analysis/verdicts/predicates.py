"""The closed vocabulary of claims: each predicate knows the rows it names and how to judge them.

Which rows, bounds and depths a paper speaks of is data (`claims.yaml`); a new kind of statement is a class here or, if
it is about WERs, in `analysis.verdicts.wer_predicates`. No training decides about parameters and costs, so one is
enough.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from analysis.verdicts.outcomes import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Effect, Outcome, all_of
from analysis.verdicts.statements import Predicate
from analysis.verdicts.wer_predicates import Better, GainsMore, NoLoss, SpreadBelow, WorseBy
from common.errors import unknown

Quantity = Literal[
    "parameters_stored", "parameters_nonzero", "parameters_executed", "stored_bytes", "macs", "peak_memory_bytes",
    "training_peak_memory_bytes", "training_seconds",
]  # fmt: skip
TOLERANCES = {"peak_memory_bytes": 0.02, "training_peak_memory_bytes": 0.02, "training_seconds": 0.1}
"""Shares by which measured costs may differ by chance: a peak repeats to 1 %, so a quotient of two to 2 %; times vary
more. What is counted is exact."""


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
