"""Batch norm of padded utterances, whose statistics are those of their real frames.

The same numbers as torch's `BatchNorm1d` gives of the real frames alone, without gathering them: how many there are
would have to be read from the device, and every gather would be a graph of its own to a compiler. Sums over real frames
are products with the mask.

    n = sum_t w_t,  mean = sum_t w_t x_t / n,  variance = sum_t w_t (x_t - mean)^2 / n,  w_t = 1 at a real frame, else 0
    y_t = w_t ((x_t - mean) / sqrt(variance + eps) * weight + bias)

`add_up` is what turns the sums of one process into those that count: of all processes, where statistics are global.
"""

from typing import Any

import torch
from torch import Tensor, nn

from asr.precision import no_autocast
from asr.processes import Sums, of_this_process


def masked_batch_norm(norm: nn.BatchNorm1d, x: Tensor, valid: Tensor, add_up: Sums = of_this_process) -> Tensor:
    """What `norm` makes of `x` (batch, frames, channels) in training mode, zeros where `valid` (batch, frames) is
    false. Moves its running statistics. Moments are in the precision of its weights (float32), whatever that of `x`; of
    no frame, and of one, the variance is 0."""
    kept_in = norm.weight.dtype
    with no_autocast(x.device):
        made, count, mean, deviations = _Normalise.apply(
            x.to(kept_in), valid.to(kept_in), norm.weight, norm.bias, norm.eps, add_up
        )
        if norm.track_running_stats:
            _move_statistics(norm, count, mean, deviations)
    return made.to(x.dtype)


def moments(x: Tensor, real: Tensor, add_up: Sums) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of `x` (frames, channels), `real` (frames,) 1 or 0: number of real frames, mean (channels,), sum of squared
    deviations from it (channels,), and the deviations (frames, channels) themselves."""
    sums = add_up(torch.cat([real.sum()[None], real @ x]))
    count = sums[0].clamp(min=1)
    mean = sums[1:] / count
    centred = x - mean
    return count, mean, add_up(real @ centred.square()), centred


class _Normalise(torch.autograd.Function):
    """`masked_batch_norm` and its derivative, which keeps one tensor of the size of `x`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, real: Tensor, weight: Tensor, bias: Tensor, epsilon: float, add_up: Sums
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        real = real.flatten()
        count, mean, deviations, centred = moments(x.flatten(0, 1), real, add_up)
        inverse = (deviations / count + epsilon).rsqrt()
        made = torch.addcmul(bias, centred, inverse * weight).mul_(real[:, None])
        ctx.save_for_backward(centred, real, weight, inverse, count)
        ctx.add_up = add_up
        ctx.mark_non_differentiable(count, mean, deviations)
        return made.view_as(x), count, mean, deviations

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        centred, real, weight, inverse, count = ctx.saved_tensors
        flat = gradient.flatten(0, 1)
        own = torch.stack([real @ flat, (real @ (flat * centred)) * inverse])  # of bias and weight
        of_bias, of_weight = ctx.add_up(own) / count
        scale = weight * inverse
        of_x = torch.addcmul(flat * scale, centred, -scale * inverse * of_weight)
        of_x.sub_(scale * of_bias).mul_(real[:, None])
        return of_x.view_as(gradient), None, own[1], own[0], None, None


@torch.no_grad()
def _move_statistics(norm: nn.BatchNorm1d, count: Tensor, mean: Tensor, deviations: Tensor) -> None:
    """As torch does: a part `momentum` of the way, or, where that is None, to the mean over all executions; variances
    are unbiased."""
    norm.num_batches_tracked.add_(1)
    share = norm.num_batches_tracked.reciprocal() if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(deviations / (count - 1).clamp(min=1), share)
