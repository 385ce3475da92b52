"""The statistics of batch norm, beside the weights: read, set, and estimated again.

Training moves running statistics a tenth of the way at every execution. In a layer that runs several times a step they
are the average of the last few batches, over distributions that differ from one execution to the next. Estimated again
they are plain means: of the means and of the (unbiased) variances of all batches, each execution counting alike.

    with estimating(module):
        for batch in batches:
            module.encode(batch.inputs, batch.input_lengths, (1, 1, 2, 2))
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = dict[str, Tensor]
"""Means, variances and numbers of executions, by their names in the module's state dict."""
KEPT = ("running_mean", "running_var", "num_batches_tracked")


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """The batch norms of `module` that keep statistics, by name."""
    found = {name: part for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    return {name: norm for name, norm in found.items() if norm.running_mean is not None}


def statistics_of(module: nn.Module) -> Statistics:
    """A copy, on the CPU, of the statistics of all batch norms; empty where there are none."""
    norms = batch_norms(module).items()
    return {f"{name}.{key}": getattr(norm, key).detach().cpu().clone() for name, norm in norms for key in KEPT}


@torch.no_grad()
def set_statistics(module: nn.Module, statistics: Mapping[str, Tensor]) -> None:
    """Put `statistics` in place of those of `module`. Raises ValueError unless they are of the same batch norms."""
    own = {f"{name}.{key}": getattr(norm, key) for name, norm in batch_norms(module).items() for key in KEPT}
    if own.keys() != statistics.keys():
        different = sorted(own.keys() ^ statistics.keys())
        raise ValueError(f"statistics of other batch norms: {', '.join(different[:3])}")
    for name, buffer in own.items():
        buffer.copy_(statistics[name])


@contextlib.contextmanager
def estimating(module: nn.Module) -> Iterator[None]:
    """Inside, whatever `module` executes estimates the statistics of its batch norms anew, in float32.

    All else is in evaluation mode: no dropout, no layer drop, no masks. A batch norm that is not executed keeps the
    statistics that it had; after an error all do. Weights, modes and momentum are as before afterwards.
    """
    norms = batch_norms(module)
    before = statistics_of(module)
    modes = [(part, part.training) for part in module.modules()]
    momenta = [(norm, norm.momentum) for norm in norms.values()]
    devices = {norm.running_mean.device.type for norm in norms.values()}
    module.eval()
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # torch then averages over all executions, each counting alike
        norm.train()
    try:
        with torch.no_grad(), contextlib.ExitStack() as in_float32:
            for device in devices:
                in_float32.enter_context(torch.autocast(device, enabled=False))
            yield
    except BaseException:
        set_statistics(module, before)
        raise
    finally:
        for part, mode in modes:
            part.training = mode
        for norm, momentum in momenta:
            norm.momentum = momentum
    after = statistics_of(module)
    executed = {name for name in norms if after[f"{name}.num_batches_tracked"] > 0}
    set_statistics(module, {key: (after if key.rpartition(".")[0] in executed else before)[key] for key in after})
