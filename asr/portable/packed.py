"""Matrices whose weights are packed in few bits: how they run. `methods.shared.packed` makes them.

weight = code * scale, with a float16 scale for each group of inputs of an output channel. Codes of 8 bits are int8; of
4 bits two share a byte, each 8 more than it stands for, the first in the lower half. The last group of a row is padded.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PackedMatrix(nn.Module):
    """A linear map (or, with `pointwise`, a convolution of width 1) whose weights are packed. Stands where the dense
    one stood; `weight` unpacks."""

    codes: Tensor
    scales: Tensor

    def __init__(
        self, outputs: int, inputs: int, bias: bool, bits: int, group: int | None = None, pointwise: bool = False
    ):
        super().__init__()
        if bits not in (4, 8):
            raise ValueError(f"codes of {bits} bits; there are those of 4 and 8")
        self.outputs, self.inputs, self.bits, self.pointwise = outputs, inputs, bits, pointwise
        self.group = inputs if group is None else group
        self.groups = -(-inputs // self.group)
        padded = self.groups * self.group
        columns = padded if bits == 8 else -(-padded // 2)
        self.register_buffer("codes", torch.zeros(outputs, columns, dtype=torch.int8 if bits == 8 else torch.uint8))
        self.register_buffer("scales", torch.ones(outputs, self.groups, dtype=torch.float16))
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False) if bias else None

    @classmethod
    def like(cls, part: nn.Linear | nn.Conv1d, bits: int, group: int | None = None) -> "PackedMatrix":
        """An empty one in the shape of a dense one."""
        outputs, inputs = part.weight.shape[:2]
        return cls(outputs, inputs, part.bias is not None, bits, group, isinstance(part, nn.Conv1d))

    @property
    def form(self) -> dict[str, int]:
        """What `like` needs to know beside the dense one."""
        return {"bits": self.bits, "group": self.group}

    @property
    def weight(self) -> Tensor:
        """The dense weights, in float32."""
        codes = unpack(self.codes, self.bits)[:, : self.groups * self.group]
        grouped = codes.view(self.outputs, self.groups, self.group).float() * self.scales.float()[:, :, None]
        weight = grouped.flatten(1)[:, : self.inputs]
        return weight[:, :, None] if self.pointwise else weight

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        return F.conv1d(x, weight, self.bias) if self.pointwise else F.linear(x, weight, self.bias)


def place_packed(module: nn.Module, forms: Mapping[str, Mapping[str, Any]]) -> None:
    """Put empty packed matrices in the place of the dense ones that `forms` names, each in its form."""
    for name, form in forms.items():
        module.set_submodule(name, PackedMatrix.like(module.get_submodule(name), **form))


def unpack(stored: Tensor, bits: int) -> Tensor:
    """Stored codes as int8, (outputs, inputs); of 4 bits with a column more where there was an odd number."""
    if bits == 8:
        return stored
    halves = torch.stack([stored & 15, stored >> 4], -1).flatten(1)
    return halves.to(torch.int8) - 8
