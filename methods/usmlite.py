"""Low-bit and N:M sparse at once, in fine-tuning (USM-Lite, arXiv 2312.08553).

    settings: {source: {system: f6}, bits: 4, n: 2, m: 4}
    settings: {source: {system: f6}, n: 2, m: 4}
    settings: {source: {system: f6}, bits: 8}

The matrices of the physical layers are pruned first and rounded then, whenever the source's losses read them: of every
`m` adjacent inputs of an output channel the `n` largest magnitudes stay, and what is left becomes codes of `bits` bits,
with one scale for each channel. Gradients go through the rounding as if it were not there, and not to pruned weights
(`sr_ste` lets them). The module that is trained stays dense and float32, so masks and scales follow from the weights at
every step, and in the end from the averaged ones; then it is packed: codes, scales and, for N:M, the positions of what
is kept. int4 with 2:4 takes 3 bits a weight, 9.375 % of float32, scales aside. A folded layer is rounded once and makes
the same error at each of its executions.

`docs/methods/usmlite.md` says what is published, what is ours, and why.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from asr.backbones import Batch
from common.errors import UserError
from methods.contract import Method, Step
from methods.shared.derived import Derived
from methods.shared.fakequant import coded, fake_quantised, straight_through
from methods.shared.matrices import matrices, output_matrices, packed_matrices
from methods.shared.nm import check_rows, keep_largest
from methods.shared.packed import Packed
from methods.shared.views import with_weights

LARGEST_M = 256
"""Positions of at most 8 bits."""


class UsmLite(Derived):
    """The source with its matrices in few bits, N:M sparse, or both."""

    kind = "quantised and sparse"

    class Config(Derived.Config):
        bits: Literal[8, 4, 2] | None = None
        """Of the matrices of the physical layers; None: float32."""
        n: int | None = Field(None, ge=1)
        """Weights that are kept of every `m` adjacent inputs; None: all."""
        m: int | None = Field(None, ge=2, le=LARGEST_M)
        group: int | None = Field(None, gt=0)
        """Inputs that share a scale (sub-channels); None: all of an output channel."""
        masks: Literal["each_step", "once"] = "each_step"
        """When it is chosen what is kept: anew in every forward pass, or once, from the source's weights."""
        sr_ste: float = Field(0.0, ge=0)
        """Above 0: pruned weights are trained too, with the gradient of their places, and shrink with this weight
        (lambda_W of SR-STE, arXiv 2102.04010, which takes 2e-4)."""
        output_bits: Literal[8, 4, 2] | None = None
        """Of the matrices of decoder and CTC layer, never pruned; None: float32."""

        @model_validator(mode="after")
        def _fits(self) -> "UsmLite.Config":
            if (self.n is None) != (self.m is None):
                raise ValueError("n and m belong together: of every m adjacent inputs n are kept; name both or neither")
            if self.m is not None and self.n >= self.m:
                raise ValueError(f"n: {self.n} of {self.m} would prune nothing; n is less than m")
            if self.group is not None and self.bits is None:
                raise ValueError("group: without bits there are no scales that inputs could share")
            if self.group is not None and self.m is not None and self.group % self.m:
                raise ValueError(f"group: {self.group} inputs are no whole groups of m: {self.m}")
            if self.sr_ste and (self.m is None or self.masks == "once"):
                raise ValueError("sr_ste: it needs weights that are pruned and may come back (n, m, masks: each_step)")
            return self

    @property
    def packs(self) -> bool:
        """Unless nothing is compressed: then the finished module is as plain as the source's."""
        return any(value is not None for value in (self.config.bits, self.config.m, self.config.output_bits))

    def check_sources(self, sources: Mapping[str, Method]) -> None:
        super().check_sources(sources)
        if self.packs and self.source_has_sub_nets:
            raise UserError(
                f"settings.source: points of '{self.config.source.system}' round or slice its matrices themselves, "
                "which would run otherwise once they are packed; name a source whose points are paths"
            )

    def check(self) -> None:
        if self.config.m is not None:
            with torch.device("meta"):
                check_rows(matrices(self.backbone.build()), self.config.m)

    @torch.no_grad()
    def prepare(self, module: nn.Module) -> nn.Module:
        parts = self.matrices_to("compress", module)
        if self.config.m is not None:
            check_rows(parts, self.config.m)
            if self.config.masks == "once":  # zeros that training begins with are kept
                for part in parts.values():
                    part.weight.masked_fill_(~keep_largest(part.weight, self.config.n, self.config.m), 0.0)
        return module

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        """The source's, of the weights that will be packed, on the dev set too."""
        terms = with_weights(module, self.views(module), super().losses, batch, step)
        if self.config.sr_ste and step.training:
            decay = self.config.sr_ste / 2 * self._pruned(module)
            terms = {**terms, "sr_ste": decay, "total": terms["total"] + decay}
        return terms

    def views(self, module: nn.Module) -> dict[str, Tensor]:
        """The weights that run, by their names in `module`: as they will be packed, with gradients to its own."""
        everywhere = self.config.sr_ste > 0
        return {
            f"{name}.weight": compressed(module.get_submodule(name).weight, **form, all_gradients=everywhere)
            for name, form in self._forms(module).items()
        }

    def _pruned(self, module: nn.Module) -> Tensor:
        """The squares of all pruned weights, added up."""
        weights = [part.weight for part in matrices(module).values()]
        return sum((weight * ~keep_largest(weight, self.config.n, self.config.m)).square().sum() for weight in weights)

    @torch.no_grad()
    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        for name, form in self._forms(module).items():
            module.set_submodule(name, packed(module.get_submodule(name), **form))
        return module

    def as_trained(self, module: nn.Module) -> nn.Module:
        for name, part in packed_matrices(module).items():
            module.set_submodule(name, part.dense())
        return module

    def form(self, module: nn.Module) -> dict[str, Any]:
        return {"packed": bool(packed_matrices(module))}

    def outline(self) -> nn.Module | None:
        return self.made_by.outline()

    def reshape(self, module: nn.Module, form: dict[str, Any]) -> nn.Module:
        if form["packed"]:
            for name, each in self._forms(module).items():
                module.set_submodule(name, Packed.like(module.get_submodule(name), **each))
        return module

    def _forms(self, module: nn.Module) -> dict[str, dict[str, int | None]]:
        """How each matrix that is compressed will be held, by its name in a dense `module`."""
        config, forms = self.config, {}
        if config.bits is not None or config.m is not None:
            for name, part in matrices(module).items():
                group = None if config.group is None else min(config.group, part.weight.size(1))
                forms[name] = {"bits": config.bits, "group": group, "n": config.n, "m": config.m}
        if config.output_bits is not None:
            forms |= {name: {"bits": config.output_bits} for name in output_matrices(module)}
        return forms


def compressed(
    weight: Tensor,
    bits: int | None,
    group: int | None = None,
    n: int | None = None,
    m: int | None = None,
    all_gradients: bool = False,
) -> Tensor:
    """The values of a matrix (outputs, inputs[, 1]) when it is pruned and rounded. Gradients go to what is kept, as if
    nothing were rounded; with `all_gradients` to all weights, as if nothing were pruned either."""
    kept = weight if m is None else weight * keep_largest(weight, n, m)
    values = kept if bits is None else fake_quantised(kept, bits, group)
    return straight_through(values, weight if all_gradients else kept)


@torch.no_grad()
def packed(
    part: nn.Linear | nn.Conv1d, bits: int | None, group: int | None = None, n: int | None = None, m: int | None = None
) -> Packed:
    """A matrix that holds what `compressed` gives of a dense one."""
    kept = part.weight if m is None else part.weight * keep_largest(part.weight, n, m)
    empty = Packed.like(part, bits, group, n, m)
    return empty.holding(part, *((kept.float(),) if bits is None else coded(kept, bits, group)))
