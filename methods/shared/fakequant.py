"""Rounding in training: weights in few bits in the forward pass, the gradient of the weights themselves behind it.

Symmetric, weight = code * scale, codes from -(2^(bits-1) - 1) to 2^(bits-1) - 1, one scale for each output channel or
group of inputs: its largest magnitude stands for the largest code, so nothing is clipped. In 2 bits that leaves three
values. Codes are rounded half up. Scales are brought to float16, as `methods.shared.packed` stores them, before codes
are taken, so that what is trained is what is packed, bit for bit; upwards, so that the largest weight fits. No gradient
goes through them.
"""

import torch
from torch import Tensor

from methods.shared.packed import as_stored, grouped, largest_code


def straight_through(value: Tensor, weight: Tensor) -> Tensor:
    """`value`, exactly, with the gradient that `weight` would have in its place (both in one shape)."""
    return value.detach() + (weight - weight.detach())


def half_up(x: Tensor) -> Tensor:
    """The nearest whole number, of two the greater one."""
    return (x + 0.5).floor()


def stored_above(scale: Tensor) -> Tensor:
    """The least float16 that is not below a scale, in float32."""
    nearest = as_stored(scale).half()
    above = (nearest.view(torch.int16) + 1).view(torch.float16)
    return torch.where(nearest < scale, above, nearest).float()


@torch.no_grad()
def coded(weight: Tensor, bits: int, group: int | None = None) -> tuple[Tensor, Tensor]:
    """Codes (int8; (outputs, groups, group), the last group padded with zeros) and float16 scales (outputs, groups) of
    a matrix (outputs, inputs[, 1]). `group`: the inputs that share a scale; None: all of an output channel."""
    parts = grouped(weight.detach().float(), group or weight.size(1))
    limit = largest_code(bits)
    scales = stored_above(parts.abs().amax(-1) / limit)
    codes = half_up(parts / scales[..., None]).clamp(-limit, limit)
    return codes.to(torch.int8), scales.half()


@torch.no_grad()
def fake_quantised(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    """The values that `coded` weights stand for, in the shape of `weight`."""
    codes, scales = coded(weight, bits, group)
    dense = (codes.float() * scales.float()[..., None]).flatten(1)[:, : weight.size(1)]
    return dense.reshape(weight.shape).to(weight.dtype)
