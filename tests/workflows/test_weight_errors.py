"""What errors in weights do: the errors by hand, executions one by one, and the file of the real command."""

import pytest
import torch

from methods.shared.matrices import matrices
from methods.shared.packed import Packed
from tests.models import STILL, batch, conformer
from tests.workflows.commands import command, one_clear_error, read
from workflows.steps.weight_errors import (
    DRAWS,
    EACH,
    SAME,
    divergence,
    noises,
    roundings,
    run_with_errors,
)


@pytest.fixture
def module():
    return conformer(**STILL, layers=2).eval()


def encoded(module, path, at=None):
    one = batch()
    with torch.inference_mode():
        return module.finish(run_with_errors(module, path, module.front_end(one.inputs, one.input_lengths), at)).frames


def with_weights(module, change):
    """A copy of the module whose matrices are changed for good."""
    other = conformer(**STILL, layers=2).eval()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        for name, part in matrices(other).items():
            part.weight.copy_(change(name, part))
    return other


def by_executions(module):
    """The noises of the first draw: the same, and one for each execution."""
    found = {one.about["executions"]: one for one in noises(module, 0) if one.about["draw"] == 0}
    return found[SAME].at, found[EACH].at


def test_the_same_noise_is_that_of_a_model_with_other_weights(module):
    same, _ = by_executions(module)
    other = with_weights(module, lambda name, part: part.weight + same(name, 0))
    assert torch.equal(encoded(module, (2, 2), same), encoded(other, (2, 2)))
    assert all(torch.equal(same(name, 1), same(name, 0)) for name in matrices(module))


def test_noise_for_each_execution_is_another_model_at_each(module):
    same, each = by_executions(module)
    models = [with_weights(module, lambda name, part, k=k: part.weight + each(name, k)) for k in (0, 1)]
    one = batch()
    with torch.inference_mode():
        state = module.front_end(one.inputs, one.input_lengths)
        for layer in (0, 1):
            for other in models:
                state = other.run_layer(layer, state)
        by_hand = module.finish(state).frames
    assert torch.equal(encoded(module, (2, 2), each), by_hand)
    assert torch.equal(encoded(module, (1, 1), each), encoded(module, (1, 1), same)), "the first execution has the same"
    assert not torch.equal(encoded(module, (2, 2), each), encoded(module, (2, 2), same))


def test_weights_are_afterwards_what_they_were(module):
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    plain = encoded(module, (2, 1))
    for condition in [*noises(module, 0), *roundings(module)]:
        encoded(module, (2, 1), condition.at)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(encoded(module, (2, 1)), plain)


def test_noise_is_as_large_as_the_error_of_four_bits_and_new_in_each_draw(module):
    conditions = list(noises(module, 0))
    assert len(conditions) == 2 * DRAWS
    for name, part in matrices(module).items():
        error = (Packed.of(part, 4, 32).weight - part.weight.detach()).square().mean().sqrt()
        drawn = torch.stack([one.at(name, k) for one in conditions[1::2] for k in (0, 1, 2)])
        assert drawn.square().mean().sqrt() == pytest.approx(error.item(), rel=0.1)
        assert len({tensor.flatten()[0].item() for tensor in drawn}) == 3 * DRAWS
    again = list(noises(module, 0))[0].at
    assert all(torch.equal(again(name, 0), conditions[0].at(name, 0)) for name in matrices(module))


def test_rounding_is_what_packing_does(module):
    for condition, (bits, group) in zip(roundings(module), [(8, None), (4, 32)], strict=False):
        packed = with_weights(module, lambda name, part, bits=bits, group=group: Packed.of(part, bits, group).weight)
        found = encoded(module, (2, 1), condition.at)
        torch.testing.assert_close(found, encoded(packed, (2, 1)), atol=1e-5, rtol=1e-5)
        assert condition.about["bits"] == bits


def test_divergence_by_hand():
    true, found = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log(), torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]).log()
    first = 0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(0.5 / 0.75).log()
    assert divergence(true, found, torch.tensor([1])) == pytest.approx(first.item(), abs=1e-7)
    assert divergence(true, true, torch.tensor([2])) == 0.0


def test_the_file_tells_of_every_trained_path(run):
    found = read(run / "systems/f2/seed0/weight_errors.json")
    assert [point["path"] for point in found["points"]] == [[1, 1], [2, 2]]
    points = read(run / "systems/f2/seed0/eval/points.json")["decodes"]["greedy"]["sets"]["dev"]["points"]
    for point in found["points"]:
        assert point["id"] in points
        assert point["without"]["divergence"] == point["without"]["ctc_rise"] == 0
        kinds = [(each["error"], each["bits"], each["executions"]) for each in point["errors"]]
        repeated = DRAWS if point["depth"] == 4 else 0
        assert kinds.count(("noise", 4, SAME)) == DRAWS and kinds.count(("noise", 4, EACH)) == repeated
        rounded = [each["divergence"] for each in point["errors"] if each["error"] == "rounding"]
        assert rounded == sorted(rounded) and rounded[0] < 0.01 * rounded[-1], "8, 4, 3, 2 bits"
    assert [point["path"] for point in read(run / "systems/a4/seed0/weight_errors.json")["points"]] == [[1, 1, 1, 1]]


def test_packed_weights_and_models_that_recognise_nothing_are_refused(run, tmp_path):
    for system, message in (("fw1_int8", "dense matrices"), ("heard", "trained at no path")):
        arguments = ["--experiment", run.parent / "tiny.yaml", "--system", system, "--data", run / "data/synth"]
        arguments += ["--model", run / f"systems/{system}/seed0", "--out", tmp_path / "out.json"]
        one_clear_error(command("workflows.weight_errors", *arguments), message)
