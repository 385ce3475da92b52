"""Batch norm of padded utterances against torch's own, given their real frames alone."""

import copy

import pytest
import torch
from torch import nn

from asr.backbones.masked_batch_norm import masked_batch_norm
from methods.shared.views import with_weights

LENGTHS = (7, 3, 0, 12)
VALID = torch.arange(12)[None, :] < torch.tensor(LENGTHS)[:, None]


def norms(momentum=0.1, **settings):
    """A batch norm away from its start, twice."""
    torch.manual_seed(0)
    made = nn.BatchNorm1d(6, momentum=momentum, **settings)
    with torch.no_grad():
        for tensor in (made.weight, made.bias, made.running_mean):
            if tensor is not None:
                tensor.normal_()
    return made, copy.deepcopy(made)


def inputs(seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (5 + 3 * torch.randn(4, 12, 6, generator=generator)).to(dtype)


def gathered(norm, x):
    return torch.zeros_like(x).masked_scatter(VALID[:, :, None], norm(x[VALID]))


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
def test_outputs_gradients_and_statistics_are_torchs(momentum):
    ours, theirs = norms(momentum)
    for seed in range(3):
        found, expected = inputs(seed).requires_grad_(), inputs(seed).requires_grad_()
        made, wanted = masked_batch_norm(ours, found, VALID), gathered(theirs, expected)
        torch.testing.assert_close(made, wanted, atol=1e-6, rtol=1e-6)
        slope = torch.randn(made.shape, generator=torch.Generator().manual_seed(9))
        for given in (made, wanted):
            (given * slope).sum().backward()
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-6, rtol=1e-6)
        for name, parameter in theirs.named_parameters():
            torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, atol=1e-5, rtol=1e-6)
    assert int(ours.num_batches_tracked) == int(theirs.num_batches_tracked) == 3
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-7, rtol=5e-7)


def test_the_derivative_is_that_of_differences():
    norm = norms()[0].double()

    def normalised(x, weight, bias):
        return with_weights(norm, {"weight": weight, "bias": bias}, masked_batch_norm, x, VALID)

    given = [each.detach().clone().requires_grad_() for each in (inputs().double(), norm.weight, norm.bias)]
    assert torch.autograd.gradcheck(normalised, given)


def test_moments_stay_float32_under_autocast():
    """bfloat16 has 8 bits: a mean of 5 +- 0.01 would be lost in sums of it."""
    ours, theirs = norms(1.0)
    x = inputs(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        made = masked_batch_norm(ours, x, VALID)
    wanted = gathered(theirs, x.float())
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), wanted, atol=0.02, rtol=0.01)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.running_var, theirs.running_var, atol=1e-5, rtol=0)


def test_padding_is_neither_read_nor_written():
    ours, theirs = norms()
    x, other = inputs(), torch.where(VALID[:, :, None], inputs(), torch.tensor(1e4))
    found, same = masked_batch_norm(ours, x, VALID), masked_batch_norm(theirs, other, VALID)
    torch.testing.assert_close(found, same, atol=1e-6, rtol=1e-6)
    assert not found[~VALID].any() and torch.equal(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_frames_have_no_variance(count):
    norm, _ = norms()
    valid = torch.zeros(4, 12, dtype=torch.bool)
    valid[0, :count] = True
    made = masked_batch_norm(norm, inputs().requires_grad_(), valid)
    made.sum().backward()
    assert torch.equal(made[0, :count], norm.bias.detach().expand(count, -1))
    assert not made[~valid].any() and all(buffer.isfinite().all() for buffer in norm.buffers())


def test_sums_of_several_processes():
    """Each half of a batch, with the sums of both, gives what the whole batch gives."""
    whole, half = norms()
    x = inputs()
    expected = masked_batch_norm(whole, x, VALID)
    for own, other in ((slice(0, 1), slice(1, 4)), (slice(1, 4), slice(0, 1))):
        there, real = x[other], VALID[other]
        mean = x[VALID].mean(0)
        of_the_other = [
            torch.cat([real.sum()[None], there[real].sum(0)]),
            (there[real] - mean).square().sum(0),
        ]
        norm = copy.deepcopy(half)
        found = masked_batch_norm(norm, x[own], VALID[own], lambda sums, rest=of_the_other: sums + rest.pop(0))
        torch.testing.assert_close(found, expected[own], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(norm.running_var, whole.running_var, atol=1e-6, rtol=1e-6)
