"""Weights in few bits, packed: a matrix as integer codes with float16 scales, and nothing else on disk.

Symmetric: weight = code * scale, codes from -(2^(bits-1) - 1) to 2^(bits-1) - 1, so zero stays zero. What `Packed.of`
rounds has in int8 a scale for each output channel, its largest weight over 127, and in int4 one for each group of so
many inputs of an output channel, the one of a grid that leaves the smallest squared error. Codes of fewer than 8 bits
share bytes. Where a group does not divide the inputs, the last one is padded with zeros. Of an N:M sparse matrix only
the n kept of every m are held, with their positions. How they run stands in `asr.portable.packed`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.portable.packed import PackedMatrix, bytes_of, position_bits, unpack
from methods.shared.nm import keep_largest
from methods.shared.views import Viewed

STEPS = 26
"""Scales that are tried for a group: from 0.5 to 1 times that which represents its largest weight."""
SMALLEST = 2.0**-24
"""The smallest positive float16: a scale of 0 would make codes of nothing."""


class Packed(Viewed, PackedMatrix):
    """A packed matrix that is made of a dense one, and counted."""

    @classmethod
    def of(cls, part: nn.Linear | nn.Conv1d, bits: int, group: int | None = None) -> "Packed":
        """The weights of a dense one, rounded; its bias as it is."""
        packed = cls.like(part, bits, group)
        weight = grouped(part.weight.detach().float().cpu(), packed.group)
        return packed.holding(part, *quantised(weight, bits, search=bits < 8))

    @torch.no_grad()
    def holding(self, part: nn.Linear | nn.Conv1d, numbers: Tensor, scales: Tensor | None = None) -> "Packed":
        """This one with `numbers` (outputs, padded inputs, in groups or not): codes with their `scales` (outputs,
        groups), or float32 values without; bias and device are those of `part`. Raises ValueError where N:M would
        lose a weight."""
        held = numbers.flatten(1).cpu()
        if self.m is not None:
            held, positions = kept_of(held, self.n, self.m)
            self.positions.copy_(pack_unsigned(positions, position_bits(self.m)))
        if scales is None:
            self.values.copy_(held)
        else:
            self.codes.copy_(pack(held, self.bits))
            self.scales.copy_(scales)
        if self.bias is not None:
            self.bias.copy_(part.bias)
        return self.to(part.weight.device)

    def weight_count(self) -> tuple[int, int]:
        """Weights that it stands for, and those that are not zero, biases aside: those are parameters."""
        numbers = self.values if self.bits is None else unpack(self.codes, self.bits)
        return self.outputs * self.inputs, int(numbers.count_nonzero())


def kept_of(numbers: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Of every `m` adjacent columns of (outputs, columns) the `n` that are held, in order, and their positions (uint8).
    Raises ValueError where more are not zero."""
    mask = keep_largest(numbers, n, m)
    if numbers[~mask].any():
        raise ValueError(f"more than {n} of {m} adjacent weights are not zero")
    places = torch.arange(m, dtype=torch.uint8).repeat(numbers.size(1) // m).expand_as(numbers)
    return numbers[mask].view(len(numbers), -1), places[mask].view(len(numbers), -1)


@torch.no_grad()
def rounded(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    """The weights of a matrix (outputs, inputs[, 1]) rounded as `Packed.of` rounds them, from 2 bits on, dense."""
    codes, scales = quantised(grouped(weight.float(), group or weight.size(1)), bits, search=bits < 8)
    dense = (codes * scales.float()[..., None]).flatten(1)[:, : weight.size(1)]
    return dense.reshape(weight.shape).to(weight.dtype)


def grouped(weight: Tensor, group: int) -> Tensor:
    """(outputs, groups, group), the last group padded with zeros."""
    flat = weight.flatten(1)
    return F.pad(flat, (0, -flat.size(1) % group)).view(flat.size(0), -1, group)


def largest_code(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def quantised(weight: Tensor, bits: int, search: bool) -> tuple[Tensor, Tensor]:
    """Codes (int8, in the shape of `weight`) and float16 scales (without its last dimension) of groups of weights, the
    last dimension. `search`: take the scale that leaves the smallest squared error, not that of the largest weight."""
    limit = largest_code(bits)
    largest = weight.abs().amax(-1)
    best_scale = as_stored(largest / limit)
    best_error = _error(weight, best_scale, limit)
    for share in torch.linspace(0.5, 1.0, STEPS)[:-1].tolist() if search else ():
        scale = as_stored(share * largest / limit)
        error = _error(weight, scale, limit)
        better = error < best_error
        best_scale, best_error = torch.where(better, scale, best_scale), torch.where(better, error, best_error)
    codes = (weight / best_scale[..., None]).round().clamp(-limit, limit)
    return codes.to(torch.int8), best_scale.half()


def as_stored(scale: Tensor) -> Tensor:
    """Scales as float16 holds them, in float32."""
    return scale.clamp(min=SMALLEST).half().float()


def _error(weight: Tensor, scale: Tensor, limit: int) -> Tensor:
    rounded = (weight / scale[..., None]).round().clamp(-limit, limit) * scale[..., None]
    return (rounded - weight).square().sum(-1)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes (outputs, inputs) as they are stored; `unpack` is the inverse."""
    if bits == 8:
        return codes
    codes = F.pad(codes, (0, -codes.size(1) % (8 // bits)))
    return pack_unsigned((codes.to(torch.int16) + 2 ** (bits - 1)).to(torch.uint8), bits)


def pack_unsigned(numbers: Tensor, bits: int) -> Tensor:
    """Numbers (outputs, columns) of 1 to 8 bits as bytes, the first in the lowest bits; `unpack_unsigned` is the
    inverse."""
    span = math.lcm(bits, 8)  # so many bits are whole bytes and whole numbers
    whole = F.pad(numbers, (0, -numbers.size(1) % (span // bits))).view(len(numbers), -1, span // bits)
    word = (whole.long() << torch.arange(0, span, bits, device=numbers.device)).sum(-1, keepdim=True)
    stored = ((word >> torch.arange(0, span, 8, device=numbers.device)) & 255).to(torch.uint8).flatten(1)
    return stored[:, : bytes_of(numbers.size(1), bits)]
