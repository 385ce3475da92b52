"""One Conformer block along ESPnet's own submodules, with padding left out.

Frames stand before channels throughout, so that pointwise convolutions are matrix products.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.backbones.masked_batch_norm import masked_batch_norm
from asr.backbones.relative_attention import relative_attention
from asr.processes import sums_of_batch_norm


def run_block(
    block: nn.Module, x: Tensor, positions: Tensor, valid: Tensor, scale: float | Tensor, mask_padding: bool
) -> Tensor:
    """One Conformer block: ESPnet's `EncoderLayer`, submodule by submodule, each residual branch times `scale`.

    `x` (batch, frames, width), `positions` (1, 2 frames - 1, width), `valid` (batch, frames). The scale is a number, or
    a tensor (): a compiler takes numbers for constants, and would begin anew at every draw of layer drop.
    """
    half = scale * block.ff_scale
    x = _plus(x, half, block.dropout(block.feed_forward_macaron(block.norm_ff_macaron(x))))
    attended = relative_attention(block.self_attn, block.norm_mha(x), positions, valid)
    x = _plus(x, scale, block.dropout(attended))
    normed = block.norm_conv(x)
    convolved = masked_convolution(block.conv_module, normed, valid) if mask_padding else block.conv_module(normed)
    x = _plus(x, scale, block.dropout(convolved))
    x = _plus(x, half, block.dropout(block.feed_forward(block.norm_ff(x))))
    return block.norm_final(x)


def _plus(x: Tensor, scale: float | Tensor, branch: Tensor) -> Tensor:
    """x + scale * branch, in one operation where the scale is a number."""
    return x + scale * branch if isinstance(scale, Tensor) else torch.add(x, branch, alpha=scale)


def masked_convolution(module: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    """ESPnet's `ConvolutionModule` without padding: `x` (batch, frames, width), `valid` (batch, frames).

    Padded frames are silenced before the depthwise convolution, and batch norm takes its statistics from real frames
    only.
    """
    x = F.glu(pointwise(module.pointwise_conv1, x), dim=2)
    x = depthwise(module.depthwise_conv, x.masked_fill(~valid[:, :, None], 0.0))
    if module.norm.training and _called_for_more(module.norm, nn.BatchNorm1d):
        x = torch.zeros_like(x).masked_scatter(valid[:, :, None], module.norm(x[valid]))
    elif module.norm.training:
        x = masked_batch_norm(module.norm, x, valid, add_up=sums_of_batch_norm())
    else:
        x = module.norm(x.flatten(0, 1)).view_as(x)
    return pointwise(module.pointwise_conv2, module.activation(x))


def pointwise(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of width 1 over (batch, frames, channels)."""
    if _called_for_more(convolution):
        return convolution(x.transpose(1, 2)).transpose(1, 2)
    return F.linear(x, convolution.weight[:, :, 0], convolution.bias)


def depthwise(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """A depthwise convolution over (batch, frames, channels): frames are an image of height 1 whose channels come last,
    for which torch's kernels need no copy in another order."""
    if _called_for_more(convolution):
        return convolution(x.transpose(1, 2)).transpose(1, 2)
    weight, padding = convolution.weight[:, :, None], (0, *convolution.padding)
    image = x.transpose(1, 2)[:, :, None]
    convolved = F.conv2d(image, weight, convolution.bias, padding=padding, groups=convolution.groups)
    return convolved[:, :, 0].transpose(1, 2).contiguous()


def _called_for_more(module: nn.Module, kind: type[nn.Module] = nn.Conv1d) -> bool:
    """Whether a call of the module does more than torch's `kind` does: it is another one, or hooks watch or change
    it."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks, module._backward_pre_hooks)
    return type(module) is not kind or any(hooks)
