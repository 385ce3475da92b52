"""Which positions of padded rows are real. Lengths stand on the host: whoever knows them there never waits for a
device to say them."""

import torch
from torch import Tensor


def before_the_end(lengths: Tensor, size: int, device: torch.device) -> Tensor:
    """(batch, size) bool on `device`: whether a position lies before the end of its row, of `lengths` (batch,)
    positions, which stand on the host."""
    ends = lengths.to(device, non_blocking=True)
    return torch.arange(size, device=device)[None, :] < ends[:, None]
