"""Toy method: post-training int8 of a trained system, calibrated on training batches; no stage, another
architecture."""

import copy
from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from asr.backbones import Batch
from asr.settings import TrainingSettings
from common.settings import Settings
from methods.contract import Method, ParameterCount, Point, Stage, Step, SystemReference, path_points


class Int8(Method):
    packs = True
    backbones = ("conformer",)

    class Config(Settings):
        source: SystemReference
        batches: int = 2

    def build(self) -> nn.Module:
        return copy.deepcopy(self.inputs["source"].module)

    def stages(self, training: TrainingSettings) -> list[Stage]:
        return []

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        raise RuntimeError("nothing is trained")

    @torch.no_grad()
    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        ranges: dict[str, float] = {}

        def watch(name: str):
            def hook(_, inputs: tuple[Tensor, ...]) -> None:
                ranges[name] = max(ranges.get(name, 0.0), float(inputs[0].abs().max()))

            return hook

        linears = encoder_linears(module)
        hooks = [linear.register_forward_pre_hook(watch(name)) for name, linear in linears.items()]
        for batch in islice(calibration, self.config.batches):
            module.encode(batch.inputs, batch.input_lengths)
        for hook in hooks:
            hook.remove()
        for name, linear in linears.items():
            module.set_submodule(name, Int8Linear.from_float(linear, ranges[name]))
        return module

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        module = self.backbone.build()
        for name, linear in encoder_linears(module).items():
            module.set_submodule(name, Int8Linear(linear.in_features, linear.out_features))
        return module

    def parameters(self, module: nn.Module, point: Point) -> ParameterCount:
        """Weights in int8 are buffers, and weights all the same."""
        count = super().parameters(module, point)
        packed = [child for child in module.modules() if isinstance(child, Int8Linear)]
        weights = [tensor for child in packed for tensor in (child.weight, child.bias)]
        stored = sum(tensor.numel() for tensor in weights)
        nonzero = sum(int(tensor.count_nonzero()) for tensor in weights)
        return ParameterCount(count.stored + stored, count.nonzero + nonzero, count.executed + stored)

    def points(self, module: nn.Module) -> list[Point]:
        ones = (1,) * module.layers
        return path_points([ones], trained=[])


def encoder_linears(module: nn.Module) -> dict[str, nn.Linear]:
    """Feed-forward layers of the encoder by name."""
    return {
        name: child
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear) and name.startswith("encoder.encoders") and ".feed_forward" in name
    }


class Int8Linear(nn.Module):
    """Weights in int8 with one scale an output, inputs rounded to the calibrated range."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs, 1))
        self.register_buffer("bias", torch.zeros(outputs))
        self.register_buffer("input_scale", torch.ones(()))

    @classmethod
    def from_float(cls, linear: nn.Linear, input_range: float) -> "Int8Linear":
        quantised = cls(linear.in_features, linear.out_features)
        quantised.scale.copy_(linear.weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127)
        quantised.weight.copy_((linear.weight / quantised.scale).round().to(torch.int8))
        quantised.bias.copy_(linear.bias)
        quantised.input_scale.fill_(input_range / 127)
        return quantised

    def forward(self, x: Tensor) -> Tensor:
        x = (x / self.input_scale).round().clamp(-127, 127) * self.input_scale
        return nn.functional.linear(x, self.weight * self.scale, self.bias)
