"""Toy method: distil a frozen teacher without labels, prune half of the feed-forward units, then train with labels.

The student starts from another system's first layers; between the stages its shape changes.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.backbones import Batch
from asr.precision import no_autocast
from asr.settings import TrainingSettings
from common.settings import Settings
from methods.contract import Method, Point, Stage, Step, SystemReference, path_points


class TwoStages(Method):
    backbones = ("conformer",)

    class Config(Settings):
        teacher: SystemReference
        layers: int = 2
        keep: float = 0.5

    def build(self) -> nn.Module:
        student = self._student()
        state = self.inputs["teacher"].module.state_dict()
        student.load_state_dict({name: state[name] for name in student.state_dict()})
        return student

    def stages(self, training: TrainingSettings) -> list[Stage]:
        half = training.model_copy(update={"steps": max(4, training.steps // 2)})
        return [Stage("distil", half, labelled=False), Stage("train", half)]

    def begin_stage(self, module: nn.Module, stage: Stage, batches: Iterable[Batch]) -> nn.Module:
        if stage.name == "distil":
            module.encoder.embed.requires_grad_(False)  # stays the teacher's, in both stages
        else:
            with torch.no_grad():
                resize(module, round(self.config.keep * module.config.ffn))
        return module

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        encoded = module.encode(batch.inputs, batch.input_lengths)
        teacher = self.inputs["teacher"].module
        with torch.no_grad():
            target = teacher.encode(batch.inputs, batch.input_lengths)
        with no_autocast(encoded.frames.device):
            distance = F.mse_loss(encoded.frames.float(), target.frames.float())
        if step.stage == "distil":
            assert batch.targets is None
            return {"total": distance, "distance": distance}
        terms = module.loss(module.outputs(encoded, batch), batch)
        return {**terms, "distance": distance, "total": terms["total"] + distance}

    def architecture(self, module: nn.Module) -> dict[str, Any]:
        return {"units": module.layer_module(0).feed_forward.w_1.out_features}

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        student = self._student()
        resize(student, architecture["units"])
        return student

    def points(self, module: nn.Module) -> list[Point]:
        ones = (1,) * self.config.layers
        return path_points([ones], trained=[ones])

    def _student(self) -> nn.Module:
        return self.backbone.build(layers=self.config.layers)


def resize(module: nn.Module, units: int) -> None:
    """Keep the feed-forward units with the largest incoming weights."""
    for layer in range(module.layers):
        block = module.layer_module(layer)
        for feed_forward in (block.feed_forward, block.feed_forward_macaron):
            first, second = feed_forward.w_1, feed_forward.w_2
            kept = first.weight.norm(dim=1).topk(min(units, first.out_features)).indices.sort().values
            feed_forward.w_1 = _linear(first.weight[kept], first.bias[kept])
            feed_forward.w_2 = _linear(second.weight[:, kept], second.bias)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.size(1), weight.size(0))
    linear.weight = nn.Parameter(weight.detach().clone())
    linear.bias = nn.Parameter(bias.detach().clone())
    return linear
