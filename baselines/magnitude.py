"""Magnitude pruning, one-shot and uniform: of each matrix of the physical layers the smallest weights become zero.

    settings: {source: {system: f6}, sparsity: 0.5}

Then training goes on with the source's own losses, at all its trained points, and pruned weights stay zero. How long
and at which rate is said by the system's `training`; after pruning a fifth of the source's steps and of its rate is
usual. The file keeps zeros as they are: what is saved is `nonzero` parameters, not bytes.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from common.errors import UserError
from methods.shared.derived import Derived
from methods.shared.matrices import matrices


class Magnitude(Derived):
    """The source with the given share of each matrix set to zero by magnitude, and trained on."""

    kind = "pruned"

    class Config(Derived.Config):
        sparsity: float = Field(0.5, ge=0, lt=1)
        """Share of the weights of each matrix that become zero."""

    @torch.no_grad()
    def prepare(self, module: nn.Module) -> nn.Module:
        if not (parts := matrices(module)):
            raise UserError(f"settings.source: '{self.config.source.system}' has no physical layers to prune")
        for part in parts.values():
            part.weight.masked_fill_(~largest(part.weight, self.config.sparsity), 0.0)
        return module


def largest(weight: Tensor, sparsity: float) -> Tensor:
    """A mask of what is left of a matrix when the share `sparsity` of its weights, those of smallest magnitude, goes:
    exactly so many, of equal magnitudes the last ones first."""
    gone = round(sparsity * weight.numel())
    order = weight.abs().flatten().argsort(descending=True, stable=True)
    kept = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    kept[order[: weight.numel() - gone]] = True
    return kept.view_as(weight)
