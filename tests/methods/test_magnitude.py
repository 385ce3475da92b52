"""Magnitude pruning: how many weights go, which, and when."""

import pytest
import torch

from baselines.magnitude import largest
from common.errors import UserError
from methods.contract import Step, make_method
from methods.shared.bitmap import bitmaps
from methods.shared.matrices import matrices
from methods.shared.pruning import deviation, encoder_weights, highest, pruned_weights, shares_of
from tests.methods.test_gates import case_of, copied, factory, source, zeros
from workflows.steps.contract_cases import TRAINING


@pytest.fixture(scope="module")
def of():
    return source()


def method_of(of, **settings):
    settings = {"source": {"system": of.name}, **settings}
    return make_method("baselines.magnitude", settings, of.method.backbone, {"source": of})


def train(method, case, steps, module=None, start=0, every=None, rate=1e-2):
    """A module after so many steps; `module` and `start` go on with one."""
    module = method.build() if module is None else module
    optimiser = torch.optim.AdamW(method.parameter_groups(module, method.stages(TRAINING)[0]), lr=rate)
    for index in range(start, steps):
        step = Step("train", index, 7, steps=steps)
        method.losses(module, case.batch(index), step)["total"].backward()
        optimiser.step()
        optimiser.zero_grad()
        method.after_step(module, step)
        if every:
            every(module, index)
    return module


def number(found):
    return sum(int(each.sum()) for each in found.values())


def test_the_highest_of_all_are_exactly_so_many_of_equal_ones_the_first():
    scores = {"a": torch.tensor([[1.0, 3.0], [2.0, 2.0]]), "b": torch.tensor([2.0, 0.0, 5.0])}
    for kept, expected in ((0, ""), (1, "b2"), (3, "a01 a10 b2"), (4, "a01 a10 a11 b2"), (7, None)):
        masks = highest(scores, kept)
        found = " ".join(f"{n}{''.join(map(str, at))}" for n, mask in masks.items() for at in mask.nonzero().tolist())
        assert expected is None or found == expected
        assert number(masks) == kept and all(masks[name].shape == scores[name].shape for name in scores)


def test_a_deviation_is_that_of_the_weights_that_are_not_zero():
    assert float(deviation(torch.tensor([3.0, 0.0, -4.0, 0.0]))) == pytest.approx(12.5**0.5)
    assert float(deviation(torch.zeros(3))) > 0


def test_by_default_half_of_each_matrix_goes_at_once(of):
    default = method_of(of).build()
    for name, found in zeros(default).items():
        weight = matrices(of.module)[name].weight
        assert torch.equal(~found, largest(weight, 0.5)) and int(found.sum()) == round(0.5 * weight.numel())


@pytest.mark.parametrize("scope", ["uniform", "global", "random"])
@pytest.mark.parametrize(("key", "value"), [("sparsity", 0.65), ("target", 0.4)])
def test_exactly_so_many_go_whatever_chooses_them(of, scope, key, value):
    whole = {"sparsity": pruned_weights, "target": encoder_weights}[key](of.module)
    found = zeros(method_of(of, scope=scope, **{key: value}).build())
    sizes = {name: each.numel() for name, each in found.items()}
    if scope == "uniform" and key == "sparsity":
        assert all(int(found[name].sum()) == round(value * size) for name, size in sizes.items())
    else:
        assert number(found) == pytest.approx(value * whole, abs=0.5 if scope == "global" or key == "target" else 20)
    shares = [int(found[name].sum()) / size for name, size in sizes.items()]
    assert (max(shares) - min(shares) > 0.01) == (scope == "global")


def test_the_same_number_goes_as_gates_let_go(of):
    gates = make_method(
        "methods.selfpinching", {"source": {"system": "f4"}, "target": 0.4}, of.method.backbone, {"source": of}
    )
    expected = number(zeros(gates.finish(gates.build(), iter(()))))
    for scope in ("uniform", "global", "random"):
        assert number(zeros(method_of(of, scope=scope, target=0.4).build())) == expected


