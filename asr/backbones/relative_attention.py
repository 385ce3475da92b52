"""Self-attention with relative positions (Dai et al., 2019, section 3.3), on the weights of ESPnet's module.

    scores = ((q + u) k^T + shift((q + v) p^T)) / sqrt(d_k)

The same function as ESPnet's `RelPositionMultiHeadedAttention`, in another order of work. Heads come first, so that
positions, which all utterances share, are one matrix product a head. The scale is taken into the queries, the mask is a
term that is added, and the shift is a view: over frames x frames only products, one sum and the softmax are left.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def relative_attention(attention: nn.Module, x: Tensor, positions: Tensor, valid: Tensor) -> Tensor:
    """ESPnet's `RelPositionMultiHeadedAttention`; `x` (batch, frames, width), `positions` (1, 2 frames - 1, width),
    `valid` (batch, frames): which frames are attended to. Gives (batch, frames, width). Frames of an utterance that has
    no valid one attend to all alike."""
    batch, frames = valid.shape
    scale = 1.0 / math.sqrt(attention.d_k)
    query = _heads_first(attention, attention.linear_q(x))
    key = _heads_first(attention, attention.linear_k(x)).flatten(0, 1)
    value = _heads_first(attention, attention.linear_v(x)).flatten(0, 1)
    by_content = ((query + attention.pos_bias_u[:, None, None]) * scale).flatten(0, 1)
    by_position = ((query + attention.pos_bias_v[:, None, None]) * scale).flatten(1, 2)
    distances = _heads_first(attention, attention.linear_pos(positions)).flatten(1, 2)
    scores = shift(torch.bmm(by_position, distances.mT).view(attention.h, batch, frames, -1))
    scores = scores + bias_of(valid, scores.dtype)
    scores = torch.baddbmm(scores.flatten(0, 1), by_content, key.mT)
    weights = F.dropout(scores.softmax(-1), attention.dropout.p, attention.training)
    attended = torch.bmm(weights, value).view(attention.h, batch, frames, attention.d_k)
    return attention.linear_out(attended.permute(1, 2, 0, 3).flatten(2))


def shift(scores: Tensor) -> Tensor:
    """Of scores (..., frames, 2 frames - 1) by distance, from frames - 1 before to frames - 1 behind, those of each
    pair of frames (..., frames, frames): row i begins at column frames - 1 - i."""
    frames = scores.size(-2)
    if frames == 1:
        return scores
    rows = scores.flatten(-2).narrow(-1, frames - 1, frames * (2 * frames - 2))
    return rows.unflatten(-1, (frames, 2 * frames - 2))[..., :frames]


def bias_of(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores (heads, batch, frames, frames) so that frames that are not `valid` get no weight."""
    bias = torch.zeros(valid.shape, dtype=dtype, device=valid.device)
    return bias.masked_fill(~valid, torch.finfo(dtype).min)[None, :, None, :]


def _heads_first(attention: nn.Module, x: Tensor) -> Tensor:
    """(batch, frames, width) as (heads, batch, frames, width a head)."""
    return x.unflatten(-1, (attention.h, attention.d_k)).permute(2, 0, 1, 3)
