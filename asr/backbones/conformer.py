"""The Conformer with joint CTC/attention training, built from ESPnet's own layers; only the loop over layers is ours.

The weights live in ESPnet's `ConformerEncoder`, `TransformerDecoder` and `CTC`, under ESPnet's names, so checkpoints
go both ways. With every repeat count 1 and `mask_padding` off the encoder output equals ESPnet's. Two things ESPnet
does not have:

- `mask_padding` (default): ESPnet's convolution module lets padded frames into its neighbours and into the batch
  statistics, and its subsampling keeps frames that see padding. Masked, an utterance's output does not depend on its
  batch.
- `branch_scale` s multiplies every residual branch: the cure for the all-blank plateau of deep stacks in short runs.
  It is the same function as scale 1 with the output projections times s (`folded_encoder_state`).

Sizes (arXiv 2505.21237, Table 1; 83-dim input, vocabulary 2002): 44.594 / 39.315 / 34.036 / 28.756 / 23.477 M
parameters for 12 / 10 / 8 / 6 / 4 layers.
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from asr.backbones import Backbone, Batch, Encoded, EncoderState, LayerDrop, Outputs, blank_fraction, check_frames
from asr.backbones.compilation import compiled
from asr.backbones.conformer_block import run_block
from asr.backbones.conformer_decoder import label_smoothing, said, teacher_forced
from asr.backbones.spec_augment import SpecAugment, SpecAugmentSettings
from asr.portable.masks import before_the_end
from asr.precision import no_autocast
from asr.processes import mean_of_all
from common.settings import Settings

with contextlib.redirect_stdout(io.StringIO()):  # ESPnet prints a line when flash-attention is not installed
    import espnet.nets.pytorch_backend.transformer.attention  # noqa: F401

from espnet.nets.pytorch_backend.conformer.swish import Swish
from espnet.nets.scorers.ctc import CTCPrefixScorer
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

INPUT = "log_mel"
BATCH_NORM = True
SHORTEST_INPUT_FRAMES = 7
"""Subsampling by 4 with two 3x3 convolutions of stride 2 needs so many frames for one output frame."""


class Config(Settings):
    """The paper's size by default (FACTS: ESPnet's Switchboard recipe, 80-dim input; 83 gives the paper's parameter
    counts)."""

    layers: int = Field(12, gt=0)
    input_dim: int = Field(80, ge=SHORTEST_INPUT_FRAMES)
    width: int = 256
    heads: int = 4
    ffn: int = 2048
    kernel: int = 31
    dropout: float = 0.1
    attention_dropout: float = 0.0
    layer_drop: float = Field(0.1, ge=0, lt=1)
    decoder_layers: int = Field(6, gt=0)
    decoder_heads: int = 4
    decoder_ffn: int = 2048
    ctc_weight: float = Field(0.3, ge=0, le=1)
    label_smoothing: float = 0.1
    mask_padding: bool = True
    branch_scale: float = Field(1.0, gt=0)
    output_init: float = Field(1.0, gt=0)
    """The output projections of all residual branches are multiplied by this once, when the weights are drawn."""
    spec_augment: SpecAugmentSettings | None = SpecAugmentSettings()

    @model_validator(mode="after")
    def _shapes_fit(self) -> "Config":
        if self.width % self.heads or self.width % self.decoder_heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads} and {self.decoder_heads}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is not odd")
        return self


def build(config: Config, vocabulary: int) -> "Conformer":
    """A Conformer with random weights; `vocabulary` counts blank (id 0) and sos/eos (the last id)."""
    return Conformer(config, vocabulary)


def encoder_settings(config: Config) -> dict[str, Any]:
    """What ESPnet calls `encoder_conf`: keyword arguments of its `ConformerEncoder`."""
    return {
        "output_size": config.width,
        "attention_heads": config.heads,
        "linear_units": config.ffn,
        "num_blocks": config.layers,
        "dropout_rate": config.dropout,
        "positional_dropout_rate": config.dropout,
        "attention_dropout_rate": config.attention_dropout,
        "macaron_style": True,
        "rel_pos_type": "latest",
        "cnn_module_kernel": config.kernel,
    }


def decoder_settings(config: Config) -> dict[str, Any]:
    """What ESPnet calls `decoder_conf`: keyword arguments of its `TransformerDecoder`."""
    return {
        "attention_heads": config.decoder_heads,
        "linear_units": config.decoder_ffn,
        "num_blocks": config.decoder_layers,
        "dropout_rate": config.dropout,
        "positional_dropout_rate": config.dropout,
    }


class Conformer(Backbone):
    """Encoder, attention decoder and CTC layer with ESPnet's parameter names (`encoder.*`, `decoder.*`, `ctc.*`)."""

    def __init__(self, config: Config, vocabulary: int):
        super().__init__()
        self.config = config
        self.layers = config.layers
        self.layer_drop = config.layer_drop
        self.dropout_in_layers = max(config.dropout, config.attention_dropout) > 0
        self.ctc_weight = config.ctc_weight
        self.sos_eos = vocabulary - 1
        self.encoder = ConformerEncoder(config.input_dim, **encoder_settings(config))
        _use_torchs_swish(self.encoder)
        self.decoder = TransformerDecoder(vocabulary, config.width, **decoder_settings(config))
        self.ctc = CTC(odim=vocabulary, encoder_output_size=config.width)
        self.spec_augment = None if config.spec_augment is None else SpecAugment(config.spec_augment)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Xavier weights and zero biases as in ESPnet's recipes (`init: xavier_uniform`), embeddings and norms
        untouched."""
        norms = (nn.LayerNorm, nn.BatchNorm1d, nn.Embedding)
        for module in self.modules():
            if isinstance(module, norms):
                continue
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
                elif name == "bias":
                    parameter.zero_()
        for parameter in _output_projections(self.encoder):
            parameter.mul_(self.config.output_init)

    def layer_module(self, layer: int) -> nn.Module:
        return self.encoder.encoders[layer]

    def output_modules(self) -> list[nn.Module]:
        return [self.decoder, self.ctc]

    def output_lengths(self, lengths: Iterable[int]) -> list[int]:
        return [max(0, ((length - 1) // 2 - 1) // 2) for length in lengths]

    def front_end(self, inputs: Tensor, lengths: Tensor) -> EncoderState:
        if inputs.size(1) < SHORTEST_INPUT_FRAMES:
            inputs = F.pad(inputs, (0, 0, 0, SHORTEST_INPUT_FRAMES - inputs.size(1)))
        if self.training and self.spec_augment is not None:
            inputs = self.spec_augment(inputs, lengths)
        x, positions = self._subsampled(inputs)
        # ESPnet keeps an output frame as soon as its first input frame is real; we keep those that see no padding.
        kept = (((lengths - 1) // 2 - 1) // 2).clamp(min=0)
        if not self.config.mask_padding:
            kept = ((lengths + 3) // 4).clamp(max=x.size(1))
        return EncoderState(x, before_the_end(kept, x.size(1), x.device), kept, positions)

    def _subsampled(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """A quarter of the frames, and the embeddings of their relative positions. ESPnet would round its table of
        positions to the precision of what it is added to, for good."""
        convolved = self.encoder.embed.conv(inputs[:, None])
        linear, encoding = self.encoder.embed.out
        x = linear(convolved.transpose(1, 2).flatten(2)) * encoding.xscale
        encoding.extend_pe(x[:, :, :1].float())
        middle, frames = encoding.pe.size(1) // 2, x.size(1)
        positions = encoding.pe[:, middle - frames + 1 : middle + frames].to(x.dtype)
        return encoding.dropout(x), encoding.dropout(positions)

    def run_layer(self, layer: int, state: EncoderState, drop: LayerDrop | None = None) -> EncoderState:
        scale = 1.0 if drop is None else drop.branch_scale(state.executed)
        x = state.x
        if scale:
            block, scale = self.encoder.encoders[layer], scale * self.config.branch_scale
            run = run_block
            if self.compiles_now:
                run, scale = compiled(run_block), torch.full((), scale, device=x.device)
            x = run(block, x, state.positions, state.valid, scale, self.config.mask_padding)
        return dataclasses.replace(state, x=x, executed=state.executed + 1)

    def finish(self, state: EncoderState) -> Encoded:
        return Encoded(self.encoder.after_norm(state.x), state.lengths)

    def outputs(self, encoded: Encoded, batch: Batch) -> Outputs:
        logits = teacher_forced(self.decoder, encoded, batch, self.sos_eos)
        return Outputs(self.ctc_logits(encoded), encoded.lengths, logits)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """L = (1 - lambda) L_att + lambda L_ctc (arXiv 2505.21237, Eq. 1), both summed and divided by the batch
        size. Raises `UserError` for an utterance with too few frames for its labels."""
        check_frames(outputs.lengths, batch)
        with no_autocast(outputs.ctc_logits.device):
            log_probs = torch.log_softmax(outputs.ctc_logits.float(), -1).transpose(0, 1)
            targets = batch.targets.clamp(min=0)
            ctc = F.ctc_loss(log_probs, targets, outputs.lengths, batch.target_lengths, reduction="sum") / len(targets)
            smoothing = self.config.label_smoothing
            attention = label_smoothing(outputs.decoder_logits.float(), said(batch, self.sos_eos), smoothing)
        ctc, attention = (mean_of_all(each, len(batch.ids)) for each in (ctc, attention))
        total = (1 - self.ctc_weight) * attention + self.ctc_weight * ctc
        return {"total": total, "ctc": ctc, "attention": attention, "blank_fraction": blank_fraction(outputs)}

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        return self.ctc.ctc_lo(encoded.frames)

    def scorers(self) -> dict[str, Any]:
        return {"decoder": self.decoder, "ctc": CTCPrefixScorer(ctc=self.ctc, eos=self.sos_eos)}


def _use_torchs_swish(encoder: ConformerEncoder) -> None:
    """torch's own x * sigmoid(x) is one operation, forward and backward; ESPnet's is two and five."""
    for module in list(encoder.modules()):
        for name, part in module.named_children():
            if isinstance(part, Swish):
                setattr(module, name, nn.SiLU())


def _output_projections(encoder: ConformerEncoder) -> list[nn.Parameter]:
    """Weights and biases of the last linear map of each residual branch, of every layer."""
    parameters = []
    for block in encoder.encoders:
        for linear in (
            block.feed_forward_macaron.w_2,
            block.self_attn.linear_out,
            block.conv_module.pointwise_conv2,
            block.feed_forward.w_2,
        ):
            parameters += [linear.weight, linear.bias]
    return parameters


@torch.no_grad()
def folded_encoder_state(model: Conformer) -> dict[str, Tensor]:
    """State dict for ESPnet's `ConformerEncoder`: the branch scale is multiplied into the output projections."""
    projections = {id(parameter) for parameter in _output_projections(model.encoder)}
    scale = model.config.branch_scale
    named = {name: id(parameter) for name, parameter in model.encoder.named_parameters()}
    return {
        name: value * scale if named.get(name) in projections else value.clone()
        for name, value in model.encoder.state_dict().items()
    }


@torch.no_grad()
def load_espnet_encoder(model: Conformer, state: dict[str, Tensor]) -> None:
    """Load the state dict of an ESPnet `ConformerEncoder`; the output projections are divided by our branch scale."""
    model.encoder.load_state_dict(state)
    for parameter in _output_projections(model.encoder):
        parameter.div_(model.config.branch_scale)
