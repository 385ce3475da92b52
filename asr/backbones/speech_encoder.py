"""Speech foundation encoders with a CTC layer, on transformers' own modules; only the loop over layers is ours.

wav2vec2 (Baevski et al., 2020) and HuBERT (Hsu et al., 2021) share one architecture: a convolutional feature encoder
that reads the waveform, a positional convolution, and Transformer layers. `asr.portable.speech` runs transformers'
`Wav2Vec2ForCTC` or `HubertForCTC` along a path; with every repeat count 1 a single utterance gives its logits. What
transformers does not have is `mask_padding` (default): base models are used without an attention mask, so their
results depend on what else is in the batch. Masked, the feature encoder's group norm takes its statistics from the
utterance's own frames, the positional convolution reads zeros behind them, and attention leaves padding out: an
utterance in a batch comes out as it does alone.

Sizes with a 32-way CTC layer: 94.396 / 80.221 / 66.045 / 51.869 / 37.693 / 30.605 / 23.518 M parameters for
12 / 10 / 8 / 6 / 4 / 3 / 2 layers (arXiv 2505.21237, Tables 2 and 3).
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from asr.backbones import Backbone, Batch, Encoded, EncoderState, LayerDrop, Outputs, blank_fraction, check_frames
from asr.backbones.compilation import compiled
from asr.portable.speech import close, convolve, ctc_logits, embed, layers_of, output_frames
from asr.precision import no_autocast
from asr.processes import mean_of_all, sum_of_all
from common.errors import UserError
from common.settings import Settings

BLANK = 0
"""wav2vec2's `<pad>`."""


class SpeechEncoderConfig(Settings):
    """The shape and training settings of a model; the defaults are those of the published base models."""

    layers: int = Field(12, gt=0)
    width: int = Field(768, gt=0)
    heads: int = Field(12, gt=0)
    ffn: int = Field(3072, gt=0)
    conv_dim: list[int] = [512] * 7
    conv_kernel: list[int] = [10, 3, 3, 3, 3, 2, 2]
    conv_stride: list[int] = [5, 2, 2, 2, 2, 2, 2]
    conv_bias: bool = False
    conv_norm: Literal["group", "layer"] = "group"
    """group: base models, the first convolution's channels over time; layer: large models, every convolution."""
    positional_kernel: int = Field(128, gt=0)
    positional_groups: int = Field(16, gt=0)
    pre_norm: bool = False
    """Layer norm before attention and feed-forward, as in large models; base models have it behind them."""
    sampling_rate: int = 16000
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    projection_dropout: float = 0.0
    layer_drop: float = Field(0.1, ge=0, lt=1)
    """Each execution is skipped with this probability in training, at every depth alike."""
    mask_time_prob: float = Field(0.05, gt=0, le=1)
    mask_time_length: int = Field(10, gt=0)
    mask_feature_prob: float = Field(0.0, ge=0, le=1)
    mask_feature_length: int = Field(10, gt=0)
    ctc_reduction: Literal["sum", "mean"] = "sum"
    """Over the batch: sum is transformers' default, and what the paper's loss weights belong to."""
    mask_padding: bool = True
    freeze_feature_encoder: bool = False
    """Leave the convolutional feature encoder as it is."""
    checkpoint_layers: bool = False
    """Keep only each layer execution's input and compute the rest again in the backward pass."""
    initial_deviation: float = Field(0.02, gt=0)
    """Standard deviation of the linear layers' random weights; 0.02 is small for a narrow model."""
    output_init: float = Field(1.0, gt=0)
    """The output projections of all residual branches are multiplied by this once, when the weights are drawn."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> "SpeechEncoderConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width % self.positional_groups:
            raise ValueError(f"width {self.width} is not a multiple of positional_groups {self.positional_groups}")
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise ValueError("conv_dim, conv_kernel and conv_stride differ in length")
        return self

    def transformers_settings(self, vocabulary: int) -> dict[str, Any]:
        """The same as keyword arguments of `Wav2Vec2Config` and `HubertConfig`."""
        return {
            "vocab_size": vocabulary,
            "num_hidden_layers": self.layers,
            **{theirs: getattr(self, ours) for ours, theirs in SHAPE.items()},
            "hidden_dropout": self.dropout,
            "final_dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "feat_proj_dropout": self.projection_dropout,
            "layerdrop": self.layer_drop,
            "mask_time_prob": self.mask_time_prob,
            "mask_time_length": self.mask_time_length,
            "mask_feature_prob": self.mask_feature_prob,
            "mask_feature_length": self.mask_feature_length,
            "ctc_loss_reduction": self.ctc_reduction,
            "ctc_zero_infinity": False,
            "pad_token_id": BLANK,
            "initializer_range": self.initial_deviation,
        }


SHAPE = {
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "conv_dim": "conv_dim",
    "conv_kernel": "conv_kernel",
    "conv_stride": "conv_stride",
    "conv_bias": "conv_bias",
    "conv_norm": "feat_extract_norm",
    "positional_kernel": "num_conv_pos_embeddings",
    "positional_groups": "num_conv_pos_embedding_groups",
    "pre_norm": "do_stable_layer_norm",
}
"""Our name -> transformers' name of everything that decides the shapes of the weights, the number of layers aside."""


