"""Weights in few bits, packed: a matrix as integer codes with float16 scales, and nothing else on disk.

Symmetric: weight = code * scale, codes from -(2^(bits-1) - 1) to 2^(bits-1) - 1, so zero stays zero. int8 has a scale
for each output channel, its largest weight over 127. int4 has one for each group of so many inputs of an output
channel, the one of a grid that leaves the smallest squared error; two codes share a byte. Where a group does not divide
the inputs, the last one is padded with zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 26
"""Scales that are tried for a group: from 0.5 to 1 times that which represents its largest weight."""
SMALLEST = 2.0**-24
"""The smallest positive float16: a scale of 0 would make codes of nothing."""


class Packed(nn.Module):
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
    def like(cls, part: nn.Linear | nn.Conv1d, bits: int, group: int | None = None) -> "Packed":
        """An empty one in the shape of a dense one."""
        outputs, inputs = part.weight.shape[:2]
        return cls(outputs, inputs, part.bias is not None, bits, group, isinstance(part, nn.Conv1d))

    @classmethod
    @torch.no_grad()
    def of(cls, part: nn.Linear | nn.Conv1d, bits: int, group: int | None = None) -> "Packed":
        """The weights of a dense one, rounded; its bias as it is."""
        packed = cls.like(part, bits, group)
        codes, scales = quantised(_grouped(part.weight.detach().float().cpu(), packed.group), bits, search=bits < 8)
        packed.scales.copy_(scales)
        packed.codes.copy_(pack(codes.flatten(1), bits))
        if packed.bias is not None:
            packed.bias.copy_(part.bias)
        return packed.to(part.weight.device)

    @property
    def weight(self) -> Tensor:
        """The dense weights, in float32."""
        codes = unpack(self.codes, self.bits)[:, : self.groups * self.group]
        grouped = codes.view(self.outputs, self.groups, self.group).float() * self.scales.float()[:, :, None]
        weight = grouped.flatten(1)[:, : self.inputs]
        return weight[:, :, None] if self.pointwise else weight

    def forward(self, x: Tensor) -> Tensor:
        if self.pointwise:
            return F.conv1d(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)

    def weight_count(self) -> tuple[int, int]:
        """Weights that are held, and those that are not zero, biases aside: those are parameters."""
        return self.outputs * self.inputs, int(unpack(self.codes, self.bits).count_nonzero())

    def packed_bits(self) -> int:
        """Of the file: codes, padding and scales."""
        return 8 * sum(tensor.numel() * tensor.element_size() for tensor in (self.codes, self.scales))


@torch.no_grad()
def rounded(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    """The weights of a matrix (outputs, inputs[, 1]) rounded as `Packed` rounds them, from 2 bits on, dense."""
    codes, scales = quantised(_grouped(weight.float(), group or weight.size(1)), bits, search=bits < 8)
    dense = (codes * scales.float()[..., None]).flatten(1)[:, : weight.size(1)]
    return dense.reshape(weight.shape).to(weight.dtype)


def _grouped(weight: Tensor, group: int) -> Tensor:
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
    best_scale = _as_stored(largest / limit)
    best_error = _error(weight, best_scale, limit)
    for share in torch.linspace(0.5, 1.0, STEPS)[:-1].tolist() if search else ():
        scale = _as_stored(share * largest / limit)
        error = _error(weight, scale, limit)
        better = error < best_error
        best_scale, best_error = torch.where(better, scale, best_scale), torch.where(better, error, best_error)
    codes = (weight / best_scale[..., None]).round().clamp(-limit, limit)
    return codes.to(torch.int8), best_scale.half()


def _as_stored(scale: Tensor) -> Tensor:
    return scale.clamp(min=SMALLEST).half().float()


def _error(weight: Tensor, scale: Tensor, limit: int) -> Tensor:
    rounded = (weight / scale[..., None]).round().clamp(-limit, limit) * scale[..., None]
    return (rounded - weight).square().sum(-1)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes (outputs, inputs) as they are stored: of 4 bits two in a byte, the first in its lower half."""
    if bits == 8:
        return codes
    codes = F.pad(codes, (0, codes.size(1) % 2))
    halves = (codes.to(torch.int16) + 8).to(torch.uint8).view(codes.size(0), -1, 2)
    return halves[..., 0] | (halves[..., 1] << 4)


def unpack(stored: Tensor, bits: int) -> Tensor:
    """The inverse of `pack`, int8; of 4 bits with a column more where there was an odd number."""
    if bits == 8:
        return stored
    halves = torch.stack([stored & 15, stored >> 4], -1).flatten(1)
    return halves.to(torch.int8) - 8
