"""What an uncompressed architecture offers, whatever it is made of: the `Backbone`.

A backbone holds each physical layer once. Running it at a path is data that the forward pass reads: `encode(..., path)`
repeats layers in place and never copies or aliases weights. The pieces (front end, one layer, output norm) are open,
so that a method can share work between paths or replace what it needs to.
"""

import contextlib
import dataclasses
import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from asr.portable.masks import before_the_end
from asr.processes import share_of_all
from common.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Batch:
    """Padded utterances of one step.

    `inputs` (batch, time, features), or (batch, samples) for models that read the waveform, and `input_lengths`
    (batch,) in the same frames or samples; `targets` (batch, tokens) padded with -1
    and `target_lengths` (batch,). An unlabelled batch has no targets. Lengths stay on the host wherever inputs and
    targets are: no step waits for a device to say them.
    """

    ids: tuple[str, ...]
    inputs: Tensor
    input_lengths: Tensor
    targets: Tensor | None = None
    target_lengths: Tensor | None = None
    frames_needed: Tensor | None = None
    """Frames that CTC needs for the targets (batch,), on the host as lengths are; None: found in the targets."""

    def __post_init__(self) -> None:
        if self.targets is not None and self.frames_needed is None:
            object.__setattr__(self, "frames_needed", _frames_needed(self.targets.cpu(), self.target_lengths))

    def to(self, device: torch.device) -> "Batch":
        """Inputs and targets on `device`, without waiting where they are pinned."""
        targets = None if self.targets is None else self.targets.to(device, non_blocking=True)
        return dataclasses.replace(self, inputs=self.inputs.to(device, non_blocking=True), targets=targets)


@dataclasses.dataclass(frozen=True)
class EncoderState:
    """What flows from layer to layer: `x` (batch, frames, width), which frames are real (batch, frames) and how many,
    `lengths` (batch,) on the host, and, where the architecture has them, relative position embeddings, and the
    attention mask in the form that its layers take (None: everything is attended to). `executed` counts the layer
    executions so far."""

    x: Tensor
    valid: Tensor
    lengths: Tensor
    positions: Tensor | None = None
    attention_mask: Tensor | None = None
    executed: int = 0


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Encoder output: `frames` (batch, frames, width), and `lengths` (batch,) on the host."""

    frames: Tensor
    lengths: Tensor


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Everything the losses read: `ctc_logits` (batch, frames, vocabulary), `lengths` (batch,) on the host, and, for a
    model with an attention decoder, teacher-forced `decoder_logits` (batch, tokens + 1, vocabulary)."""

    ctc_logits: Tensor
    lengths: Tensor
    decoder_logits: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class LayerDrop:
    """Which layer executions one training pass of `depth` executions skips. `draws` (`depth` uniform numbers) decide.

    ramp: execution i of `depth`, counted from 1, is skipped with probability rate * i / depth, and one that is kept is
    scaled by 1 / (1 - p), as in ESPnet's stochastic depth. The ramp reaches `rate` at the last executed layer.
    uniform: each is skipped with probability `rate`, and nothing is scaled, as in transformers' layer drop.
    """

    rate: float
    depth: int
    draws: Sequence[float]
    kind: Literal["ramp", "uniform"] = "ramp"

    @classmethod
    def draw(
        cls, rate: float, depth: int, generator: torch.Generator, kind: Literal["ramp", "uniform"] = "ramp"
    ) -> "LayerDrop":
        """One uniform number an execution, from a generator of its own."""
        return cls(rate, depth, torch.rand(depth, generator=generator).tolist(), kind)

    def probability(self, execution: int) -> float:
        """Of skipping execution number `execution`, counted from 0."""
        return self.rate if self.kind == "uniform" else self.rate * (execution + 1) / self.depth

    def branch_scale(self, execution: int) -> float:
        """Factor of the residual branches: 0 when skipped."""
        probability = self.probability(execution)
        if self.draws[execution] < probability:
            return 0.0
        return 1.0 if self.kind == "uniform" else 1.0 / (1.0 - probability)


def frames_needed(tokens: Sequence[int]) -> int:
    """Frames that CTC needs for these labels: one for each, one for a blank between equal neighbours, and one in any
    case."""
    return max(1, len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:], strict=False)))


def _frames_needed(targets: Tensor, lengths: Tensor) -> Tensor:
    """`frames_needed` of each row of padded targets (batch, tokens), of `lengths` (batch,) tokens."""
    repeats = (targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] >= 0)
    return (lengths + repeats.sum(1)).clamp(min=1)


