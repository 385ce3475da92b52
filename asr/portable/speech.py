"""wav2vec2 and HuBERT along a path: transformers' own modules, run piece by piece. `asr.backbones.speech_encoder` says
why.

`model` is `Wav2Vec2ForCTC` or `HubertForCTC`. What transformers does not have is that padding is left out: the feature
encoder's group norm takes its statistics from an utterance's own frames, the positional convolution reads zeros behind
them, and attention leaves them out.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from .masks import before_the_end


def base_of(model: nn.Module) -> nn.Module:
    """The encoder without its CTC layer."""
    return getattr(model, model.base_model_prefix)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The physical layers."""
    return base_of(model).encoder.layers


def output_frames(model: nn.Module, samples: Any) -> Any:
    """Encoder frames that so many samples give (an int or a tensor of them); 0 when there are too few for one."""
    for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples.clamp(min=0) if isinstance(samples, Tensor) else max(0, samples)


def shortest_input(model: nn.Module) -> int:
    """Samples that one encoder frame needs."""
    samples = 1
    for kernel, stride in reversed(list(zip(model.config.conv_kernel, model.config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    return samples


def convolve(model: nn.Module, samples: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The convolutional feature encoder: `samples` (batch, samples) -> (batch, frames, channels), which of the frames
    are real (batch, frames), and how many (batch,), on the host as `lengths` are.

    The convolutions are not padded, so a real frame sees real samples only; what would let padding in is the group norm
    over time. `lengths` (batch,) None: as transformers does it, all frames count as real.
    """
    shortest = shortest_input(model)
    if samples.size(1) < shortest:
        samples = F.pad(samples, (0, shortest - samples.size(1)))
    x = samples[:, None]
    for layer in base_of(model).feature_extractor.conv_layers:
        norm = getattr(layer, "layer_norm", None)
        if lengths is not None and isinstance(norm, nn.GroupNorm) and holds_anywhere(lengths < samples.size(1)):
            x = layer.conv(x)
            frames = (lengths - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1
            x = layer.activation(_group_norm_of_real_frames(norm, x, frames))
        else:
            x = layer(x)
    if lengths is None:
        valid = x.new_ones((len(x), x.size(2)), dtype=torch.bool)
        return x.transpose(1, 2), valid, torch.full((len(x),), x.size(2))
    frames = output_frames(model, lengths)
    return x.transpose(1, 2), before_the_end(frames, x.size(2), x.device), frames


def _group_norm_of_real_frames(norm: nn.GroupNorm, x: Tensor, frames: Tensor) -> Tensor:
    """Utterance by utterance, so that the sums are the very ones that an utterance alone would give; all at once in an
    exported graph, which cannot count utterances."""
    frames = frames.clamp(min=1, max=x.size(2))
    if torch.compiler.is_exporting():
        real = before_the_end(frames, x.size(2), x.device)[:, None, :]
        count = real.sum(2, keepdim=True)
        centred = (x - (x * real).sum(2, keepdim=True) / count) * real
        scaled = centred * (centred.square().sum(2, keepdim=True) / count + norm.eps).rsqrt()
        return (scaled * norm.weight[:, None] + norm.bias[:, None]) * real
    parts = []
    for row, count in zip(x.split(1), frames.tolist(), strict=True):
        parts.append(F.pad(norm(row[:, :, :count]), (0, x.size(2) - count)))
    return torch.cat(parts)


def holds_anywhere(condition: Tensor) -> bool:
    """Whether any element is true. An exported graph serves all inputs: there it may always be."""
    return torch.compiler.is_exporting() or bool(condition.any())


def embed(
    model: nn.Module, features: Tensor, valid: Tensor, frames: Tensor, masked: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """From convolutional features to the input of the first layer, (batch, frames, width), and the attention mask in
    the form that layers take (None: everything is attended to): projection, masked spans (in training), positions.
    `frames` (batch,), on the host, counts the `valid` ones."""
    base, encoder = base_of(model), base_of(model).encoder
    x = base.feature_projection(features)
    x = x[0] if isinstance(x, tuple) else x  # wav2vec2 returns the features before the projection too
    x = with_spans_masked(model, x, frames, masked)
    attention_mask = None
    if holds_anywhere(frames < x.size(1)):
        x = x.masked_fill(~valid[:, :, None], 0.0)
        keys = valid.clone()
        keys[:, 0] = True  # an utterance too short for one frame attends to something; its output is not read
        attention_mask = create_bidirectional_mask(
            config=model.config,
            inputs_embeds=x,
            attention_mask=keys,
            allow_is_bidirectional_skip=False,  # whether there is padding is known: nobody need look
        )
    x = x + encoder.pos_conv_embed(x)
    if not model.config.do_stable_layer_norm:
        x = encoder.layer_norm(x)
    return encoder.dropout(x), attention_mask


def with_spans_masked(model: nn.Module, x: Tensor, frames: Tensor, masked: Tensor | None) -> Tensor:
    """SpecAugment as transformers has it, with its draws: the mask embedding in the place of masked frames of `x`
    (batch, frames, width), those of `masked` (batch, frames) or random ones, and zeros in random channels. transformers
    assigns through boolean indices, for which the host would have to wait."""
    config, base = model.config, base_of(model)
    if not getattr(config, "apply_spec_augment", True):
        return x
    (batch, length, width), device = x.shape, x.device
    if masked is None and base.training and config.mask_time_prob > 0:
        real = before_the_end(frames, length, frames.device)
        share, span, fewest = config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks
        drawn = _compute_mask_indices((batch, length), share, span, real, fewest)
        masked = torch.from_numpy(drawn).to(device, non_blocking=True)
    if masked is not None:
        x = torch.where(masked[:, :, None], base.masked_spec_embed.to(x.dtype), x)
    if base.training and config.mask_feature_prob > 0:
        share, span, fewest = config.mask_feature_prob, config.mask_feature_length, config.mask_feature_min_masks
        drawn = torch.from_numpy(_compute_mask_indices((batch, width), share, span, min_masks=fewest))
        x = x.masked_fill(drawn.to(device, non_blocking=True)[:, None, :], 0.0)
    return x


def close(model: nn.Module, x: Tensor) -> Tensor:
    """What follows the last layer: the norm of large models."""
    return base_of(model).encoder.layer_norm(x) if model.config.do_stable_layer_norm else x


def ctc_logits(model: nn.Module, frames: Tensor) -> Tensor:
    """(batch, frames, vocabulary)."""
    return model.lm_head(model.dropout(frames))