def test_shares_add_up_and_differ_by_a_weight(of):
    for gone in (0, 1, 12345, pruned_weights(of.module)):
        found = shares_of(of.module, gone)
        assert sum(found.values()) == gone
        for name, part in matrices(of.module).items():
            assert abs(found[name] - gone * part.weight.numel() / pruned_weights(of.module)) <= 1


def test_global_takes_the_smallest_in_deviations_of_their_matrix(of):
    found = zeros(method_of(of, scope="global", sparsity=0.6).build())
    scaled = {name: part.weight.abs() / deviation(part.weight) for name, part in matrices(of.module).items()}
    highest_gone = max(float(scaled[name][each].max()) for name, each in found.items())
    assert highest_gone <= min(float(scaled[name][~each].min()) for name, each in found.items())


def test_random_is_another_choice_with_another_seed_and_the_same_with_the_same(of):
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(zeros(method_of(of, scope="random", sparsity=0.5).build()))
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert not any(torch.equal(masks[0][name], masks[2][name]) for name in masks[0])
    kept = torch.cat([matrices(of.module)[name].weight[~each].abs() for name, each in masks[0].items()])
    gone = torch.cat([matrices(of.module)[name].weight[each].abs() for name, each in masks[0].items()])
    assert float(kept.mean()) == pytest.approx(float(gone.mean()), rel=0.05), "magnitude does not matter"


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4)])
@pytest.mark.parametrize("schedule", ["once", "parp"])
def test_of_every_m_inputs_the_n_largest_stay(of, n, m, schedule):
    method = method_of(of, n=n, m=m, schedule=schedule)
    module = method.build()
    if schedule == "parp":
        train(method, case_of(of), 3, module)
    for name, found in zeros(method.finish(module, iter(()))).items():
        groups = (~found).flatten(1).unflatten(1, (-1, m)).sum(-1)
        assert (groups == n).all(), name
        if schedule == "once":
            weight = matrices(of.module)[name].weight.abs().flatten(1).unflatten(1, (-1, m))
            held = (~found).flatten(1).unflatten(1, (-1, m))
            lowest = weight.masked_fill(~held, torch.inf).amin(-1)
            assert (lowest >= weight.masked_fill(held, 0).amax(-1)).all()


