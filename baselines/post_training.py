"""Post-training quantisation: the weights of a trained system in 8 or 4 bits, rounded once, nothing trained.

    settings: {source: {system: f6}, bits: 8}
    settings: {source: {system: f6}, bits: 4, group: 32}

Weights only, symmetric: the matrices of the physical layers (linear maps, convolutions of width 1) in `bits`, those of
decoder and CTC layer in 8; convolutions of greater width, norms, biases and embeddings stay float32. int8 has one
float16 scale for each output channel, int4 one for each group of inputs (`methods.shared.packed`). The codes are packed
in `model.safetensors`; they are unpacked whenever a layer runs. A folded layer makes the same rounding error at each
of its executions.
"""

from typing import Any, Literal

from pydantic import Field
from torch import nn

from asr.settings import TrainingSettings
from methods.contract import Stage
from methods.shared.derived import Derived
from methods.shared.matrices import output_matrices
from methods.shared.packed import Packed

OUTPUT_BITS = 8
"""Of decoder and CTC layer, whatever the encoder has."""


class PostTraining(Derived):
    """The source with packed weights."""

    kind = "quantised"
    packs = True

    class Config(Derived.Config):
        bits: Literal[8, 4] = 8
        group: int = Field(32, gt=0)
        """Inputs that share a scale, of 4 bits."""

    def prepare(self, module: nn.Module) -> nn.Module:
        return self._with(module, Packed.of)

    def stages(self, training: TrainingSettings) -> list[Stage]:
        return []

    def outline(self) -> nn.Module | None:
        return self.made_by.outline()

    def reshape(self, module: nn.Module, form: dict[str, Any]) -> nn.Module:
        return self._with(module, Packed.like)

    def _with(self, module: nn.Module, make: Any) -> nn.Module:
        """The module with `make(dense, bits, group)` in place of each matrix."""
        inner, outer = self.matrices_to("quantise", module), output_matrices(module)
        group = None if self.config.bits == 8 else self.config.group
        for name, part in inner.items():
            module.set_submodule(name, make(part, self.config.bits, group))
        for name, part in outer.items():
            module.set_submodule(name, make(part, OUTPUT_BITS, None))
        return module
