"""A module with other weights than its own, for the length of one call: gates, masks, rounded or sliced weights.

A method that trains weights behind a mask or a quantiser keeps the module as it is, plain and dense: what is saved,
averaged and resumed are the weights that the optimiser moves. Only what a loss or a recogniser reads is a view of them,
made once a call and read at every execution of a folded layer; gradients go through it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def with_weights(
    module: nn.Module, weights: Mapping[str, Tensor], function: Callable[..., Any], *arguments: Any
) -> Any:
    """`function(module, *arguments)` while the parameters and buffers of `module` that `weights` names (as its state
    dict does) are those tensors, of whatever shape. Afterwards, also after an error, its own are in place again."""
    named = {f"module.{name}": tensor for name, tensor in weights.items()}
    return functional_call(_Call(module, function), named, arguments)


class _Call(nn.Module):
    """`functional_call` calls modules; this one hands its inner one to a function."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *arguments: Any) -> Any:
        return self.function(self.module, *arguments)


class Viewed(nn.Module):
    """Mixin of linear maps (or, `pointwise`, convolutions of width 1) that unpack their `weight` whenever they run.
    `view`, where there is one, runs in its place: for the length of one call of `with_weights`, never in a file."""

    view: Tensor | None
    outputs: int
    inputs: int
    pointwise: bool

    def __init__(self, *form: Any, **further: Any):
        super().__init__(*form, **further)
        self.register_buffer("view", None, persistent=False)

    @property
    def weight(self) -> Tensor:
        return super().weight if self.view is None else self.view

    @torch.no_grad()
    def dense(self) -> nn.Linear | nn.Conv1d:
        """The trainable matrix that it stands for."""
        weight = self.weight
        form = {"bias": self.bias is not None, "device": weight.device}
        shape = (self.inputs, self.outputs)
        made = nn.Conv1d(*shape, 1, **form) if self.pointwise else nn.Linear(*shape, **form)
        made.weight.copy_(weight)
        if self.bias is not None:
            made.bias.copy_(self.bias)
        return made.train(self.training)
