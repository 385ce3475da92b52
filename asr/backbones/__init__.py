"""What an uncompressed architecture offers, whatever it is made of: the `Backbone`.

A backbone holds each physical layer once. Running it at a path is data that the forward pass reads: `encode(..., path)`
repeats layers in place and never copies or aliases weights. The pieces (front end, one layer, output norm) are open,
so that a method can share work between paths or replace what it needs to.
"""

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import unknown


@dataclasses.dataclass(frozen=True)
class Batch:
    """Padded utterances of one step.

    `inputs` (batch, time, features) and `input_lengths` (batch,) in frames, `targets` (batch, tokens) padded with -1
    and `target_lengths` (batch,). An unlabelled batch has no targets.
    """

    ids: tuple[str, ...]
    inputs: Tensor
    input_lengths: Tensor
    targets: Tensor | None = None
    target_lengths: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        moved = {
            field.name: value.to(device)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)


@dataclasses.dataclass(frozen=True)
class EncoderState:
    """What flows from layer to layer: `x` (batch, frames, width), which frames are real (batch, frames), and, where
    the architecture has them, relative position embeddings. `executed` counts the layer executions so far."""

    x: Tensor
    valid: Tensor
    positions: Tensor | None = None
    executed: int = 0


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Encoder output: `frames` (batch, frames, width) and `lengths` (batch,)."""

    frames: Tensor
    lengths: Tensor


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Everything the losses read: `ctc_logits` (batch, frames, vocabulary) with `lengths` (batch,), and, for a model
    with an attention decoder, teacher-forced `decoder_logits` (batch, tokens + 1, vocabulary)."""

    ctc_logits: Tensor
    lengths: Tensor
    decoder_logits: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class LayerDrop:
    """Stochastic depth of one training pass: execution i of `depth` is skipped with probability rate * i / depth.

    `draws` (at least `depth` uniform numbers) decide; two passes with the same draws share one decision per execution.
    Executions that are kept are scaled by 1 / (1 - p), as in ESPnet. The ramp reaches `rate` at the last executed
    layer.
    """

    rate: float
    depth: int
    draws: Sequence[float]

    @classmethod
    def draw(cls, rate: float, depth: int, generator: torch.Generator) -> "LayerDrop":
        """One uniform number an execution, from a generator of its own."""
        return cls(rate, depth, torch.rand(depth, generator=generator).tolist())

    def probability(self, execution: int) -> float:
        """Of skipping execution number `execution`, counted from 0."""
        return self.rate * (execution + 1) / self.depth

    def branch_scale(self, execution: int) -> float:
        """Factor of the residual branches: 0 when skipped."""
        probability = self.probability(execution)
        return 0.0 if self.draws[execution] < probability else 1.0 / (1.0 - probability)


class Backbone(nn.Module, ABC):
    """An encoder of physical layers with a CTC layer, and perhaps an attention decoder."""

    layers: int
    """Number of physical layers."""
    layer_drop: float
    """Stochastic depth at the last executed layer."""
    ctc_weight: float
    """Share of CTC in the loss (lambda of arXiv 2505.21237, section 2.1); 1 without a decoder."""

    @abstractmethod
    def front_end(self, inputs: Tensor, lengths: Tensor) -> EncoderState:
        """Everything before the first layer. `inputs` (batch, time, features), `lengths` (batch,)."""

    @abstractmethod
    def run_layer(self, layer: int, state: EncoderState, drop: LayerDrop | None = None) -> EncoderState:
        """Run physical layer `layer` once. The given state is not changed."""

    @abstractmethod
    def finish(self, state: EncoderState) -> Encoded:
        """Everything after the last layer."""

    @abstractmethod
    def outputs(self, encoded: Encoded, batch: Batch) -> Outputs:
        """CTC logits, and teacher-forced decoder logits where there is a decoder."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Named terms and their weighted `total`, plus the metric `blank_fraction`."""

    @abstractmethod
    def ctc_log_probs(self, encoded: Encoded) -> Tensor:
        """(batch, frames, vocabulary)."""

    @abstractmethod
    def scorers(self) -> dict[str, Any]:
        """ESPnet scorers for beam search by name: `ctc` and, where there is a decoder, `decoder`."""

    @abstractmethod
    def output_lengths(self, lengths: Iterable[int]) -> list[int]:
        """Encoder frames that inputs of these lengths leave."""

    def run_path(
        self, path: Sequence[int], state: EncoderState, drop: LayerDrop | None = None, first_layer: int = 0
    ) -> EncoderState:
        """Run each physical layer as often as `path` says, in place and in order."""
        for layer, count in enumerate(path[first_layer:], start=first_layer):
            for _ in range(count):
                state = self.run_layer(layer, state, drop)
        return state

    def encode(self, inputs: Tensor, lengths: Tensor, path: Sequence[int] | None = None) -> Encoded:
        """Encode at `path`; None runs every physical layer once."""
        path = (1,) * self.layers if path is None else path
        return self.finish(self.run_path(path, self.front_end(inputs, lengths)))

    def forward(self, inputs: Tensor, lengths: Tensor, path: Sequence[int] | None = None) -> Encoded:
        """`encode`, as torch's tools (functional calls, export) expect it."""
        return self.encode(inputs, lengths, path)

    @abstractmethod
    def layer_module(self, layer: int) -> nn.Module:
        """The module that holds the weights of one physical layer."""


class BackboneFactory:
    """Builds a backbone, as configured or changed: what a method gets to work with.

    `name` is a module of `asr.backbones` with a `Config` class and a `build(config, vocabulary)` function.
    """

    def __init__(self, name: str, settings: dict[str, Any], vocabulary: int, where: str = "backbone"):
        self.name = name
        self.settings = settings
        self.vocabulary = vocabulary
        self.where = where
        self.module = load_module(name, where)

    @property
    def config(self) -> Any:
        return self.configure(self.settings)

    def configure(self, settings: dict[str, Any]) -> Any:
        from common.settings import parse

        return parse(self.module.Config, settings, self.where)

    def build(self, **changes: Any) -> Backbone:
        """A new backbone with random weights; `changes` override settings (a student with fewer layers, say)."""
        return self.module.build(self.configure({**self.settings, **changes}), self.vocabulary)


BACKBONES = ("conformer",)


def load_module(name: str, where: str) -> Any:
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES, where)
    return importlib.import_module(f"asr.backbones.{name}")
