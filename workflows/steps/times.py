"""Times of pieces of work that take turns, so that a machine that is slower for a while is so for all of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def in_turns(runs: Sequence[Callable[[], Any]], warm_up: int, repeats: int, device: torch.device) -> list[list[float]]:
    """Seconds of `repeats` calls of each, after `warm_up` calls that are not counted."""
    rounds = [[timed(each, device) for each in runs] for _ in range(warm_up + repeats)]
    return [list(times) for times in zip(*rounds[warm_up:], strict=True)]


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, extremes and number, as costs.json holds them."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "repeats": len(times)}
