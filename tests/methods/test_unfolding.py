"""Joint training of seed and unfolding: the mathematics of the losses, gradients and shared work."""

import pytest
import torch

from asr.backbones import BackboneFactory, Outputs
from asr.settings import TrainingSettings
from common.errors import UserError
from methods.contract import Stage, Step, make_method
from methods.shared.divergence import KL, divergence
from tests.models import SMALL_ENCODER, STILL, batch, conformer, factory, waves
from workflows.steps.training_step import alike_steps

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


def test_until_the_deep_pass_sets_in_the_seed_trains_alone():
    """A quarter of 40 steps; its layers run once each, and the loss is the seed's part of Equation 4."""
    method, model = unfolding(deep_from=0.25)
    before, after = (Step("train", index, 0, steps=40) for index in (9, 10))
    terms = method.losses(model, batch(), before)
    assert not any(name.startswith(("deep", "kl")) for name in terms)
    assert [layer for layer, _, _ in executions(method, model, before)] == [0, 1, 2, 3]
    model.eval()
    alone, _ = unfolding(alpha_f=0, alpha_p=1, alpha_kl=0)
    seed = alone.losses(model, batch(), before)["total"]
    torch.testing.assert_close(method.losses(model, batch(), before)["total"], 0.25 * seed)
    both, _ = unfolding()
    for step in (after, Step("train", 0, 0, training=False, steps=40)):
        torch.testing.assert_close(method.losses(model, batch(), step), both.losses(model, batch(), step))


@pytest.mark.parametrize(
    ("settings", "runs"),
    [
        ({}, [(39, 40)]),
        ({"deep_from": 0.25}, [(9, 10), (39, 30)]),
        ({"deep_from": 0.25, "kl": {"start_step": 25}}, [(9, 10), (39, 30)]),
        ({"kl": {"start_step": 25}}, [(39, 40)]),
        ({"kl": {"start_step": 25}, "alpha_p": 0}, [(24, 25), (39, 15)]),
        ({"kl": {"start_step": 25}, "alpha_f": 0}, [(24, 25), (39, 15)]),
        ({"deep_from": 0.25, "kl": {"start_step": 5}, "alpha_f": 0}, [(9, 10), (39, 30)]),
        ({"deep_from": 0.25, "alpha_f": 0, "alpha_kl": 0}, [(39, 40)]),
        ({"kl": {"start_step": 60}, "alpha_p": 0}, [(39, 40)]),
    ],
)
def test_a_training_is_timed_where_its_steps_compute_other_things(settings, runs):
    method, model = unfolding(**settings)
    stage = Stage("train", TrainingSettings(steps=40, schedule={"kind": "linear", "warmup_steps": 1}))
    found = alike_steps(method, stage)
    assert found == runs and sum(count for _, count in found) == 40
    before = 0
    for last, count in found:
        run = [executions(method, model, Step("train", at, 0, steps=40)) for at in (before, last)]
        assert len(run[0]) == len(run[1]), "as many layers run in its first step as in its last one"
        before += count


def executions(method, model, step=STEP):
    """Every layer execution of one step: (layer, executions before it, branch scale)."""
    found = []
    run_layer = model.run_layer

    def spy(layer, state, drop=None):
        found.append((layer, state.executed, 1.0 if drop is None else drop.branch_scale(state.executed)))
        return run_layer(layer, state, drop)

    model.run_layer = spy
    method.losses(model, batch(), step)
    del model.run_layer
    return found


def scales(drop, executed):
    return [drop.branch_scale(execution) for execution in executed]


def test_passes_run_under_the_draws_that_were_made_for_them():
    """First the deep pass, then the seed; with a shared prefix what is run once has the deep pass's draws and rate."""
    path = (1, 1, 2, 2)
    for share in (False, True):
        method, model = unfolding({**STILL, "layer_drop": 0.5}, depth=6, training_path=list(path), share_prefix=share)
        deep, seed = method.draw_layer_drops(model, 6, STEP)
        assert (deep.depth, seed.depth) == (6, 4)
        found = executions(method, model.train())
        layers = [layer for layer, _, _ in found]
        if share:
            assert layers == [0, 1, 2] + [2, 3, 3] + [3]
            expected = scales(deep, range(6)) + scales(seed, [3])
        else:
            assert layers == [0, 1, 2, 2, 3, 3] + [0, 1, 2, 3]
            expected = scales(deep, range(6)) + scales(seed, range(4))
        assert [scale for _, _, scale in found] == expected


@pytest.mark.parametrize("kind", ["ramp", "uniform"])
def test_the_two_passes_draw_layer_drop_independently(kind):
    """Over many steps each execution is skipped as often as its rate says, and whatever the other pass skips."""
    method, model = unfolding({**STILL, "layer_drop": 0.5}, depth=8)
    if kind == "uniform":
        method, model = encoder_unfolding(layer_drop=0.5)
    depth, physical, steps = 2 * model.layers, model.layers, 4000
    drops = [method.draw_layer_drops(model, depth, Step("train", index, 0)) for index in range(steps)]
    deep = torch.tensor([scales(drop, range(depth)) for drop, _ in drops]) == 0
    seed = torch.tensor([scales(drop, range(physical)) for _, drop in drops]) == 0
    for skipped, executed in ((deep, depth), (seed, physical)):
        rates = torch.tensor([0.5 * (i + 1) / executed if kind == "ramp" else 0.5 for i in range(executed)])
        tolerance = 4 * (rates * (1 - rates) / steps).sqrt()
        assert ((skipped.double().mean(0) - rates).abs() < tolerance).all()
    between = torch.corrcoef(torch.cat([deep, seed], 1).T.double())[:depth, depth:]
    assert between.abs().max() < 4.5 / steps**0.5


