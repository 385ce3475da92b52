"""Precisions that are nested in one 8-bit code: the h most significant bits of a code are the code of h bits.

    q = round(w / s), -127 to 127                                         one code for all precisions
    w_h = s * (floor(q / 2^k) * 2^k + (2^k - 1) / 2),  k = 8 - h          the centre of the bin that h bits leave

Truncating again changes nothing: the 2 bits of 4 bits are the 2 bits of 8. `floor` leaves the centre out, which shifts
every weight by half a bin. s is the largest weight of an output channel, or of the whole matrix, over 127.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from methods.shared.fakequant import coded
from methods.shared.packed import Packed

BITS = 8
"""Of the code that holds all others."""

Scales = Literal["channel", "tensor"]
Reconstruction = Literal["centre", "floor"]


@torch.no_grad()
def codes_of(part: nn.Module, scales: Scales) -> tuple[Tensor, Tensor]:
    """Codes (outputs, inputs), whole numbers in float32, and scales (outputs, 1) of a matrix; of one that is packed in
    8 bits those that it holds."""
    if isinstance(part, Packed) and (part.bits, part.groups, part.m) == (BITS, 1, None):
        return part.codes.float(), part.scales.float()
    weight = part.weight.detach().flatten(1)
    codes, found = coded(weight if scales == "channel" else weight.reshape(1, -1), BITS)
    return codes.view_as(weight).float(), found.float().expand(len(weight), 1)


def most_significant(codes: Tensor, bits: int) -> Tensor:
    """The code of so many bits in one of 8: -2^(bits - 1) to 2^(bits - 1) - 1."""
    return torch.floor(codes / 2 ** (BITS - bits))


def value_of(code: Tensor, bits: int, reconstruction: Reconstruction = "centre") -> Tensor:
    """What a code of so many bits stands for, in steps of the 8-bit code."""
    step = 2 ** (BITS - bits)
    return code * step + (0 if reconstruction == "floor" else (step - 1) / 2)


def packed_codes(part: nn.Linear | nn.Conv1d, scales: Scales) -> Packed:
    """A dense matrix as its 8-bit codes, in the form of `Packed`."""
    return Packed.like(part, BITS).holding(part, *codes_of(part, scales))
