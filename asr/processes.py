"""Several processes that train one system, each on batches of its own: how their losses become one loss.

Torch's DDP gives every process the mean of all processes' gradients. That is the gradient of one process with all their
batches in one when each loss is a process's part of the whole:

    a mean over n utterances, frames, tokens    times n · processes / (n of all processes)      `mean_of_all`
    a sum over them                             times the number of processes                   `sum_of_all`
    what depends on the weights alone           as it is

The mean over the processes of such a part is then the term of the whole batch, and is what the log shows. Both
functions return the value itself, bit for bit, where a process trains alone, in a validation, which every process does
as a whole, and wherever nothing is trained.

    loss = mean_of_all(F.mse_loss(found, wanted), frames)

Batch norm can take its statistics from the frames of all processes (`sums_of_batch_norm`): each execution of a layer
then waits for the others', forwards and backwards, so that all processes have to run the same layers in one order.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from common.errors import UserError

Sums = Callable[[Tensor], Tensor]
"""Sums of one process -> those that count."""

_processes = 1
"""How many train together now; 1 outside of their training steps."""
_one_batch_norm = False
"""Whether batch norm is that of all of them."""


@contextlib.contextmanager
def together(processes: int, batch_norm: Literal["local", "global"] = "local") -> Iterator[None]:
    """Inside, so many processes compute the losses of one training step, all of them the same terms in one order."""
    global _processes, _one_batch_norm
    before = _processes, _one_batch_norm
    _processes, _one_batch_norm = processes, processes > 1 and batch_norm == "global"
    try:
        yield
    finally:
        _processes, _one_batch_norm = before


def mean_of_all(value: Tensor, count: int | Tensor) -> Tensor:
    """`value`, a mean over `count` utterances, frames or tokens of this process's batch, as its part of the mean over
    those of all processes. It must be finite where there are none of them. The host waits for nothing on a GPU: the
    counts are added up on the device (those of a tensor too)."""
    if _processes == 1:
        return value
    if isinstance(count, Tensor):
        own = count.to(value.device, torch.float32)
    else:
        own = torch.full((), float(count), device=value.device)
    return value * (own * _processes / summed(own).clamp(min=1))


def sum_of_all(value: Tensor) -> Tensor:
    """`value`, a sum over this process's batch, as its part of the sum over the batches of all processes."""
    return value if _processes == 1 else value * _processes


def share_of_all(part: Tensor, count: Tensor) -> Tensor:
    """`part / count` without gradient, both added up over all processes: the same in each."""
    if _processes > 1:
        part, count = summed(torch.stack((part, count)).float())
    return part / count.clamp(min=1)


def sums_of_batch_norm() -> Sums:
    """How the sums of a batch norm in training are added up, in the forward and in the backward pass."""
    return summed if _one_batch_norm else of_this_process


def of_this_process(sums: Tensor) -> Tensor:
    """Sums over what this process has are all there are."""
    return sums


def summed(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, as a tensor of its own and without gradient."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def launched() -> tuple[int, int] | None:
    """On how many machines a launcher, torchrun or srun, started how many processes of this training, as many on each;
    None without one."""
    from lightning_fabric.plugins.environments import SLURMEnvironment  # a second, which only trainings have to spend

    if dist.is_torchelastic_launched():
        return int(os.environ["GROUP_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if SLURMEnvironment.detect():
        return int(os.environ.get("SLURM_NNODES", 1)), int(os.environ["SLURM_NTASKS"])
    return None


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """Inside, or in a function that it decorates: a process that loses the others raises a `UserError`; the one that
    failed says why."""
    try:
        yield
    except RuntimeError as error:
        if "by peer" not in str(error):  # gloo: connection closed, or reset
            raise
        raise UserError("another process of this training has ended, and says why; this one ends too") from None


def end_with_parent() -> None:
    """From here on this process ends when the one that started it has ended: in a collective it would wait for a first
    process that failed as long as the collective may take, half an hour on a GPU."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