def test_on_the_dev_set_nothing_is_drawn():
    method, model = unfolding({**STILL, "layer_drop": 0.5})
    assert method.draw_layer_drops(model, 8, Step("train", 3, 0, training=False)) == (None, None)


SHARED, SEPARATE = 8 + 4 - 1, 8 + 4


@pytest.mark.parametrize(
    ("random", "training", "share", "expected"),
    [
        ({}, True, False, SHARED),
        ({"layer_drop": 0.1}, True, False, SEPARATE),
        ({"dropout": 0.1}, True, False, SEPARATE),
        ({"attention_dropout": 0.1}, True, False, SEPARATE),
        ({"dropout": 0.1, "layer_drop": 0.1}, True, True, SHARED),
        ({"dropout": 0.1, "layer_drop": 0.1}, False, False, SHARED),
        ({"spec_augment": {}}, True, False, SHARED),
    ],
)
def test_nothing_whose_masks_differ_is_shared(random, training, share, expected):
    """Unless the setting says so; the front end, with its masks, runs once in any case."""
    method, model = unfolding({**STILL, **random}, share_prefix=share)
    front_ends = []
    front_end = model.front_end
    model.front_end = lambda *inputs: (front_ends.append(1), front_end(*inputs))[1]
    model.train(training)
    found = executions(method, model, Step("train", 3, 0, training=training))
    assert (len(found), len(front_ends)) == (expected, 1)


@pytest.mark.parametrize(
    ("random", "share", "expected"),
    [
        ({}, False, 6 + 3 - 1),
        ({"layer_drop": 0.1}, False, 6 + 3),
        ({"dropout": 0.1}, False, 6 + 3),
        ({"attention_dropout": 0.1}, False, 6 + 3),
        ({"activation_dropout": 0.1}, False, 6 + 3),
        ({"projection_dropout": 0.1, "mask_time_prob": 0.5}, False, 6 + 3 - 1),
        ({"dropout": 0.1, "layer_drop": 0.1}, True, 6 + 3 - 1),
    ],
)
def test_speech_encoders_share_as_conformers_do(random, share, expected):
    """The same rate at every depth is no reason to share: the authors' code draws for each pass."""
    method, model = encoder_unfolding(share_prefix=share, **random)
    executed = []
    run_layer = model.run_layer
    model.run_layer = lambda layer, *rest: (executed.append(layer), run_layer(layer, *rest))[1]
    method.losses(model.train(), waves(), STEP)
    assert len(executed) == expected


def encoder_unfolding(share_prefix=False, **backbone_settings):
    quiet = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layer_drop": 0.0}
    backbone = BackboneFactory("wav2vec2", {**SMALL_ENCODER, **quiet, **backbone_settings}, 32)
    method = make_method("methods.unfolding", {"depth": 6, "share_prefix": share_prefix}, backbone)
    torch.manual_seed(0)
    return method, method.build()


def test_a_shared_prefix_with_layer_drop_equals_two_separate_passes_with_the_same_draws():
    """Loss and gradients, over some steps of which each skips other executions."""
    path, skipped = (1, 1, 2, 2), 0
    method, model = unfolding({**STILL, "layer_drop": 0.6}, depth=6, training_path=list(path), share_prefix=True)
    data = batch()
    model.train()
    for index in range(6):
        step = Step("train", index, 0)
        deep, seed = method.draw_layer_drops(model, 6, step)
        common = [deep.branch_scale(execution) for execution in range(3)]
        skipped += common.count(0.0)
        model.zero_grad()
        total = method.losses(model, data, step)["total"]
        total.backward()
        shared = [None if p.grad is None else p.grad.clone() for p in model.parameters()]

        class Mixed:
            """The seed's draws, but for the executions that both passes begin with."""

            def branch_scale(self, execution, common=common, seed=seed):
                return common[execution] if execution < len(common) else seed.branch_scale(execution)

        def outputs(path, drop):
            state = model.front_end(data.inputs, data.input_lengths)
            return model.outputs(model.finish(model.run_path(path, state, drop)), data)

        model.zero_grad()
        teacher, student = outputs(path, deep), outputs((1, 1, 1, 1), Mixed())
        kl = divergence(teacher, student, model.ctc_weight, KL(), data)
        expected = model.loss(teacher, data)["total"] + 0.25 * model.loss(student, data)["total"] + 0.1 * kl
        expected.backward()
        torch.testing.assert_close(total, expected)
        for gradient, parameter in zip(shared, model.parameters(), strict=True):
            assert (gradient is None) == (parameter.grad is None)
            if gradient is not None:
                torch.testing.assert_close(gradient, parameter.grad, atol=5e-5, rtol=1e-4)
    assert skipped > 0


def test_a_seed_that_is_its_own_deepest_path_is_shared_whole():
    method, model = unfolding({**STILL, "layer_drop": 0.1}, depth=4, share_prefix=True)
    assert len(executions(method, model.train())) == 4
    assert float(method.losses(model, batch(), STEP)["kl"]) == pytest.approx(0, abs=1e-4)


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
        ({"alpha_p": 0, "deep_from": 0.1}, "deep_from: until the deep pass sets in the seed trains alone"),
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
