"""The attention decoder in training: ESPnet's layers with masks made on the device, and label smoothing.

ESPnet's own loop copies its masks to the device and its loss reads a number from there, once a step each; the sums are
the same.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.backbones import Batch, Encoded
from asr.portable.masks import before_the_end

IGNORED = -1
"""Padding of target tokens."""


def teacher_forced(decoder: nn.Module, encoded: Encoded, batch: Batch, sos: int) -> Tensor:
    """Logits (batch, tokens + 1, vocabulary) of each token of `batch` and of the end, given those before it. `decoder`
    is ESPnet's `TransformerDecoder`."""
    padded = F.pad(batch.targets, (1, 0), value=sos)
    tokens = padded.masked_fill(padded == IGNORED, sos)
    device, size = tokens.device, tokens.size(1)
    causal = torch.ones(size, size, dtype=torch.bool, device=device).tril()
    real = before_the_end(batch.target_lengths + 1, size, device)[:, None, :] & causal
    heard = before_the_end(encoded.lengths, encoded.frames.size(1), device)[:, None, :]
    x = decoder.embed(tokens)
    for layer in decoder.decoders:
        x, *_ = layer(x, real, encoded.frames, heard)
    return decoder.output_layer(decoder.after_norm(x))


def said(batch: Batch, eos: int) -> Tensor:
    """(batch, tokens + 1): the transcript, then end of sentence, then padding."""
    targets = F.pad(batch.targets, (0, 1), value=IGNORED)
    padding = targets == IGNORED
    return targets.masked_fill(padding & ~F.pad(padding, (1, -1)), eos)


def label_smoothing(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """KL divergence of `logits` (batch, tokens, vocabulary) from labels that keep 1 - `smoothing` and share the rest
    among all others, summed over the tokens of `targets` (batch, tokens) that are not padding and divided by the batch
    size, in nats. What ESPnet's `LabelSmoothingLoss` gives."""
    kept, each = 1 - smoothing, smoothing / (logits.size(-1) - 1)
    log_probs = torch.log_softmax(logits, -1)
    padding = targets == IGNORED
    right = log_probs.gather(-1, targets.masked_fill(padding, 0)[:, :, None])[:, :, 0]
    negative_entropy = sum(count * p * math.log(p) for count, p in ((1, kept), (logits.size(-1) - 1, each)) if p > 0)
    divergence = negative_entropy - each * log_probs.sum(-1) - (kept - each) * right
    return divergence.masked_fill(padding, 0.0).sum() / len(targets)
