"""Layers through torch's compiler, in training steps.

A layer is one graph: what was drawn for it comes as a tensor, and no frame is gathered. So all layers of a model, and
all their executions, run what is compiled once for the shapes of a batch; after a second one torch compiles it for any
shape. Sums come out in another order: losses agree to 1e-5 in float32, not to the bit.
"""

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

from common.errors import UserError

BACKEND = "inductor"
COMPILERS = ("g++", "clang++")


def check_compiler(device: torch.device) -> None:
    """Raise `UserError` where `device` is a CPU for which nothing can be compiled."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else COMPILERS
    if device.type == "cpu" and not any(map(shutil.which, names)):
        raise UserError(f"training.compile: blocks needs a C++ compiler on CPUs, and there is no {' or '.join(names)}")


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, compiled at its first call; what cannot be compiled runs as it is."""
    return torch.compile(function, backend=BACKEND)
