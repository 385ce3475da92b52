"""Joint training at its edges: every combination of weights, repeats at the last layers, hand-made divergences."""

import itertools

import pytest
import torch

from asr.backbones import Outputs
from methods.contract import Step
from methods.shared.divergence import KL, divergence
from tests.methods.test_unfolding import STEP, unfolding
from tests.models import STILL, batch

DEV = Step("train", 3, 0, training=False)


TRAINED = [weights for weights in itertools.product((0, 0.7, 1), (0, 0.4, 1), (0, 0.2)) if weights[0] or weights[1]]


@pytest.mark.parametrize(("alpha_f", "alpha_p", "alpha_kl"), TRAINED)
@pytest.mark.parametrize("path", ["1 1 1 2", "2 1 1 1", "1 1 1 1"])
def test_the_total_is_equation_4_with_any_weights(alpha_f, alpha_p, alpha_kl, path):
    depth = sum(map(int, path.split()))
    weights = {"alpha_f": alpha_f, "alpha_p": alpha_p, "alpha_kl": alpha_kl}
    method, model = unfolding(depth=depth, training_path=path, **weights)
    data = batch()
    model.eval()
    deep, seed = (
        model.outputs(model.encode(data.inputs, data.input_lengths, counts), data)
        for counts in (tuple(map(int, path.split())), (1, 1, 1, 1))
    )
    expected = alpha_f * model.loss(deep, data)["total"] + alpha_p * model.loss(seed, data)["total"]
    if alpha_kl:
        expected = expected + alpha_kl * divergence(deep, seed, model.ctc_weight, KL(), data)
    for step in (STEP, DEV):
        terms = method.losses(model, data, step)
        torch.testing.assert_close(terms["total"], expected)
        assert {name.split(".")[0] for name in terms if "." in name} == {
            name for name, weight in (("deep", alpha_f), ("seed", alpha_p)) if weight
        }
        assert ("kl" in terms) == (alpha_kl > 0)


@pytest.mark.parametrize(
    ("weights", "executions"),
    [
        ({"alpha_f": 0, "alpha_p": 1, "alpha_kl": 0}, 4),
        ({"alpha_p": 0, "alpha_kl": 0}, 6),
        ({"alpha_f": 0, "alpha_p": 1}, 6 + 4 - 2),  # the divergence reads both; the first two layers run once
        ({"alpha_p": 0}, 6 + 4 - 2),
    ],
)
def test_a_pass_that_nothing_reads_is_not_run(weights, executions):
    method, model = unfolding(depth=6, training_path="1 2 2 1", **weights)
    executed = []
    run_layer = model.run_layer
    model.run_layer = lambda layer, *rest: (executed.append(layer), run_layer(layer, *rest))[1]
    method.losses(model.eval(), batch(), STEP)
    assert len(executed) == executions


def test_the_blank_fraction_is_that_of_the_blanker_pass():
    method, model = unfolding()
    model.eval()
    terms = method.losses(model, batch(), STEP)
    passes = [float(terms["deep.blank_fraction"]), float(terms["seed.blank_fraction"])]
    assert float(terms["blank_fraction"]) == max(passes)


def test_all_layers_may_be_named_as_the_last_ones():
    method, _ = unfolding(depth=5, last=4, training_path="1 2 1 1")
    assert method.training_paths == [(1, 2, 1, 1)]
    method, _ = unfolding(depth=4, last=4)
    assert method.training_paths == [(1, 1, 1, 1)]
    method, _ = unfolding(depth=6, last=2)
    assert method.training_paths == [(1, 1, 2, 2)]


def test_a_single_layer_can_be_unfolded():
    method, _ = unfolding({**STILL, "layers": 1}, depth=3)
    assert method.training_paths == [(3,)]


def test_random_paths_are_drawn_for_training_and_fixed_for_the_dev_set():
    method, _ = unfolding(depth=6, training_path="random")
    assert len(method.training_paths) == 6
    drawn = {method.deepest_path(Step("train", index, 0)) for index in range(60)}
    assert drawn == set(method.training_paths)
    assert {method.deepest_path(Step("train", index, 0, training=False)) for index in range(60)} == {
        method.training_paths[0]
    }


def test_the_dev_loss_has_the_divergence_from_the_start():
    method, model = unfolding(kl={"start_step": 10})
    assert "kl" in method.losses(model.eval(), batch(), Step("train", 0, 0, training=False))
    assert "kl" not in method.losses(model.eval(), batch(), Step("train", 0, 0))


def test_layers_are_dropped_in_training_steps_only():
    method, model = unfolding({**STILL, "layer_drop": 0.5}, depth=8)
    drops = []
    run_layer = model.run_layer
    model.run_layer = lambda layer, state, drop=None: (drops.append(drop), run_layer(layer, state, drop))[1]
    method.losses(model.eval(), batch(), DEV)
    assert len(drops) == 9 + 2 and set(drops) == {None}, "what both passes begin with runs once: 1 of 8 + 4"
    drops.clear()
    method.losses(model.train(), batch(), STEP)
    assert len(drops) == 8 + 4 and {drop.rate for drop in drops} == {0.5}
    assert [drop.depth for drop in drops] == [8] * 8 + [4] * 4


@pytest.mark.parametrize(("reduction", "scale"), [("batch", 2), ("sum", 1), ("mean", 3)])
def test_divergence_of_two_labels_by_hand(reduction, scale):
    """p = (0.8, 0.2) against q = (0.5, 0.5), at 3 real frames of 2 utterances; the padded one would add more."""
    one, other, far = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.5, 0.5]).log(), torch.tensor([9.0, -9.0])
    deep = Outputs(torch.stack([torch.stack([one, one]), torch.stack([one, far])]), torch.tensor([2, 1]))
    seed = Outputs(torch.stack([torch.stack([other, other]), torch.stack([other, -far])]), torch.tensor([2, 1]))
    expected = 3 * float((one.exp() * (one - other)).sum()) / scale
    assert float(divergence(deep, seed, 0.3, KL(reduction=reduction), batch())) == pytest.approx(expected, rel=1e-5)
    assert float(divergence(deep, deep, 0.3, KL(), batch())) == pytest.approx(0.0, abs=1e-6)


def test_no_real_frame_gives_no_divergence():
    deep, seed = (Outputs(torch.randn(1, 2, 3), torch.tensor([0])) for _ in range(2))
    assert float(divergence(deep, seed, 0.3, KL(reduction="mean"), batch())) == 0.0


@pytest.mark.parametrize(
    ("weights", "trained"),
    [
        ({}, [(1, 1, 1, 1), (1, 1, 1, 2)]),
        ({"alpha_f": 0, "alpha_p": 1}, [(1, 1, 1, 1)]),
        ({"alpha_p": 0}, [(1, 1, 1, 2)]),
    ],
)
def test_points_say_which_losses_were_taken(weights, trained):
    method, model = unfolding(depth=5, training_path="1 1 1 2", **weights)
    points = method.points(model)
    assert len(points) == 5 and [point.path for point in points if point.trained] == trained