class SpeechEncoder(Backbone):
    """`model` is transformers' `Wav2Vec2ForCTC` or `HubertForCTC`, with its parameter names under `model.`."""

    ctc_weight = 1.0

    def __init__(self, config: SpeechEncoderConfig, model: nn.Module):
        super().__init__()
        self.config = config
        self.layers = config.layers
        self.layer_drop = config.layer_drop
        self.dropout_in_layers = max(config.dropout, config.attention_dropout, config.activation_dropout) > 0
        self.model = model
        self.model.set_attn_implementation("sdpa")
        with torch.no_grad():
            for layer in layers_of(model):
                for linear in (layer.attention.out_proj, layer.feed_forward.output_dense):
                    linear.weight.mul_(config.output_init)

    def layer_module(self, layer: int) -> nn.Module:
        return layers_of(self.model)[layer]

    def output_modules(self) -> list[nn.Module]:
        return [self.model.lm_head]

    def draw_layer_drop(self, depth: int, generator: torch.Generator) -> LayerDrop | None:
        """The same rate at every execution and nothing rescaled, as in transformers (Fan et al., 2020)."""
        return LayerDrop.draw(self.layer_drop, depth, generator, kind="uniform") if self.layer_drop else None

    def output_lengths(self, lengths: Iterable[int]) -> list[int]:
        return [output_frames(self.model, length) for length in lengths]

    def front_end(self, inputs: Tensor, lengths: Tensor, masked: Tensor | None = None) -> EncoderState:
        """`inputs` (batch, samples), `lengths` (batch,) in samples. Spans of frames are replaced by the mask embedding:
        those that `masked` (batch, frames) says, else, in training, random ones."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_feature_encoder):
            features, valid, frames = convolve(self.model, inputs, lengths if self.config.mask_padding else None)
        x, attention_mask = embed(self.model, features, valid, frames, masked)
        return EncoderState(x, valid, frames, attention_mask=attention_mask)

    def run_layer(self, layer: int, state: EncoderState, drop: LayerDrop | None = None) -> EncoderState:
        if drop is not None and not drop.branch_scale(state.executed):
            return dataclasses.replace(state, executed=state.executed + 1)
        module = self.layer_module(layer)
        if self.config.checkpoint_layers and self.training and torch.is_grad_enabled():
            x = checkpoint(_run_again, module, _held(module), state.x, state.attention_mask, use_reentrant=False)
        else:
            run = compiled(_run) if self.compiles_now else _run
            x = run(module, state.x, state.attention_mask)
        return dataclasses.replace(state, x=x, executed=state.executed + 1)

    def finish(self, state: EncoderState) -> Encoded:
        return Encoded(close(self.model, state.x), state.lengths)

    def outputs(self, encoded: Encoded, batch: Batch) -> Outputs:
        return Outputs(self.ctc_logits(encoded), encoded.lengths)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """L = L_ctc (arXiv 2505.21237, section 2.1), summed over the batch or averaged as `ctc_reduction` says. Raises
        `UserError` for an utterance with too few frames for its labels."""
        check_frames(outputs.lengths, batch)
        with no_autocast(outputs.ctc_logits.device):
            log_probs = torch.log_softmax(outputs.ctc_logits.float(), -1).transpose(0, 1)
            lengths, labels = batch.target_lengths, batch.targets.clamp(min=0)
            each = F.ctc_loss(log_probs, labels, outputs.lengths, lengths, blank=BLANK, reduction="none")
            if self.config.ctc_reduction == "mean":  # by labels, as torch has it, which would wait to send them
                labels = lengths.clamp(min=1).to(each.device, non_blocking=True)
                ctc = mean_of_all((each / labels).mean(), len(batch.ids))
            else:
                ctc = sum_of_all(each.sum())
        return {"total": ctc, "ctc": ctc, "blank_fraction": blank_fraction(outputs)}

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        return ctc_logits(self.model, encoded.frames)

    def scorers(self) -> dict[str, Any]:
        raise UserError("beam search needs an attention decoder; a system with a CTC layer only is decoded greedily")

    @contextlib.contextmanager
    def eager_attention(self) -> Iterator[None]:
        self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation("sdpa")


def _run(layer: nn.Module, x: Tensor, attention_mask: Tensor | None) -> Tensor:
    """One layer, as a function that can be compiled for all of them."""
    return layer(x, attention_mask=attention_mask)


def _held(layer: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers that a layer runs with now, which need not be its own: a method may have put masked,
    rounded or narrower ones in their place for the length of a forward pass."""
    return {**dict(layer.named_parameters()), **dict(layer.named_buffers())}


def _run_again(layer: nn.Module, weights: dict[str, Tensor], *arguments: Tensor | None) -> Tensor:
    """A layer with the weights of its forward pass, whenever the backward pass computes it."""
    return functional_call(layer, weights, arguments)
