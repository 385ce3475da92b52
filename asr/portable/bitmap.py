"""Matrices of which only the weights that are not zero are stored: how they run. `methods.shared.bitmap` makes them.

A bit for each weight says whether it is zero, row by row, eight to a byte, the first in the lowest bit; the others
follow in the same order, in float32. Nothing is rounded: the dense weights come back as they were.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BitmapMatrix(nn.Module):
    """A linear map (or, with `pointwise`, a convolution of width 1) of which `kept` weights are not zero. Stands where
    the dense one stood; `weight` unpacks."""

    bitmap: Tensor
    values: Tensor

    def __init__(self, outputs: int, inputs: int, bias: bool, kept: int, pointwise: bool = False):
        super().__init__()
        self.outputs, self.inputs, self.kept, self.pointwise = outputs, inputs, kept, pointwise
        self.register_buffer("bitmap", torch.zeros(-(-outputs * inputs // 8), dtype=torch.uint8))
        self.register_buffer("values", torch.zeros(kept))
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False) if bias else None

    @classmethod
    def like(cls, part: nn.Linear | nn.Conv1d, kept: int) -> "BitmapMatrix":
        """An empty one in the shape of a dense one."""
        outputs, inputs = part.weight.shape[:2]
        return cls(outputs, inputs, part.bias is not None, kept, isinstance(part, nn.Conv1d))

    @property
    def weight(self) -> Tensor:
        """The dense weights."""
        held = unpack_bits(self.bitmap)[: self.outputs * self.inputs]
        dense = self.values.new_zeros(self.outputs * self.inputs).masked_scatter(held, self.values)
        shape = (self.outputs, self.inputs, 1) if self.pointwise else (self.outputs, self.inputs)
        return dense.view(shape)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        return F.conv1d(x, weight, self.bias) if self.pointwise else F.linear(x, weight, self.bias)


def place_bitmaps(module: nn.Module, kept: Mapping[str, int], kind: type[BitmapMatrix] = BitmapMatrix) -> None:
    """Put empty ones in the place of the dense matrices that `kept` names, each with its number of values."""
    for name, count in kept.items():
        module.set_submodule(name, kind.like(module.get_submodule(name), count))


def unpack_bits(packed: Tensor) -> Tensor:
    """Bytes as booleans, eight of each."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, None] >> places) & 1).bool().flatten()