def test_gradual_follows_the_cubic_line_and_lets_nothing_come_back(of):
    """Zhu and Gupta: s_t = s (1 - (1 - t/T)^3); here at every second of 20 steps, done after 14."""
    seen = []
    method = method_of(of, sparsity=0.8, schedule="gradual", every=0.1)
    module = train(method, case_of(of), 20, every=lambda m, _: seen.append(zeros(m)))
    sizes = {name: part.weight.numel() for name, part in matrices(module).items()}
    for index, found in enumerate(seen):
        number = min((index + 1) // 2 * 2, 14)
        share = 0.8 * (1 - (1 - number / 14) ** 3)
        for name, size in sizes.items():
            assert abs(int(found[name].sum()) - share * size) <= 1, index
    for earlier, later in zip(seen, seen[1:], strict=False):
        assert all((later[name] >= found).all() for name, found in earlier.items())
    assert all(int(found.sum()) == round(0.8 * sizes[name]) for name, found in zeros(module).items())


def test_gradual_goes_on_from_a_checkpoint_with_the_same_bits(of):
    states, case = {}, case_of(of)
    settings = {"sparsity": 0.7, "schedule": "gradual", "every": 0.3}
    # Without momentum, so that the optimiser needs no checkpoint; zeros between two prunings are what may be forgotten.
    whole = sgd(method_of(of, **settings), case, every=lambda m, index: states.update({index: copied(m)}))
    method = method_of(of, **settings)
    module = method.build()
    module.load_state_dict(states[3])
    again = sgd(method, case, module, start=4)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def sgd(method, case, module=None, start=0, every=None):
    module = method.build() if module is None else module
    for index in range(start, 10):
        step = Step("train", index, 7, steps=10)
        module.zero_grad()
        method.losses(module, case.batch(index), step)["total"].backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 1e-3 * parameter.grad
        method.after_step(module, step)
        if every:
            every(module, index)
    return module


def test_parp_trains_zeros_too_and_prunes_every_so_many_steps_and_in_the_end(of):
    seen = []
    method = method_of(of, sparsity=0.6, schedule="parp", every=0.25)
    module = train(method, case_of(of), 10, every=lambda m, _: seen.append(number(zeros(m))))
    target = sum(round(0.6 * part.weight.numel()) for part in matrices(module).values())
    assert number(zeros(method_of(of, sparsity=0.6, schedule="parp").build())) == target
    # round(0.25 * 10) = 2 steps apart; one step later nearly all are back.
    assert [found == target for found in seen] == 5 * [False, True] and max(seen[::2]) < target / 2
    train(method, case_of(of), 11, module, start=10)
    assert number(zeros(module)) < target == number(zeros(method.finish(module, iter(()))))


@pytest.mark.parametrize("schedule", ["gradual", "parp"])
def test_states_are_judged_as_they_would_end(of, schedule):
    method = method_of(of, sparsity=0.7, schedule=schedule, every=0.5)
    case = case_of(of)
    module = train(method, case, 4)
    train(method, case, 5, module, start=4)  # not at a step that prunes
    module.eval()
    with torch.no_grad():
        before = method.losses(module, case.batch(9), Step("train", 4, 7, training=False, steps=9))
        after = method.losses(
            method.finish(module, iter(())), case.batch(9), Step("train", 8, 7, training=False, steps=9)
        )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stored_as_bitmaps_it_is_smaller_and_the_same(of):
    method = method_of(of, sparsity=0.65, storage="bitmap")
    points = of.method.points(of.module)
    dense = method_of(of, sparsity=0.65)
    module, other = (each.finish(each.build(), iter(())).eval() for each in (method, dense))
    assert list(bitmaps(module)) == list(matrices(other))
    batch = case_of(of).batch()
    with torch.no_grad():
        for point in points[:2]:
            found = [
                each.at(held, point).encode(batch.inputs, batch.input_lengths).frames
                for each, held in ((method, module), (dense, other))
            ]
            assert torch.equal(*found)
    assert method.parameters(module, points[0]) == dense.parameters(other, points[0])
    saved = dense.stored_bytes(other, points) - method.stored_bytes(module, points)
    gone = sum(int(each.sum()) for each in zeros(other).values())
    filled = sum(-(-part.weight.numel() // 8) for part in matrices(other).values())
    assert saved == 4 * gone - filled


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 0.5, "target": 0.5}, "sparsity and target both say how many weights go"),
        ({"n": 2}, "n and m go together"),
        ({"n": 4, "m": 4}, "n: 4 of every 4 weights are no fewer"),
        ({"n": 2, "m": 4, "sparsity": 0.5}, "sparsity and n both say"),
        ({"n": 2, "m": 4, "schedule": "gradual"}, "n and m choose within each group"),
        ({"scope": "random", "schedule": "parp"}, "scope: random weights go once"),
        ({"every": 0.1}, "every: means nothing with `schedule: once`"),
        ({"schedule": "parp", "until": 0.5}, "until: means nothing with `schedule: parp`"),
        ({"sparsity": 1.0}, "settings: sparsity"),
        ({"n": 0, "m": 4}, "settings: n: Input should be greater than 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_method("baselines.magnitude", {"source": {"system": "f4"}, **settings}, factory())


def test_what_the_shapes_forbid_is_refused_before_any_work(of):
    for settings, message in (
        ({"n": 1, "m": 7}, "settings.m: groups of 7 do not divide the 32 inputs"),
        ({"target": 0.9}, "settings.target: 0.9 of the encoder's"),
    ):
        with pytest.raises(UserError, match=message):
            make_method("baselines.magnitude", {"source": {"system": "f4"}, **settings}, factory()).check_sources(
                {"source": of.method}
            )


def test_settings_come_back_from_a_file_as_they_were():
    for settings in ({}, {"schedule": "gradual"}, {"schedule": "parp", "target": 0.3}, {"n": 2, "m": 4}):
        config = make_method("baselines.magnitude", {"source": {"system": "f4"}, **settings}, factory()).config
        again = make_method("baselines.magnitude", config.model_dump(mode="json"), factory()).config
        assert again == config
    assert config.sparsity is None
