"""Batch-norm statistics estimated again: against calculations by hand, and nothing else is touched."""

import copy

import pytest
import torch
from torch import nn

from asr.batch_norm import batch_norms, estimating, set_statistics, statistics_of
from tests.models import STILL, batch, conformer, small_encoder, waves

RANDOM = {"dropout": 0.4, "attention_dropout": 0.4, "layer_drop": 0.5}


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def seen_by(norm, run):
    """What `norm` was given at each execution of `run`, as rows of features."""
    seen = []
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    run()
    hook.remove()
    return seen


def test_means_and_unbiased_variances_of_two_executions_count_alike():
    """By hand: rows 0, 2 and then 10, 11, 12, 13; the larger batch weighs no more than the smaller."""
    module = nn.Sequential(nn.BatchNorm1d(1))
    with estimating(module):
        module(torch.tensor([[0.0], [2.0]]))
        module(torch.tensor([[10.0], [11.0], [12.0], [13.0]]))
    assert float(module[0].running_mean) == pytest.approx((1.0 + 11.5) / 2)
    assert float(module[0].running_var) == pytest.approx((2.0 + 5.0 / 3) / 2)
    assert int(module[0].num_batches_tracked) == 2


def test_a_layer_that_runs_twice_counts_twice_at_its_own_inputs():
    model = conformer(**STILL).eval()
    first, second = batch(), batch(seed=2)
    norm = model.layer_module(1).conv_module.norm

    def run():
        with estimating(model):
            for data in (first, second):
                model.encode(data.inputs, data.input_lengths, (1, 2, 1, 1))

    frames = seen_by(norm, run)
    assert len(frames) == 4 and not torch.equal(frames[0], frames[1])
    means, variances = ([getattr(rows, what)(0) for rows in frames] for what in ("mean", "var"))
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0), atol=1e-6, rtol=1e-5)
    counted = [int(each.num_batches_tracked) for each in batch_norms(model).values()]
    assert counted == [2, 4, 2, 2]
    watched = statistics_of(model)
    run()  # unwatched, no frame is gathered
    close(statistics_of(model), watched)


def test_two_paths_count_each_by_itself():
    """Seed and deep path: what they have in common is executed, and counts, once in each."""
    model, data = conformer(**STILL).eval(), batch()
    alone = {}
    for path in ((1, 1, 1, 1), (1, 1, 2, 2)):
        with estimating(model):
            model.encode(data.inputs, data.input_lengths, path)
        alone[path] = statistics_of(model)
    with estimating(model):
        for path in alone:
            model.encode(data.inputs, data.input_lengths, path)
    both, (seed, deep) = statistics_of(model), alone.values()
    for layer, executions in enumerate((1, 1, 2, 2)):
        name = f"encoder.encoders.{layer}.conv_module.norm.running_mean"
        expected = (seed[name] + executions * deep[name]) / (1 + executions)
        torch.testing.assert_close(both[name], expected, atol=1e-6, rtol=1e-5)


def test_all_else_is_in_evaluation_mode():
    """With dropout, layer drop and SpecAugment, in a module in training mode: as without any of them."""
    model, still = conformer(**RANDOM).train(), conformer(**STILL).eval()
    still.load_state_dict(model.state_dict())
    data = batch()
    found = []
    for each in (model, model, still):
        with estimating(each):
            each.encode(data.inputs, data.input_lengths, (1, 1, 2, 2))
        found.append(statistics_of(each))
    close(found[0], found[1])
    close(found[0], found[2])
    by_hand = still.train()  # nothing in it is random
    for norm in batch_norms(by_hand).values():
        norm.reset_running_stats()
        norm.momentum = None
    by_hand.encode(data.inputs, data.input_lengths, (1, 1, 2, 2))
    close(found[0], statistics_of(by_hand))


def test_weights_modes_and_momentum_are_as_before():
    model = conformer(**RANDOM).train()
    model.layer_module(0).eval()
    model.layer_module(1).conv_module.norm.momentum = 0.03
    frozen = next(model.decoder.parameters()).requires_grad_(False)
    before = copy.deepcopy(model)
    with estimating(model):
        model.encode(batch().inputs, batch().input_lengths)
    moved = statistics_of(model).keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]) == (name not in moved), name
    assert [part.training for part in model.modules()] == [part.training for part in before.modules()]
    assert [n.momentum for n in batch_norms(model).values()] == [0.1, 0.03, 0.1, 0.1]
    assert not frozen.requires_grad and all(p.grad is None for p in model.parameters())
    assert sum(p.requires_grad for p in model.parameters()) == len([*model.parameters()]) - 1


def test_padding_makes_no_difference():
    """The same utterances with more padding, and other things standing in it; where padding counts, it does."""
    data = batch()
    longer = torch.full((3, 130, data.inputs.size(2)), 50.0)
    for row, length in enumerate(data.input_lengths):
        longer[row, :length] = data.inputs[row, :length]
    for masked in (True, False):
        model = conformer(**STILL, mask_padding=masked).eval()
        found = []
        for inputs in (data.inputs, longer):
            with estimating(model):
                model.encode(inputs, data.input_lengths, (1, 2, 1, 2))
            found.append(statistics_of(model))
        if masked:
            close(*found)
        else:
            with pytest.raises(AssertionError):
                close(*found)


def test_what_is_not_executed_keeps_its_statistics():
    model = conformer(**STILL).eval()
    before = statistics_of(model)
    with estimating(model):
        model.encode(batch().inputs, batch().input_lengths, (1, 1, 0, 0))
    after = statistics_of(model)
    kept = {name for name in after if torch.equal(after[name], before[name])}
    assert kept == {name for name in after if ".encoders.2." in name or ".encoders.3." in name}


def test_an_error_leaves_all_as_it_was():
    model = conformer(**RANDOM).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), estimating(model):
        model.encode(batch().inputs, batch().input_lengths)
        raise KeyboardInterrupt
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(part.training for part in model.modules())
    assert {norm.momentum for norm in batch_norms(model).values()} == {0.1}


def test_in_float32_whatever_surrounds_it():
    model, data = conformer(**STILL).eval(), batch()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), estimating(model):
            model.encode(data.inputs, data.input_lengths)
        found.append(statistics_of(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_model_without_batch_norm_has_none():
    model, data = small_encoder().train(), waves()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert batch_norms(model) == {} and statistics_of(model) == {}
    with estimating(model):
        model.encode(data.inputs, data.input_lengths)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert batch_norms(nn.BatchNorm1d(3, track_running_stats=False)) == {}


def test_statistics_go_from_one_model_to_another():
    model, other = conformer(**STILL), conformer(seed=1, **STILL)
    set_statistics(other, statistics_of(model))
    close(statistics_of(other), statistics_of(model))
    with pytest.raises(ValueError, match="statistics of other batch norms: encoder.encoders.3"):
        set_statistics(conformer(**STILL, layers=3), statistics_of(model))
