"""N:M sparsity: of every M adjacent inputs of an output, at most N weights are not zero (2:4, say).

The pattern that sparse kernels know. Which N are kept goes by magnitude; of equal ones the lower index stays, so that
a mask follows from the weights alone.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.errors import UserError


@torch.no_grad()
def keep_largest(weight: Tensor, n: int, m: int) -> Tensor:
    """A mask (bool, in the shape of `weight`: (outputs, inputs[, 1])) of the `n` largest magnitudes among every `m`
    adjacent inputs: exactly so many, of equal ones the first. `m` divides the inputs."""
    groups = weight.detach().abs().flatten(1).unflatten(1, (-1, m))
    order = groups.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :n], True)
    return kept.view_as(weight)


def check_rows(parts: Mapping[str, nn.Linear | nn.Conv1d], m: int) -> None:
    """Raise `UserError` naming a matrix whose rows groups of `m` inputs do not fill."""
    for name, part in parts.items():
        if part.weight.size(1) % m:
            raise UserError(
                f"settings.m: groups of {m} do not divide the {part.weight.size(1)} inputs of '{name}'; choose an M "
                "that divides the rows of all matrices, or another width of the backbone"
            )
