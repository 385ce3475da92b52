"""Intermediate CTC: one system whose layers are read at several depths, or as far as an utterance needs.

    settings: {exits: [3, 6, 9]}
    settings: {exits: [3, 6, 9], thresholds: [0.5, 0.1]}

Lee and Watanabe, Intermediate Loss Regularization for CTC-based Speech Recognition (2021), and Lee et al., Layer
Pruning on Demand with Intermediate CTC (2021):

    L = (1 - w) L_N + w mean_i L_i                            w = `weight`, i in `exits`

L_i is the CTC loss behind layer i, through the final norm and the CTC layer, which all depths share. Where there is an
attention decoder, it reads the last layer, and L stands in the place of its CTC loss. Every exit is a point: the first
so many layers. With `thresholds` there are points that have no depth: an utterance leaves at the first exit where the
mean entropy of its frames' labels is below the threshold (nats), and at the last layer otherwise.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.backbones import Backbone, Batch, Encoded
from common.errors import UserError
from common.settings import Settings
from methods.contract import Method, Point, Recogniser, Step, path_points
from methods.shared.layers import bytes_without_idle_layers
from methods.shared.start import Start, build_from


class IntermediateCTC(Method):
    """All layers, trained with a CTC loss behind some of them."""

    kind = "intermediate CTC"

    class Config(Settings):
        exits: list[int] | None = Field(None, min_length=1)
        """Behind which layers, numbered from 1, the last one left out; None: a quarter, half and three quarters of
        them."""
        weight: float = Field(0.5, ge=0, lt=1)
        """w: share of the intermediate losses."""
        thresholds: list[float] = []
        """Mean entropies in nats, a point each."""
        start: Start | None = None
        """The trained system whose weights it begins with; None: random weights."""

    def check(self) -> None:
        layers, asked = self.backbone.config.layers, self.config.exits
        if layers == 1:
            raise UserError("backbone.layers: 1 layer has no exit before its end")
        self.exits = sorted({layers * part // 4 for part in (1, 2, 3)} - {0}) if asked is None else asked
        if self.exits != sorted(set(self.exits)) or not 1 <= self.exits[0] <= self.exits[-1] < layers:
            raise UserError(
                f"settings.exits: {self.exits} are not ascending numbers from 1 to {layers - 1}: there are {layers} "
                "layers, and the last one is read in any case"
            )
        thresholds = self.config.thresholds
        if min(thresholds, default=1) <= 0 or len({_name(each) for each in thresholds}) < len(thresholds):
            raise UserError(
                f"settings.thresholds: {thresholds} are not different entropies above 0, in thousandths of a nat"
            )

    def build(self) -> nn.Module:
        return build_from(self.backbone, self.config.start, self.inputs)

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        drop = module.draw_layer_drop(module.layers, step.layers_generator("layer drop")) if step.training else None
        state, early = module.front_end(batch.inputs, batch.input_lengths), {}
        for layer in range(module.layers):
            state = module.run_layer(layer, state, drop)
            if layer + 1 in self.exits:
                early[layer + 1] = module.ctc_logits(module.finish(state))
        outputs = module.outputs(module.finish(state), batch)
        terms = module.loss(outputs, batch)
        for exit_, logits in early.items():  # reduced and checked as the backbone does it
            terms[f"exit{exit_}.ctc"] = module.loss(dataclasses.replace(outputs, ctc_logits=logits), batch)["ctc"]
        mean = torch.stack([terms[f"exit{exit_}.ctc"] for exit_ in early]).mean()
        share = module.ctc_weight * self.config.weight
        return {**terms, "total": terms["total"] + share * (mean - terms["ctc"])}

    def points(self, module: nn.Module) -> list[Point]:
        layers = self.backbone.config.layers
        paths = [(1,) * depth + (0,) * (layers - depth) for depth in [*self.exits, layers]]
        early = [
            Point(_name(threshold), f"entropy below {threshold:g}", settings={"threshold": threshold})
            for threshold in self.config.thresholds
        ]
        return path_points(paths, trained=paths) + early

    def stored_bytes(self, module: nn.Module, points: Sequence[Point]) -> int:
        """Layers that none of the points runs need not be shipped."""
        return bytes_without_idle_layers(module, points)

    def costs_are_learned(self, point: Point) -> bool:
        """How many layers an utterance needs for a threshold."""
        return point.path is None

    def at(self, module: nn.Module, point: Point) -> Recogniser:
        if point.path is not None:
            return super().at(module, point)
        return EarlyExit(module, tuple(self.exits), point.settings["threshold"])

    def encode_points(
        self, module: nn.Module, inputs: Tensor, lengths: Tensor, points: Sequence[Point]
    ) -> Iterator[tuple[Point, Encoded]]:
        """Paths through what they share; each threshold by itself."""
        paths = [point for point in points if point.path is not None]
        if paths:
            yield from super().encode_points(module, inputs, lengths, paths)
        for point in points:
            if point.path is None:
                yield point, self.at(module, point).encode(inputs, lengths)


def _name(threshold: float) -> str:
    """The id of a threshold's point: thousandths of a nat."""
    return f"h{round(1000 * threshold):04d}"


@dataclasses.dataclass(frozen=True)
class EarlyExit:
    """A backbone that stops behind the first of its `exits` where it is sure enough, as a `Recogniser`. Of a batch each
    utterance leaves at the exit at which it would leave alone; layers run as long as one is left."""

    backbone: Backbone
    exits: tuple[int, ...]
    threshold: float
    """Nats."""

    def encode(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        return self.encode_with_depths(inputs, lengths)[0]

    def encode_with_depths(self, inputs: Tensor, lengths: Tensor) -> tuple[Encoded, Tensor]:
        """The encoder output, and behind how many layers each utterance left (batch,)."""
        backbone, state, done = self.backbone, self.backbone.front_end(inputs, lengths), 0
        depths = torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)
        frames: Tensor | None = None
        for exit_ in (*self.exits, backbone.layers):
            for layer in range(done, exit_):
                state = backbone.run_layer(layer, state)
            done, encoded = exit_, backbone.finish(state)
            leaves = depths == 0
            if exit_ < backbone.layers:
                leaves &= mean_entropy(backbone.ctc_log_probs(encoded), state.valid) < self.threshold
            frames = encoded.frames if frames is None else torch.where(leaves[:, None, None], encoded.frames, frames)
            depths[leaves] = exit_
            if bool((depths > 0).all()):
                break
        return Encoded(frames, encoded.lengths), depths

    def ctc_log_probs(self, encoded: Encoded) -> Tensor:
        return self.backbone.ctc_log_probs(encoded)

    def scorers(self) -> dict[str, Any]:
        return self.backbone.scorers()


def mean_entropy(log_probs: Tensor, valid: Tensor) -> Tensor:
    """(batch,): entropy of the labels in nats, averaged over an utterance's real frames; of none, 0. `log_probs`
    (batch, frames, vocabulary), `valid` (batch, frames)."""
    entropies = -(log_probs.exp() * log_probs).sum(-1)
    return (entropies * valid).sum(1) / valid.sum(1).clamp(min=1)
