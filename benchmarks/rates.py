"""How many floating-point operations a piece of work takes, and how many a second the machine can do."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.comparison import Bench

SIDE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices whose product tells what the machine can do."""


def operations(work: Callable[[], Any]) -> int:
    """Of matrix products and convolutions, forward and backward; fused attention is not seen on a CPU."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@torch.inference_mode()
def matrix_rate(bench: Bench, dtype: torch.dtype, repeats: int = 10) -> float:
    """Floating-point operations a second of the product of two large square matrices, the median of some."""
    side = 64 if bench.quick else SIDE[bench.device.type]
    left, right = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    left @ right
    return 2 * side**3 / statistics.median(bench.seconds(lambda: left @ right) for _ in range(repeats))
