"""Matrices whose weights are packed in few bits, or few of them held: how they run. `methods.shared.packed` makes them.

weight = code * scale, with a float16 scale for each group of inputs of an output channel. Codes of 8 bits are int8; of
fewer, 8 / bits share a byte, each 2^(bits - 1) more than it stands for, the first in the lowest bits. The last group of
a row is padded.

N:M: of every m adjacent inputs, n are held, in their order, and behind each stands its position among the m, of
ceil(log2 m) bits, packed in the same way; all others are zero. Without bits what is held are float32 values.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BITS = (2, 4, 8)


class PackedMatrix(nn.Module):
    """A linear map (or, with `pointwise`, a convolution of width 1) whose weights are packed. Stands where the dense
    one stood; `weight` unpacks."""

    codes: Tensor
    scales: Tensor
    values: Tensor
    positions: Tensor

    def __init__(
        self,
        outputs: int,
        inputs: int,
        bias: bool,
        bits: int | None,
        group: int | None = None,
        pointwise: bool = False,
        n: int | None = None,
        m: int | None = None,
    ):
        super().__init__()
        if bits not in (*BITS, None):
            raise ValueError(f"codes of {bits} bits; there are those of 2, 4 and 8")
        if (n is None) != (m is None) or (bits is None and m is None):
            raise ValueError(f"bits {bits} and {n}:{m} say nothing that could be packed")
        self.outputs, self.inputs, self.bits, self.pointwise = outputs, inputs, bits, pointwise
        self.n, self.m = n, m
        self.group = inputs if group is None else group
        self.groups = -(-inputs // self.group)
        if m is not None and (not 1 <= n < m <= 256 or self.group % m):
            raise ValueError(f"{n}:{m} does not fit groups of {self.group} inputs")
        if bits is None:
            self.register_buffer("values", torch.zeros(outputs, self.held))
        else:
            codes = torch.int8 if bits == 8 else torch.uint8
            self.register_buffer("codes", torch.zeros(outputs, bytes_of(self.held, bits), dtype=codes))
            self.register_buffer("scales", torch.ones(outputs, self.groups, dtype=torch.float16))
        if m is not None:
            columns = bytes_of(self.held, position_bits(m))
            self.register_buffer("positions", torch.zeros(outputs, columns, dtype=torch.uint8))
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False) if bias else None

    @classmethod
    def like(
        cls,
        part: nn.Linear | nn.Conv1d,
        bits: int | None,
        group: int | None = None,
        n: int | None = None,
        m: int | None = None,
    ) -> "PackedMatrix":
        """An empty one in the shape of a dense one."""
        outputs, inputs = part.weight.shape[:2]
        return cls(outputs, inputs, part.bias is not None, bits, group, isinstance(part, nn.Conv1d), n, m)

    @property
    def form(self) -> dict[str, int | None]:
        """What `like` needs to know beside the dense one."""
        sparse = {} if self.m is None else {"n": self.n, "m": self.m}
        return {"bits": self.bits, "group": self.group, **sparse}

    @property
    def padded(self) -> int:
        """Inputs, those of a last group that is not full included."""
        return self.groups * self.group

    @property
    def held(self) -> int:
        """Weights of an output that are held: all, or n of every m."""
        return self.padded if self.m is None else self.padded // self.m * self.n

    @property
    def weight(self) -> Tensor:
        """The dense weights, in float32."""
        held = self.values if self.bits is None else self._decoded()
        if self.m is not None:
            places = unpack_unsigned(self.positions, position_bits(self.m))[:, : self.held].long()
            blocks = held.new_zeros(self.outputs, self.padded // self.m, self.m)
            shape = (self.outputs, -1, self.n)
            held = blocks.scatter(-1, places.view(shape), held.view(shape)).flatten(1)
        weight = held[:, : self.inputs]
        return weight[:, :, None] if self.pointwise else weight

    def _decoded(self) -> Tensor:
        """What the codes stand for, (outputs, held)."""
        codes = unpack(self.codes, self.bits)[:, : self.held]
        grouped = codes.view(self.outputs, self.groups, -1).float() * self.scales.float()[:, :, None]
        return grouped.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        return F.conv1d(x, weight, self.bias) if self.pointwise else F.linear(x, weight, self.bias)


def place_packed(module: nn.Module, forms: Mapping[str, Mapping[str, Any]]) -> None:
    """Put empty packed matrices in the place of the dense ones that `forms` names, each in its form."""
    for name, form in forms.items():
        module.set_submodule(name, PackedMatrix.like(module.get_submodule(name), **form))


def bytes_of(count: int, bits: int) -> int:
    """Bytes that so many numbers of `bits` bits take."""
    return -(-count * bits // 8)


def position_bits(m: int) -> int:
    """Bits of a position among `m`."""
    return (m - 1).bit_length()


def unpack(stored: Tensor, bits: int) -> Tensor:
    """Stored codes as int8, (outputs, inputs); of fewer than 8 bits with columns more where they do not fill a byte."""
    if bits == 8:
        return stored
    return unpack_unsigned(stored, bits).to(torch.int8) - 2 ** (bits - 1)


def unpack_unsigned(stored: Tensor, bits: int) -> Tensor:
    """Numbers of 1 to 8 bits from bytes (outputs, bytes), the first from the lowest bits; with columns more where they
    do not fill a byte."""
    if 8 % bits == 0:
        parts = [(stored >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
        return torch.stack(parts, -1).flatten(1)
    span = math.lcm(bits, 8)  # so many bits are whole bytes and whole numbers
    whole = F.pad(stored, (0, -stored.size(1) % (span // 8))).view(len(stored), -1, span // 8)
    word = (whole.long() << torch.arange(0, span, 8, device=stored.device)).sum(-1, keepdim=True)
    return ((word >> torch.arange(0, span, bits, device=stored.device)) & (2**bits - 1)).to(torch.uint8).flatten(1)
