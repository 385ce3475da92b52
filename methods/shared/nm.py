"""N:M sparsity: of every M adjacent inputs of an output, at most N weights are not zero (2:4, say).

The pattern that sparse kernels know. Which N are kept goes by magnitude; of equal ones the lower index stays, so that
a mask follows from the weights alone.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.errors import UserError

COMPARED = 8
"""Up to so many numbers a group, comparing all pairs is faster than sorting."""


@torch.no_grad()
def keep_largest(weight: Tensor, n: int, m: int) -> Tensor:
    """A mask (bool, in the shape of `weight`: (outputs, inputs[, 1])) of the `n` largest magnitudes among every `m`
    adjacent inputs: exactly so many, of equal ones the first. `m` divides the inputs."""
    groups = weight.detach().abs().flatten(1).unflatten(1, (-1, m))
    if m <= COMPARED:
        return _ahead_of_fewer_than(n, groups).view_as(weight)
    order = groups.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :n], True)
    return kept.view_as(weight)


def _ahead_of_fewer_than(n: int, groups: Tensor) -> Tensor:
    """Which numbers of each group, the last dimension, have fewer than `n` ahead of them: greater ones, and equal ones
    that stand before. Every pair is compared once, over all groups at a time; there is nothing to sort."""
    if groups.is_floating_point():  # numbers that are not negative have the order of their bits, which is total
        groups = groups.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[groups.element_size()])
    places = groups.movedim(-1, 0).contiguous()
    ahead = torch.zeros(places.shape, dtype=torch.uint8, device=groups.device)
    for second in range(1, len(places)):
        for first in range(second):
            wins = places[first] >= places[second]
            ahead[second] += wins
            ahead[first] += ~wins
    return (ahead < n).movedim(0, -1).contiguous()


def check_rows(parts: Mapping[str, nn.Linear | nn.Conv1d], m: int) -> None:
    """Raise `UserError` naming a matrix whose rows groups of `m` inputs do not fill."""
    for name, part in parts.items():
        if part.weight.size(1) % m:
            raise UserError(
                f"settings.m: groups of {m} do not divide the {part.weight.size(1)} inputs of '{name}'; choose an M "
                "that divides the rows of all matrices, or another width of the backbone"
            )