def check_frames(lengths: Tensor, batch: Batch) -> None:
    """Raise `UserError` naming an utterance whose labels need more frames than its `lengths` (batch,) leave: its CTC
    loss is infinite, and where that is set to zero the utterance is passed over in silence."""
    needed = batch.frames_needed
    short = lengths < needed
    if short.any():
        row = int(short.nonzero()[0])
        raise UserError(
            f"utterance {batch.ids[row]}: {int(lengths[row])} frames are left of it, and CTC needs {int(needed[row])} "
            f"for its {int(batch.target_lengths[row])} labels; leave it out of the corpus, or, where the method "
            "shortens utterances, let its output_lengths say so"
        )


def blank_fraction(outputs: Outputs) -> Tensor:
    """Share of real frames whose best CTC label is blank; 1.0 is the all-blank plateau."""
    with torch.no_grad():
        logits = outputs.ctc_logits
        real = before_the_end(outputs.lengths, logits.size(1), logits.device)
        return share_of_all(((logits.argmax(-1) == 0) & real).sum(), real.sum())


class Backbone(nn.Module, ABC):
    """An encoder of physical layers with a CTC layer, and perhaps an attention decoder."""

    layers: int
    """Number of physical layers."""
    layer_drop: float
    """Rate at which training skips layer executions; see `LayerDrop`."""
    dropout_in_layers: bool
    """Whether a layer execution in training mode draws anything at random, layer drop aside."""
    ctc_weight: float
    """Share of CTC in the loss (lambda of arXiv 2505.21237, section 2.1); 1 without a decoder."""
    compiles_layers: bool = False
    """Whether a layer in a training step is compiled (`asr.backbones.compilation`)."""

    @abstractmethod
    def front_end(self, inputs: Tensor, lengths: Tensor) -> EncoderState:
        """Everything before the first layer. `inputs` (batch, time, features), `lengths` (batch,) on the
        host."""

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
    def ctc_logits(self, encoded: Encoded) -> Tensor:
        """(batch, frames, vocabulary), in the precision that runs."""

    def ctc_log_probs(self, encoded: Encoded) -> Tensor:
        """(batch, frames, vocabulary), in float32."""
        return torch.log_softmax(self.ctc_logits(encoded).float(), -1)

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

    @property
    def compiles_now(self) -> bool:
        """Whether a layer that runs now belongs to a training step, and is to be compiled."""
        return self.compiles_layers and self.training and torch.is_grad_enabled()

    @abstractmethod
    def layer_module(self, layer: int) -> nn.Module:
        """The module that holds the weights of one physical layer."""

    @abstractmethod
    def output_modules(self) -> list[nn.Module]:
        """What makes labels of the encoder's output: the CTC layer and, where there is one, the decoder."""

    def draw_layer_drop(self, depth: int, generator: torch.Generator) -> LayerDrop | None:
        """Which executions a training pass of `depth` executions skips; None when none ever is."""
        return LayerDrop.draw(self.layer_drop, depth, generator) if self.layer_drop else None

    @torch.no_grad()
    def take_weights(self, source: "Backbone", kept: Sequence[int]) -> None:
        """Copy everything from `source`, of its layers those that `kept` names (numbers from 0), in this order.

        Raises ValueError when `kept` does not name one layer for each of ours.
        """
        if len(kept) != self.layers:
            raise ValueError(f"{len(kept)} layers are kept for a model of {self.layers}")
        for own, other in enumerate(kept):
            self.layer_module(own).load_state_dict(source.layer_module(other).state_dict())
        layers = [source.layer_module(layer) for layer in range(source.layers)]
        of_layers = {id(tensor) for layer in layers for tensor in layer.state_dict(keep_vars=True).values()}
        state = source.state_dict(keep_vars=True)
        rest = {name: tensor for name, tensor in state.items() if id(tensor) not in of_layers}
        unknown_names = self.load_state_dict(rest, strict=False).unexpected_keys
        if unknown_names:
            raise ValueError(f"the source has weights of another architecture: {', '.join(unknown_names[:3])}")

    def eager_attention(self) -> contextlib.AbstractContextManager[None]:
        """Attention as matrix products inside this context: operation counters see nothing in fused attention."""
        return contextlib.nullcontext()


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

    def outline(self) -> Backbone:
        """The shapes of a backbone without its weights, on torch's meta device: one for all who ask, to be looked at,
        and copied by whoever changes something."""
        return _outline(self.name, self.config.model_dump_json(), self.vocabulary)


@functools.cache
def _outline(name: str, settings: str, vocabulary: int) -> Backbone:
    """Built once: the systems of an experiment have few shapes, and even without weights each takes a while. Some of
    ESPnet's weights are drawn on the host all the same: whoever asks first draws the same afterwards as any other."""
    module = load_module(name, "backbone")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return module.build(module.Config.model_validate_json(settings), vocabulary)


BACKBONES = ("conformer", "wav2vec2", "hubert")


def load_module(name: str, where: str) -> Any:
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES, where)
    return importlib.import_module(f"asr.backbones.{name}")
