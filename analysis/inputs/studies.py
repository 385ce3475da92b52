"""What was measured of systems beside WERs and costs, as typed objects: sensitivities, what errors in weights do."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from analysis.inputs.schemas import Read
from analysis.scoring.counts import Counts


class LeftOut(Read):
    """The errors of a model without one of its layers, numbered from 1."""

    layer: int
    counts: Counts

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        return {"layer": value.get("layer"), "counts": value} if isinstance(value, dict) else value

    @field_validator("counts", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return _counts(value)


class Sensitivity(Read):
    """`sensitivity.json`: the errors of a system with each of its layers left out, and the order in which they go."""

    system: str
    seed: int
    physical_layers: int = Field(ge=1)
    decode: str
    set: str
    full: Counts
    without: list[LeftOut]
    """One for each layer, in order."""
    drop_order: list[int]
    """All layers, the least harmful removal first."""

    @field_validator("full", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return _counts(value)

    @model_validator(mode="after")
    def _is_complete(self) -> "Sensitivity":
        layers = list(range(1, self.physical_layers + 1))
        if [variant.layer for variant in self.without] != layers:
            raise ValueError(f"without: needs one entry for each of the layers 1 to {self.physical_layers}, in order")
        if sorted(self.drop_order) != layers:
            raise ValueError(f"drop_order: must name each of the layers 1 to {self.physical_layers} once")
        if any(counts.ref_words != self.full.ref_words for counts in (variant.counts for variant in self.without)):
            raise ValueError("without: all variants must be counted on the same words as the full model")
        return self

    def rank(self, layer: int) -> int:
        """When a layer is dropped: 1 for the one whose removal hurts least."""
        return self.drop_order.index(layer) + 1


class ErrorEffect(Read):
    """What errors in the weights did: to the CTC distributions, in nats a frame; to the CTC loss, in nats a token; to
    the words."""

    error: str = "none"
    """`noise` of the size of rounding to `bits`, or `rounding` to them."""
    bits: int | None = None
    draw: int = 0
    executions: str = "same"
    """Whether a layer had the `same` errors at all its executions or new ones at `each`."""
    divergence: float
    ctc_loss: float
    ctc_rise: float
    counts: Counts

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        return {**value, "counts": _counts(value)} if isinstance(value, dict) else value


class ErrorsAtPoint(Read):
    """The effects of errors at one trained path."""

    path: tuple[int, ...]
    depth: int
    without: ErrorEffect
    errors: list[ErrorEffect] = Field(min_length=1)


class WeightErrors(Read):
    """`weight_errors.json`: what errors in the weights of a system do to its output on the dev set."""

    system: str
    seed: int
    set: str
    draws: int
    noise_bits: int
    points: list[ErrorsAtPoint] = Field(min_length=1)


def _counts(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    try:
        counts = Counts.from_json(value)
    except (KeyError, TypeError) as error:
        raise ValueError(f"needs the numbers sub, del, ins and ref_words ({error})") from None
    if not counts.ref_words:
        raise ValueError("holds no word, so there is no word error rate")
    return counts
