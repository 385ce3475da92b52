"""Self-pinching gates: gradients in closed form, masks against magnitude pruning, the target met to the weight."""

import dataclasses

import pytest
import torch

from asr.backbones import BackboneFactory
from baselines.magnitude import largest
from common.errors import UserError
from methods.contract import Step, TrainedSystem, make_method
from methods.shared.bitmap import bitmaps, dense_again
from methods.shared.gates import Pinched, gates_of, start_gates, with_gates
from methods.shared.matrices import matrices
from methods.shared.pruning import encoder_weights, gone_at, pruned_weights
from tests.models import STILL, conformer
from workflows.steps import contract_cases
from workflows.steps.contract_cases import SMALL, TRAINING, VOCABULARY, save
from workflows.systems import load_system, load_trainable

TEMPERATURE = 0.1


def plain(weight, threshold, tau):
    """The masked weights as the paper's summary writes them, the rounded mask in front and the soft one behind."""
    soft = torch.sigmoid((weight.square() - threshold.square()) / (2 * tau))
    return weight * (soft + (soft.round() - soft).detach())


def drawn(rows=40, columns=30):
    torch.manual_seed(0)
    weight = torch.randn(rows, columns, dtype=torch.float64) * 0.3
    return weight, torch.randn(rows, columns, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)


def test_gradients_are_those_of_the_equations():
    weight, gradient, sigma = drawn()
    theta = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    ours = weight.clone().requires_grad_()
    values, above = Pinched.apply(ours, theta, sigma, TEMPERATURE)
    ((values * gradient).sum() + 3 * above).backward()

    tau, threshold = TEMPERATURE * sigma**2, sigma * 0.8
    soft = torch.sigmoid((weight**2 - threshold**2) / (2 * tau))
    slope = soft * (1 - soft)
    torch.testing.assert_close(ours.grad, gradient * soft.round() + gradient * weight * (weight / tau) * slope)
    of_threshold = ((gradient * weight + 3) * (-threshold / tau) * slope).sum()
    torch.testing.assert_close(theta.grad, of_threshold * sigma / weight.numel() ** 0.5)

    theirs, free = weight.clone().requires_grad_(), threshold.clone().requires_grad_()
    found = plain(theirs, free, tau)
    assert torch.equal(values != 0, found != 0) and int(above) == int((found != 0).sum())
    (found * gradient).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_threshold_of_zero_has_no_gradient_and_a_small_one_pinches_nothing():
    weight, gradient, sigma = drawn()
    for value, dead in ((0.0, True), (1e-3, False)):
        theta = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        values, _ = Pinched.apply(weight, theta, sigma, TEMPERATURE)
        (values * gradient).sum().backward()
        assert (float(theta.grad) == 0) == dead
    values, above = Pinched.apply(weight, torch.tensor(1e-30, dtype=torch.float64), sigma, TEMPERATURE)
    assert torch.equal(values, weight) and int(above) == weight.numel()


def test_a_hard_mask_has_the_gradients_of_magnitude_pruning():
    weight, gradient, sigma = drawn()
    ours, theta = weight.clone().requires_grad_(), torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    values, _ = Pinched.apply(ours, theta, sigma, 1e-9)
    (values * gradient).sum().backward()
    kept = weight.abs() > 0.8 * sigma
    assert torch.equal(values, weight * kept) and torch.equal(ours.grad, gradient * kept) and float(theta.grad) == 0


def factory(backbone="conformer", **settings):
    return BackboneFactory(backbone, {**SMALL[backbone], **settings}, VOCABULARY[backbone])


def source(backbone="conformer", changed=None, settings=None):
    """A foldable system with random weights; `changed` does something to its module."""
    torch.manual_seed(0)
    method = make_method(
        "methods.unfolding", {"depth": 6, "training_path": "random", **(settings or {})}, factory(backbone)
    )
    module = method.build()
    if changed:
        changed(module)
    return TrainedSystem("f4", module.eval().requires_grad_(False), method, steps=40)


def gated(of, **settings):
    settings = {"source": {"system": of.name}, **settings}
    return make_method("methods.selfpinching", settings, of.method.backbone, {"source": of})


def case_of(system):
    return contract_cases.case("methods.selfpinching", system.method.backbone.name)


def zeros(module):
    return {name: part.weight == 0 for name, part in matrices(dense_again(module)).items()}


