"""The closed vocabulary of claims: each predicate knows the rows it names and how to judge them.

Which rows, bounds and depths a paper speaks of is data (`claims.yaml`); a new kind of statement is a class here or, if
it is about WERs, in `analysis.verdicts.wer_predicates`. No training decides about parameters and costs, so one is
enough.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from analysis.verdicts.outcomes import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_TESTED,
    REPRODUCED,
    Effect,
    NotTestedHere,
    Outcome,
    all_of,
    any_of,
)
from analysis.verdicts.statements import Predicate
from analysis.verdicts.wer_predicates import Better, GainsMore, NoLoss, SpreadBelow, WorseBy
from common.errors import unknown

Quantity = Literal[
    "parameters_stored", "parameters_nonzero", "parameters_executed", "stored_bytes", "bits_a_weight", "macs",
    "peak_memory_bytes", "training_peak_memory_bytes", "training_seconds",
]  # fmt: skip
OF_TRAINING = ("training_peak_memory_bytes", "training_seconds")
"""What the points of one training have in common: of several of them it counts once."""
TOLERANCES = {"peak_memory_bytes": 0.02, "training_peak_memory_bytes": 0.02, "training_seconds": 0.1}
"""Shares by which measured costs may differ by chance: a peak repeats to 1 %, so a quotient of two to 2 %; times vary
more. What is counted is exact."""


Rows = Annotated[
    tuple[str, ...], BeforeValidator(lambda rows: (rows,) if isinstance(rows, str) else rows), Field(min_length=1)
]
"""A row, or several."""


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

    Either may be several rows, whose costs are added up: the trainings of systems that one other replaces, say.

    A quotient nearer to `times` than the tolerance is inconclusive: another measurement might fall on its other side.
    A tolerance that moved the bound instead would decide just such cases, always for the same side.
    """

    kind = "costs_at_most"
    quantity: Quantity
    row: Rows
    of: Rows
    times: float = Field(1.0, gt=0)
    tolerance: float | None = Field(None, ge=0, lt=1)
    """As a share of `times`; None: that of `TOLERANCES`, for times at least the spread of the measured steps."""

    def rows(self):
        yield from ((key, row, ()) for key in ("row", "of") for row in getattr(self, key))

    @property
    def noun(self) -> str:
        """The quantity in words."""
        first, *_, last = self.quantity.split("_") if self.quantity.startswith("parameters") else ("", self.quantity)
        return f"{last} {first}".replace("_", " ").strip()

    def judged(self, evidence):
        if self.quantity == "training_seconds":
            _on_one_machine(evidence, (*self.row, *self.of))
        ours, theirs = (self._cost(evidence, rows) for rows in (self.row, self.of))
        tolerance, bound = self._tolerance(evidence), self.times * theirs
        if ours <= bound * (1 - tolerance):
            verdict = REPRODUCED
        else:
            verdict = CONTRADICTED if ours > bound * (1 + tolerance) else INCONCLUSIVE
        ours_named, theirs_named = (_labels(evidence, rows) for rows in (self.row, self.of))
        name = f"{self.noun} of {ours_named} by that of {theirs_named}"
        return Outcome(
            verdict,
            self._reason_for(verdict, ours, theirs, tolerance),
            name=self.name(evidence),
            effect=Effect(name, ours / theirs, "times"),
            margin=self.times,
        )

    def _cost(self, evidence, rows: tuple[str, ...]) -> float:
        """The sum over rows."""
        found = {row: evidence.cost(row, self.quantity) for row in rows}
        if self.quantity in OF_TRAINING:
            found = {evidence.row(row).row.system: cost for row, cost in found.items()}
        return sum(found.values())

    def _tolerance(self, evidence) -> float:
        if self.tolerance is not None:
            return self.tolerance
        stated = TOLERANCES.get(self.quantity, 0.0)
        if self.quantity != "training_seconds":
            return stated
        return max(stated, *(evidence.cost(row, "training_seconds_spread") for row in (*self.row, *self.of)))

    def _reason_for(self, verdict: str, ours: float, theirs: float, tolerance: float) -> str:
        figures = (f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in (ours, theirs))
        text = f"{self.noun}: {' against '.join(figures)}"
        if not tolerance:
            return text
        text += f", {ours / theirs:.3f} times, known to {100 * tolerance:.2g} %"
        return f"{text}: too near to {self.times:g} to tell" if verdict == INCONCLUSIVE else text

    def name(self, evidence):
        times = "no more than" if self.times == 1 else f"at most {self.times:g} times"
        return f"{self.noun} of {_labels(evidence, self.row)}: {times} those of {_labels(evidence, self.of)}"


def _on_one_machine(evidence, rows: tuple[str, ...]) -> None:
    """Raises `NotTestedHere` for times of several machines."""
    machines = dict.fromkeys(evidence.machine(row) for row in rows)
    if len(machines) > 1:
        raise NotTestedHere(f"times were measured on several machines: {'; '.join(machines)}")


def _labels(evidence, rows: tuple[str, ...]) -> str:
    return " + ".join(map(evidence.label, rows))


class SparsityDiffers(Predicate):
    """The matrices of the row have unequal shares of zeros: the densest and the sparsest differ by `at_least`."""

    kind = "sparsity_differs"
    row: str
    at_least: float = Field(gt=0, lt=1)

    def judged(self, evidence):
        shares = evidence.matrix_zeros(self.row)
        found, wanted = 100.0 * (max(shares) - min(shares)), 100.0 * self.at_least
        return Outcome(
            REPRODUCED if found >= wanted else CONTRADICTED,
            f"{100 * min(shares):.1f} to {100 * max(shares):.1f} % zeros in {len(shares)} matrices",
            name=self.name(evidence),
            effect=Effect(f"range of the zeros in matrices of {evidence.label(self.row)}", found, "%"),
            margin=wanted,
        )

    def name(self, evidence):
        return f"matrices of {evidence.label(self.row)} differ in sparsity"


class Several(Predicate):
    """A statement made of several."""

    parts: tuple["AnyPredicate", ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"parts": value} if isinstance(value, list) else value

    def rows(self):
        for number, part in enumerate(self.parts):
            yield from ((f"{number}.{part.kind}.{key}", row, sets) for key, row, sets in part.rows())


class AllOf(Several):
    """Every one of several statements holds."""

    kind = "all_of"

    def judged(self, evidence):
        leaves: list[Outcome] = []
        for part in self.parts:
            outcome = part.outcome(evidence)
            leaves += outcome.parts if isinstance(part, AllOf) else [outcome]
        return all_of(leaves)

    def name(self, evidence):
        return "all of them hold"


class AnyOf(Several):
    """At least one of several statements holds.

    Who looks at several finds one by chance more easily: Bonferroni's correction makes the interval, and the test, that
    each is held against stricter. That none of them holds needs no correction.
    """

    kind = "any_of"

    def judged(self, evidence):
        plain = [part.outcome(evidence) for part in self.parts]
        tested = sum(outcome.verdict != NOT_TESTED for outcome in plain)
        stricter = evidence.among(max(1, tested))
        return any_of([part.outcome(stricter) for part in self.parts], plain, stricter.level)

    def name(self, evidence):
        return "one of them holds"


KINDS = {
    kind.kind: kind
    for kind in (
        NoLoss,
        Better,
        WorseBy,
        SpreadBelow,
        GainsMore,
        FewerParameters,
        CostsAtMost,
        SparsityDiffers,
        AllOf,
        AnyOf,
    )
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
AnyOf.model_rebuild()
