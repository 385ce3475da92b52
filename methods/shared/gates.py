"""Self-pinching gates: a mask for every weight that follows from the weights and one threshold a matrix.

    M = sigmoid((W^2 - t^2) / (2 tau));    what runs is W where M > 1/2, that is where |W| > t, and 0 elsewhere

The rounded mask runs, the soft one gives the gradients (arXiv 2505.22608; `methods.selfpinching` says what is
published). With g the gradient at the masked weights and S = M (1 - M) / tau:

    dL/dW = g [|W| > t] + g W^2 S,    dL/dt = -t sum(g W S)

A weight that was pinched off near its threshold still learns, and can come back; one far below is frozen. At t = 0 the
threshold has no gradient and never leaves.

In units of each matrix: t = sigma theta and tau = temperature sigma^2, where sigma is the deviation of its weights when
training began. `theta` is what is learned.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from methods.shared.matrices import matrices
from methods.shared.pruning import deviation

NAME = "gates"
"""Of the gates among the children of the module that they belong to, while it is trained."""
SMALLEST_THRESHOLD = 1e-3
"""Of theta, which would stay at 0 for good."""


class Gates(nn.Module):
    """The thresholds of a module's matrices, in the order of `matrices`, and what steers them to the target."""

    sigma: Tensor
    gone: Tensor
    at_start: Tensor
    multiplier: Tensor

    def __init__(self, number: int):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(number))
        self.register_buffer("sigma", torch.ones(number))
        # So many weights are zero in the end.
        self.register_buffer("gone", torch.zeros((), dtype=torch.int64))
        # The sparsity that training began with: what the source had pruned, and what the first thresholds pinch.
        self.register_buffer("at_start", torch.zeros(()))
        # The dual variable of the target.
        self.register_buffer("multiplier", torch.zeros(()))

    @torch.no_grad()
    def sparsity(self, module: nn.Module) -> Tensor:
        """The share of the weights that they pinch off now."""
        parts = matrices(module).values()
        above = [(part.weight.abs() > t).sum() for part, t in zip(parts, self.sigma * self.theta, strict=True)]
        return 1 - torch.stack(above).sum() / sum(part.weight.numel() for part in parts)

    @torch.no_grad()
    def scores(self, module: nn.Module) -> dict[str, Tensor]:
        """How far each weight is above its threshold, as a factor of it: one factor on all thresholds pinches off what
        scores less."""
        thresholds = self.sigma * self.theta
        return {
            name: part.weight.abs() / threshold
            for (name, part), threshold in zip(matrices(module).items(), thresholds, strict=True)
        }

    def pinched(self, module: nn.Module, temperature: float) -> tuple[dict[str, Tensor], Tensor]:
        """The weights that run, by their names in the state dict, and the sparsity, with the gradients of both."""
        views, above, whole = {}, [], 0
        for (name, part), theta, sigma in zip(matrices(module).items(), self.theta.unbind(), self.sigma, strict=True):
            views[f"{name}.weight"], count = Pinched.apply(part.weight, theta, sigma, temperature)
            above.append(count)
            whole += part.weight.numel()
        return views, 1 - torch.stack(above).sum() / whole


class Pinched(torch.autograd.Function):
    """(weight, theta, sigma, temperature) -> the weights above the threshold, the others zero, and how many are above
    it.

    The gradient of a threshold adds up over a matrix; it is divided by the root of the number of weights, so that it
    does not own the norm by which all gradients are clipped (Adam's step is the same). What asks for fewer weights
    acts on thresholds alone: a weight goes because the loss does not miss it, not because something pushes it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, theta: Tensor, sigma: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight, theta, sigma)
        ctx.temperature = temperature
        above = weight.abs() > sigma * theta
        return weight * above, above.sum(dtype=weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_weights: Tensor, of_count: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, theta, sigma = ctx.saved_tensors
        squares = (weight / sigma).square()
        soft = torch.sigmoid((squares - theta.square()) / (2 * ctx.temperature))
        slope = soft * (1 - soft) / ctx.temperature  # sigma^2 S
        of_weight = of_weights * ((weight.abs() > sigma * theta) + squares * slope)
        of_theta = -theta * (slope * (of_weights * weight + of_count)).sum() / weight.numel() ** 0.5
        return of_weight, of_theta, None, None


def gates_of(module: nn.Module) -> Gates | None:
    """Those of a module in training; None once they are gone."""
    return getattr(module, NAME, None)


def with_gates(module: nn.Module) -> nn.Module:
    """The module with gates that know nothing yet, in place."""
    module.add_module(NAME, Gates(len(matrices(module))))
    return module


@torch.no_grad()
def start_gates(module: nn.Module, threshold: float, gone: int) -> None:
    """Set the thresholds, in deviations of each matrix, and the number of weights that are zero in the end: those that
    are zero already at least."""
    gates, parts = gates_of(module), matrices(module)
    gates.theta.fill_(threshold)
    gates.sigma.copy_(torch.stack([deviation(part.weight) for part in parts.values()]))
    zeros = sum(part.weight.numel() - int(part.weight.count_nonzero()) for part in parts.values())
    gates.gone.fill_(max(gone, zeros))
    gates.at_start.copy_(gates.sparsity(module))