def train(method, module, case, steps, rate=1e-2, every=None):
    """So many optimiser steps, as the training loop takes them."""
    stage = method.stages(TRAINING.model_copy(update={"steps": steps}))[0]
    optimiser = torch.optim.AdamW(method.parameter_groups(module, stage), lr=rate)
    rows = []
    for index in range(steps):
        step = Step("train", index, 7, steps=steps)
        module.train()
        terms = method.losses(module, case.batch(index), step)
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        method.after_step(module, step)
        rows.append({name: float(value.detach()) for name, value in terms.items()})
        if every:
            every(module, step)
    return rows


def test_one_factor_on_thresholds_at_the_quantiles_is_uniform_magnitude_pruning():
    module = with_gates(conformer(**STILL))
    start_gates(module, 0.1, 0)
    gates, share = gates_of(module), 0.6
    with torch.no_grad():
        for place, (part, sigma) in enumerate(zip(matrices(module).values(), gates.sigma, strict=True)):
            gates.theta[place] = (
                part.weight.abs().flatten().sort().values[round(share * part.weight.numel()) - 1] / sigma
            )
    views, sparsity = gates.pinched(module, TEMPERATURE)
    sparsity = sparsity.detach()
    assert float(sparsity) == pytest.approx(share, abs=1e-3) and float(gates.sparsity(module)) == float(sparsity)
    for name, part in matrices(module).items():
        differ = (views[f"{name}.weight"] != 0) != largest(part.weight, share)
        assert int(differ.sum()) <= 1, "the threshold itself is rounded"


@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
def test_finish_meets_the_target_to_the_weight_and_changes_no_output(backbone):
    of = source(backbone)
    method, case = gated(of, target=0.4), case_of(of)
    module = method.build()
    gone = round(0.4 * encoder_weights(of.module))
    assert int(gates_of(module).gone) == gone
    train(method, module, case, 3)
    module.eval()
    batch, dev = case.batch(99), Step("train", 2, 7, training=False, steps=3)
    with torch.no_grad():
        before = method.losses(module, batch, dev)
        theta = gates_of(module).theta.clone()
        order = {name: score.flatten() for name, score in gates_of(module).scores(module).items()}
        finished = method.finish(module, iter(()))
        after = method.losses(finished, batch, dev)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert gates_of(finished) is None and len(theta) == len(bitmaps(finished))
    kept = {name: ~found.flatten() for name, found in zeros(finished).items()}
    assert sum(int((~each).sum()) for each in kept.values()) == gone
    # One factor for all: whatever stays is further above its threshold than whatever goes.
    lowest = min(float(order[name][each].min()) for name, each in kept.items() if each.any())
    assert lowest >= max(float(order[name][~each].max()) for name, each in kept.items() if not each.all())
    shares = {name: float((~each).float().mean()) for name, each in kept.items()}
    assert len({round(share, 3) for share in shares.values()}) > 1, "layers differ"


def test_of_equal_weights_exactly_so_many_go():
    def equal(module):
        with torch.no_grad():
            for part in matrices(module).values():
                part.weight.copy_(part.weight.sign() * 0.25)

    of = source(changed=equal)
    method = gated(of, target=0.3)
    finished = method.finish(method.build(), iter(()))
    assert sum(int(each.sum()) for each in zeros(finished).values()) == round(0.3 * encoder_weights(of.module))


def test_averaged_states_meet_the_target_too():
    """Their masks differ, so their average has more weights that are not zero than each of them."""
    of = source()
    method, case = gated(of, target=0.4), case_of(of)
    module, states = method.build(), []
    train(method, module, case, 4, every=lambda module, _: states.append(copied(module)))
    average = {
        name: sum(state[name] for state in states) / len(states) if value.is_floating_point() else value
        for name, value in states[-1].items()
    }
    module.load_state_dict(average)
    finished = method.finish(module, iter(()))
    assert sum(int(each.sum()) for each in zeros(finished).values()) == round(0.4 * encoder_weights(of.module))


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("storage", ["bitmap", "dense"])
def test_a_target_of_nothing_is_the_source_bit_for_bit(storage):
    of = source()
    method = gated(of, target=0, storage=storage)
    finished = TrainedSystem("same", method.finish(method.build(), iter(())).eval(), method)
    batch = case_of(of).batch()
    for point in of.method.points(of.module):
        with torch.no_grad():
            ours, theirs = (
                each.method.at(each.module, point).encode(batch.inputs, batch.input_lengths).frames
                for each in (finished, of)
            )
        assert torch.equal(ours, theirs)


