"""What pruning methods have in common: what a target means, exact masks, and a module seen through them.

Pruned are single weights of the matrices of the physical layers (`methods.shared.matrices`); norms, biases, front end,
decoder and CTC layer are not. A *target* is the share of all parameters of the encoder that goes, front end included,
as arXiv 2505.22608 counts: 65 % of wav2vec2-base's encoder are 72.2 % of its matrices. A *sparsity* is a share of the
matrices alone.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from asr.backbones import Backbone, BackboneFactory
from common.errors import UserError
from methods.contract import number_of_weights
from methods.shared.matrices import matrices

SMALLEST_DEVIATION = 1e-8
"""Of a matrix of zeros, by which nothing is divided."""


def encoder_weights(module: Backbone) -> int:
    """Parameters of the encoder, front end included: all but those of the decoder and the CTC layer."""
    return number_of_weights(module) - sum(map(number_of_weights, module.output_modules()))


def pruned_weights(module: Backbone) -> int:
    """Weights of the matrices of the physical layers, from which all that goes is taken."""
    return sum(part.weight.numel() for part in matrices(module).values())


def gone_at(module: Backbone, target: float) -> int:
    """How many weights go when the share `target` of the encoder's parameters does. Raises `UserError` when the
    matrices hold too few."""
    whole, available = encoder_weights(module), pruned_weights(module)
    gone = round(target * whole)
    if gone >= available and target > 0:
        raise UserError(
            f"settings.target: {target:g} of the encoder's {whole:,} parameters cannot go; those of the matrices of "
            f"its physical layers, which are all that is pruned, are {available / whole:.4f} ({available:,}), and some "
            "have to stay"
        )
    return gone


def check_target(backbone: BackboneFactory, target: float) -> None:
    """`gone_at` for the backbone's shapes, before there are any weights."""
    gone_at(backbone.outline(), target)


@torch.no_grad()
def deviation(weight: Tensor) -> Tensor:
    """The standard deviation about zero of the weights that are not zero: how large a weight of this matrix is."""
    count = weight.count_nonzero().clamp(min=1)
    return (weight.double().square().sum() / count).sqrt().clamp(min=SMALLEST_DEVIATION).to(weight.dtype)


@torch.no_grad()
def highest(scores: Mapping[str, Tensor], kept: int) -> dict[str, Tensor]:
    """Masks of the `kept` highest of all scores together (float32, none negative): exactly so many, of equal ones the
    first."""
    # Numbers that are not negative have the order of their bits: 31 halvings find the lowest score that is kept,
    # without a copy of all of them to sort.
    ordered = {name: score.contiguous().view(torch.int32) for name, score in scores.items()}
    low, high = 0, 2**31 - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _number_above(ordered, middle) < kept else (middle + 1, high)
    masks = {name: each > low for name, each in ordered.items()}
    left = kept - _number_above(ordered, low)
    for name, each in ordered.items():
        ties = (each == low).flatten().nonzero().flatten()[:left] if left else ()
        if len(ties):
            masks[name].view(-1)[ties] = True
            left -= len(ties)
    return masks


def _number_above(ordered: Mapping[str, Tensor], bound: int) -> int:
    return int(torch.stack([(each > bound).sum() for each in ordered.values()]).sum())


def shares_of(module: Backbone, gone: int) -> dict[str, int]:
    """`gone` weights shared out among the matrices by their sizes: in each the same share, but for a weight, and
    exactly so many together."""
    sizes = {name: part.weight.numel() for name, part in matrices(module).items()}
    whole, seen, given, found = sum(sizes.values()), 0, 0, {}
    for name, size in sizes.items():
        seen += size
        found[name] = round(gone * seen / whole) - given
        given += found[name]
    return found


def masked(module: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masked weights by their names in the state dict, as `with_weights` takes them."""
    parts = matrices(module)
    return {f"{name}.weight": parts[name].weight * mask for name, mask in masks.items()}


@torch.no_grad()
def prune(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set what the masks leave out to zero, in place."""
    parts = matrices(module)
    for name, mask in masks.items():
        parts[name].weight.masked_fill_(~mask, 0.0)
