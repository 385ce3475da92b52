"""Joint training of seed and unfolding: the mathematics of the losses, gradients and shared work."""

import pytest
import torch

from asr.backbones import Outputs
from common.errors import UserError
from methods.contract import Step, make_method
from methods.unfolding import KL, divergence
from tests.models import STILL, batch, conformer, factory

STEP = Step("train", 3, 0)


def unfolding(backbone_settings=STILL, **settings):
    method = make_method("methods.unfolding", {"depth": 8, **settings}, factory(**backbone_settings))
    torch.manual_seed(0)
    return method, method.build()


def test_total_is_equation_4():
    method, model = unfolding(alpha_p=0.25, alpha_kl=0.1)
    data = batch()
    model.eval()
    terms = method.losses(model, data, STEP)
    deep = model.outputs(model.encode(data.inputs, data.input_lengths, (2, 2, 2, 2)), data)
    seed = model.outputs(model.encode(data.inputs, data.input_lengths), data)
    expected = (
        model.loss(deep, data)["total"]
        + 0.25 * model.loss(seed, data)["total"]
        + 0.1 * divergence(deep, seed, model.ctc_weight, KL(), data)
    )
    torch.testing.assert_close(terms["total"], expected)


@pytest.mark.parametrize("path", ["1 1 2 2", "2 1 1 2", "1 2 2 1"])
def test_shared_prefix_equals_two_separate_passes(path):
    """With nothing random, in training mode: same loss, same gradients."""
    results = []
    for share in (True, False):
        method, model = unfolding(depth=6, training_path=path, share_prefix=share)
        if not share:  # layer drop above 0 but never drawn below it: both passes run in full
            model.layer_drop = 1e-12
        model.train()
        total = method.losses(model, batch(), STEP)["total"]
        total.backward()
        results.append((total.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for shared, separate in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(shared, separate, atol=1e-5, rtol=1e-4)


def test_sharing_saves_executions():
    counts = {}
    for share in (True, False):
        method, model = unfolding(depth=6, training_path="1 1 2 2", share_prefix=share)
        model.layer_drop = 0.0 if share else 1e-12
        executed = []
        run_layer = model.run_layer
        model.run_layer = lambda layer, *rest, run=run_layer, seen=executed: (seen.append(layer), run(layer, *rest))[1]
        method.losses(model.train(), batch(), STEP)
        counts[share] = executed
    assert len(counts[False]) == 6 + 4
    # Layers 0 and 1 and the first run of layer 2 serve both passes.
    assert len(counts[True]) == 6 + 4 - 3


def test_gradient_of_a_shared_layer_is_the_sum_over_its_uses():
    """Unfold a layer by hand into two copies of its weights: the copies' gradients add up to the shared one's."""
    model = conformer(**STILL).eval()
    data = batch()

    def loss(run):
        state = model.front_end(data.inputs, data.input_lengths)
        return model.loss(model.outputs(model.finish(run(state)), data), data)["total"]

    loss(lambda state: model.run_path((1, 2, 1, 1), state)).backward()
    layer = model.layer_module(1)
    shared = {name: p.grad.clone() for name, p in layer.named_parameters()}
    twin = conformer(seed=9, **STILL).eval()
    twin.load_state_dict(model.state_dict())

    def unrolled(state):
        state = model.run_layer(0, state)
        state = twin.run_layer(1, model.run_layer(1, state))
        return model.run_path((0, 0, 1, 1), state)

    model.zero_grad()
    loss(unrolled).backward()
    first = dict(layer.named_parameters())
    second = dict(twin.layer_module(1).named_parameters())
    for name, total in shared.items():
        torch.testing.assert_close(total, first[name].grad + second[name].grad, atol=1e-5, rtol=1e-4)


def hand_outputs(requires_grad=True):
    torch.manual_seed(2)
    shapes = ((2, 5, 3), (2, 4, 3))
    deep = [torch.randn(shape, requires_grad=requires_grad) for shape in shapes]
    seed = [torch.randn(shape, requires_grad=requires_grad) for shape in shapes]
    lengths = torch.tensor([5, 3])
    return Outputs(deep[0], lengths, deep[1]), Outputs(seed[0], lengths, seed[1])


KL_BATCH = batch(lengths=(90, 60), targets=((1, 2, 1), (2, 1)))


@pytest.mark.parametrize(("reduction", "scales"), [("batch", (2, 2)), ("sum", (1, 1)), ("mean", (5 + 3, 4 + 3))])
def test_divergence_against_a_hand_calculation(reduction, scales):
    deep, seed = hand_outputs()
    value = divergence(deep, seed, 0.3, KL(reduction=reduction), KL_BATCH)

    def by_hand(teacher, student, lengths):
        total = 0.0
        p, q = teacher.softmax(-1), student.softmax(-1)
        for row, length in enumerate(lengths):
            for position in range(length):
                for label in range(p.size(-1)):
                    ratio = p[row, position, label] / q[row, position, label]
                    total += float((p[row, position, label] * ratio.log()).detach())
        return total

    ctc = by_hand(deep.ctc_logits, seed.ctc_logits, (5, 3)) / scales[0]
    decoder = by_hand(deep.decoder_logits, seed.decoder_logits, (4, 3)) / scales[1]
    assert float(value) == pytest.approx(0.3 * ctc + 0.7 * decoder, rel=1e-5)
    only = divergence(deep, seed, 0.3, KL(reduction=reduction, distributions=["ctc"]), KL_BATCH)
    assert float(only) == pytest.approx(ctc, rel=1e-5)


def test_no_gradient_reaches_the_teacher_or_padding():
    deep, seed = hand_outputs()
    divergence(deep, seed, 0.3, KL(), KL_BATCH).backward()
    assert deep.ctc_logits.grad is None and deep.decoder_logits.grad is None
    assert seed.ctc_logits.grad[1, 3:].abs().max() == 0  # frames beyond length 3
    assert seed.ctc_logits.grad[1, :3].abs().max() > 0
    assert seed.decoder_logits.grad[1, 3:].abs().max() == 0  # two tokens and the end of sentence


def test_ablations_run_only_what_they_need():
    data = batch()
    for settings, present, absent in (
        ({"alpha_f": 0, "alpha_p": 1, "alpha_kl": 0}, "seed.ctc", "deep.ctc"),
        ({"alpha_p": 0, "alpha_kl": 0}, "deep.ctc", "seed.ctc"),
        ({"alpha_kl": 0}, "seed.ctc", "kl"),
    ):
        method, model = unfolding(**settings)
        terms = method.losses(model, data, STEP)
        assert present in terms and absent not in terms
    method, model = unfolding(alpha_f=0, alpha_p=1, alpha_kl=0)
    baseline = make_method("baselines.all_physical", {}, factory(**STILL))
    model.eval()
    torch.testing.assert_close(method.losses(model, data, STEP)["total"], baseline.losses(model, data, STEP)["total"])


def test_kl_sets_in_at_its_step():
    method, model = unfolding(kl={"start_step": 10})
    assert "kl" not in method.losses(model, batch(), Step("train", 9, 0))
    assert "kl" in method.losses(model, batch(), Step("train", 10, 0))


def test_one_draw_of_layer_drop_serves_both_passes():
    method, model = unfolding({**STILL, "layer_drop": 0.5}, depth=8)
    calls = []
    run_layer = model.run_layer

    def spy(layer, state, drop=None):
        calls.append((drop.depth, state.executed, drop.draws[state.executed]))
        return run_layer(layer, state, drop)

    model.run_layer = spy
    method.losses(model.train(), batch(), STEP)
    draws = {}
    for _, execution, draw in calls:
        draws.setdefault(execution, set()).add(draw)
    assert {depth for depth, _, _ in calls} == {8, 4}
    assert all(len(values) == 1 for values in draws.values())


def test_random_paths_follow_from_seed_and_step_alone():
    method, _ = unfolding(depth=6, training_path="random")
    drawn = [method.deepest_path(Step("train", index, 0)) for index in range(40)]
    torch.manual_seed(123)
    assert drawn == [method.deepest_path(Step("train", index, 0)) for index in range(40)]
    assert len(set(drawn)) > 3


def test_points_are_all_paths_and_say_what_was_trained():
    method, model = unfolding(depth=8)
    points = method.points(model)
    assert [len([p for p in points if p.depth == depth]) for depth in range(4, 9)] == [1, 4, 6, 4, 1]
    assert [p.path for p in points if p.trained] == [(1, 1, 1, 1), (2, 2, 2, 2)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 3}, "depth: 3 is below the 4 physical layers"),
        ({"depth": 6}, "6 paths lead from 4 layers to depth 6"),
        ({"depth": 6, "training_path": "1 1 1 3"}, "breaks the unfolding rule"),
        ({"depth": 6, "training_path": "1 1 1 2"}, "has depth 5, not 6"),
        ({"last": 5}, "more than the 4 physical layers"),
        ({"alpha_f": 0, "alpha_p": 0}, "nothing would be trained"),
        ({"alpha": 0.1}, "did you mean 'alpha_"),
        ({"kl": {"reduction": "none"}}, "kl.reduction"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        unfolding(**settings)


@pytest.mark.parametrize(("alphas", "term"), [({}, "deep.ctc"), ({"alpha_f": 0.0, "alpha_kl": 0.0}, "seed.ctc")])
def test_states_are_ranked_by_what_all_systems_have(alphas, term):
    """The CTC loss of the deepest trained path: with the same weights and path the number of all-physical training."""
    made = make_method("methods.unfolding", {"depth": 4, **alphas}, factory(**STILL))
    plain = make_method("baselines.all_physical", {}, factory(**STILL))
    model, step = conformer(**STILL).eval(), Step("train", 0, 0, training=False)
    own, theirs = made.losses(model, batch(), step), plain.losses(model, batch(), step)
    assert made.selection_term(own) == term and plain.selection_term(theirs) == "ctc"
    torch.testing.assert_close(own[term], theirs["ctc"])
    assert not torch.isclose(own["total"], theirs["total"])


def test_draws_are_new_for_each_micro_batch_and_device():
    made = make_method("methods.unfolding", {"depth": 6, "training_path": "random"}, factory())
    places = [{"micro_batch": part, "rank": rank} for part in range(4) for rank in range(4)]
    assert len({made.deepest_path(Step("train", 5, 0, **place)) for place in places}) > 4
    drops = [made.build().draw_layer_drop(8, Step("train", 5, 0, **place).generator("layer drop")) for place in places]
    assert len({tuple(drop.draws) for drop in drops}) == 16