def test_the_sparsity_follows_the_ramp_to_the_target():
    of = source()
    method, case = gated(of, target=0.5), case_of(of)
    module = method.build()
    target = gone_at(of.module, 0.5) / pruned_weights(of.module)
    found = []
    rows = train(method, module, case, 40, rate=1e-3, every=lambda m, _: found.append(float(gates_of(m).sparsity(m))))
    assert rows[0]["sparsity"] == pytest.approx(0.08, abs=0.03) and found[-1] == pytest.approx(target, abs=0.02)
    assert found[5] < 0.75 * target, "it does not jump there"


def test_zeros_of_the_source_stay_and_count():
    def half(module):
        with torch.no_grad():
            for part in matrices(module).values():
                part.weight.masked_fill_(~largest(part.weight, 0.5), 0.0)

    of = source(changed=half)
    before, whole = zeros(of.module), pruned_weights(of.module)
    for target, expected in ((0.5, gone_at(of.module, 0.5)), (0.1, round(0.5 * whole))):
        method = gated(of, target=target)
        module = method.build()
        train(method, module, case_of(of), 2)
        after = zeros(method.finish(module, iter(())))
        assert all((after[name] >= found).all() for name, found in before.items())
        assert sum(int(found.sum()) for found in after.values()) == expected


def test_what_training_left_off_with_is_rebuilt_and_so_is_what_is_finished(tmp_path):
    of = source()
    method, case = gated(of, target=0.4), case_of(of)
    module = method.build()
    train(method, module, case, 2)
    for each in (module, method.finish(copy_of(method, module), iter(()))):
        rebuilt = gated(of, target=0.4).rebuild(method.architecture(each))
        rebuilt.load_state_dict(each.state_dict())
        assert (gates_of(rebuilt) is None) == (gates_of(each) is None)
    assert float(gates_of(module).multiplier) > 0


def copy_of(method, module):
    made = method.rebuild(method.architecture(module))
    made.load_state_dict(module.state_dict())
    return made


def test_a_training_step_is_measured_with_gates_and_dense_weights(tmp_path):
    of = source()
    method, case = gated(of, target=0.4), dataclasses.replace(case_of(of))
    module = method.build()
    train(method, module, case, 1)
    save(case, method, method.finish(module, iter(())).eval(), tmp_path)
    loaded = load_trainable(tmp_path)
    assert gates_of(loaded.module) is not None and not bitmaps(loaded.module)
    assert zeros(loaded.module).keys() == zeros(of.module).keys()
    rows = train(loaded.method, loaded.module, case, 1)
    assert rows[0]["total"] > 0 and "sparsity" in rows[0]
    finished = load_system(tmp_path)
    batch = case.batch()
    assert "sparsity" not in finished.method.losses(finished.module, batch, Step("train", 0, 0))


def test_targets_are_shares_of_the_encoder_as_the_paper_counts():
    """65 % of wav2vec2-base is 72.2 % of its matrices (90 % of the encoder), 60 % of HuBERT-large 62.7 %."""
    base, large = (BackboneFactory(*shape, 32).outline() for shape in (("wav2vec2", {}), ("hubert", LARGE)))
    assert encoder_weights(base) == 94_371_712 and pruned_weights(base) == 12 * (4 * 768**2 + 2 * 768 * 3072)
    shares = {target: round(100 * gone_at(base, target) / pruned_weights(base), 1) for target in (0.5, 0.65, 0.765)}
    assert shares == {0.5: 55.6, 0.65: 72.2, 0.765: 85.0}
    assert len(matrices(base)) == 72
    assert round(100 * gone_at(large, 0.6) / pruned_weights(large), 1) == 62.7


LARGE = {"layers": 24, "width": 1024, "heads": 16, "ffn": 4096, "conv_norm": "layer", "conv_bias": True}


def test_a_target_above_what_is_gated_is_refused_before_any_work():
    of = source()
    with pytest.raises(UserError, match=r"settings.target: 0.95 of the encoder's .* cannot go; .* 0.76"):
        make_method("methods.selfpinching", {"source": {"system": "f4"}, "target": 0.95}, factory()).check_sources(
            {"source": of.method}
        )
