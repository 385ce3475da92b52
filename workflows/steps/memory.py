"""Peak memory of a piece of work: what a model and its inputs need, and nothing that was there before.

On CPUs it is resident memory that no file backs. Pages of libraries are left out, since which of them are touched first
depends on what ran before; so are the process's imports, which `before` holds. On CUDA it is what torch has allocated.
"""

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Numbers of glibc's malloc.h."""
MAPPED_FROM_BYTES = 65536


def give_back_at_once() -> None:
    """Let memory that is freed leave the process, so that the peak follows from what is held and not from the order in
    which it was taken.

    Left alone, glibc keeps freed blocks in arenas, one for each thread, and raises the size from which it maps blocks
    one by one with every large block that is freed. Other C libraries are left as they are.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, MAPPED_FROM_BYTES)
    except (AttributeError, OSError, TypeError):
        pass


def stay_on_one_processor() -> None:
    """Linux counts the pages of a process apart on each processor and adds them up now and then: on one, a peak is out
    by some dozens of pages at most."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def peak_above(before: int, work: Callable[[], Any], device: torch.device) -> int:
    """Peak bytes of a call of `work` above `before`. It is called once unmeasured: a first call also makes what the
    libraries keep."""
    work()
    _trim()
    reset_peak(device)
    work()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) - before
    return peak_resident_bytes() - before


def held_bytes(device: torch.device) -> int:
    """What is held now: the `before` of `peak_above`."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    _trim()
    return resident_bytes()


def reset_peak(device: torch.device) -> None:
    """Forget the peak of earlier measurements: CUDA's counter, or Linux's high-water mark."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # not Linux, or not allowed: the peak of the whole process stands, which is never too low


def peak_resident_bytes() -> int:
    """Highest resident memory of this process since `reset_peak`, pages of files as of now aside."""
    status = _status()
    if "VmHWM" not in status:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return status["VmHWM"] - status.get("RssFile", 0)


def resident_bytes() -> int:
    """Resident memory of this process now, pages of files aside."""
    status = _status()
    if "VmRSS" not in status:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return status["VmRSS"] - status.get("RssFile", 0)


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass


def _status() -> dict[str, int]:
    """Bytes that Linux says of this process; empty elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(count) * 1024 for name, count, _ in fields}
