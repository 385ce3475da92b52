"""Attention with relative positions: ESPnet's own module on the same weights, forward and backward."""

import pytest
import torch
from espnet.nets.pytorch_backend.transformer.attention import RelPositionMultiHeadedAttention

from asr.backbones.relative_attention import relative_attention, shift


def attention(dropout=0.0):
    torch.manual_seed(0)
    module = RelPositionMultiHeadedAttention(4, 32, dropout)
    torch.nn.init.normal_(module.pos_bias_u)
    torch.nn.init.normal_(module.pos_bias_v)
    return module


def gradients(module, x, run):
    x = x.clone().requires_grad_()
    module.zero_grad()
    outputs = run(x)
    outputs.square().sum().backward()
    return [outputs.detach(), x.grad, *(parameter.grad.clone() for parameter in module.parameters())]


@pytest.mark.parametrize("frames", [1, 2, 3, 17])
def test_equals_espnets_module(frames):
    """Utterances of different length, one of a single frame among them; also where there is one frame in all."""
    module, lengths = attention(), torch.tensor([frames, max(1, frames // 2), 1])
    x, positions = torch.randn(3, frames, 32), torch.randn(1, 2 * frames - 1, 32)
    valid = torch.arange(frames) < lengths[:, None]
    theirs = gradients(module, x, lambda x: module(x, x, x, positions, valid[:, None, :]) * valid[:, :, None])
    ours = gradients(module, x, lambda x: relative_attention(module, x, positions, valid) * valid[:, :, None])
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_row_i_of_the_shift_begins_at_the_distance_of_its_first_frame():
    """By hand: distances -2 to 2 in columns 0 to 4; row i, column j wants j - i."""
    scores = torch.arange(15.0).view(3, 5)
    assert shift(scores).tolist() == [[2.0, 3.0, 4.0], [6.0, 7.0, 8.0], [10.0, 11.0, 12.0]]


def test_what_is_not_valid_gets_no_weight_at_all():
    module, x, positions = attention(), torch.randn(2, 6, 32), torch.randn(1, 11, 32)
    valid = torch.arange(6) < torch.tensor([[6], [4]])
    other = x.clone()
    other[1, 4:] = 1e4
    first, second = (relative_attention(module, inputs, positions, valid) for inputs in (x, other))
    assert torch.equal(first[1, :4], second[1, :4])


def test_an_utterance_without_frames_gives_numbers():
    module, x, positions = attention(), torch.randn(2, 4, 32), torch.randn(1, 7, 32)
    valid = torch.tensor([[True] * 4, [False] * 4])
    assert relative_attention(module, x, positions, valid).isfinite().all()


def test_dropout_is_of_the_weights_and_in_training_alone():
    module, x, positions = attention(dropout=0.5), torch.randn(1, 8, 32), torch.randn(1, 15, 32)
    valid = torch.ones(1, 8, dtype=torch.bool)
    first, second = (relative_attention(module.train(), x, positions, valid) for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (relative_attention(module.eval(), x, positions, valid) for _ in range(2))
    assert torch.equal(first, second)


def test_half_precision():
    module, x, positions = attention(), torch.randn(2, 6, 32), torch.randn(1, 11, 32)
    valid = torch.arange(6) < torch.tensor([[6], [4]])
    exact = relative_attention(module, x, positions, valid)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = relative_attention(module, x, positions, valid)
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)
