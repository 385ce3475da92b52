"""Losses behind intermediate layers, and utterances that leave early."""

import math

import pytest
import torch

from asr.backbones import BackboneFactory
from baselines.intermediate_ctc import EarlyExit, mean_entropy
from common.errors import UserError
from methods.contract import Step, make_method
from tests.models import SMALL_ENCODER, STILL, batch, factory, waves
from tests.systems import system_folder
from workflows.steps import contract_cases
from workflows.steps.contract_checks import CHECKS
from workflows.steps.export.system import read_system
from workflows.steps.operations import count_macs

STEP = Step("train", 0, 0)
ENCODER = {**SMALL_ENCODER, "layers": 4, "pre_norm": True}
CASES = {"conformer": (factory(**STILL), batch()), "wav2vec2": (BackboneFactory("wav2vec2", ENCODER, 32), waves())}


def intermediate(backbone="conformer", made=None, **settings):
    method = make_method("baselines.intermediate_ctc", settings, made or CASES[backbone][0])
    torch.manual_seed(0)
    return method, method.build().eval()


@pytest.mark.parametrize("backbone", CASES)
def test_the_total_against_a_hand_calculation(backbone):
    method, module = intermediate(backbone, exits=[1, 3], weight=0.4)
    data = CASES[backbone][1]

    def loss(path):
        return module.loss(module.outputs(module.encode(data.inputs, data.input_lengths, path), data), data)

    with torch.no_grad():
        first, third, whole = (loss(path) for path in ((1, 0, 0, 0), (1, 1, 1, 0), (1, 1, 1, 1)))
        terms = method.losses(module, data, STEP)
    ctc = 0.6 * float(whole["ctc"]) + 0.4 * float(first["ctc"] + third["ctc"]) / 2
    attention = 0.7 * float(whole["attention"]) if backbone == "conformer" else 0.0
    assert float(terms["total"]) == pytest.approx(attention + module.ctc_weight * ctc, rel=1e-5)
    torch.testing.assert_close(terms["exit1.ctc"], first["ctc"])
    torch.testing.assert_close(terms["exit3.ctc"], third["ctc"])
    assert method.selection_term(terms) == "ctc" and float(terms["ctc"]) == pytest.approx(float(whole["ctc"]), rel=1e-5)


def test_without_a_share_the_total_is_that_of_all_layers_alone():
    method, module = intermediate(weight=0)
    plain = make_method("baselines.all_physical", {}, method.backbone)
    data = CASES["conformer"][1]
    with torch.no_grad():
        expected, found = plain.losses(module, data, STEP)["total"], method.losses(module, data, STEP)["total"]
    assert torch.equal(found, expected)


def test_a_quarter_a_half_and_three_quarters_unless_exits_are_named():
    for layers, exits in ((12, [3, 6, 9]), (8, [2, 4, 6]), (4, [1, 2, 3]), (3, [1, 2]), (2, [1])):
        method = make_method("baselines.intermediate_ctc", {}, factory(layers=layers))
        assert method.exits == exits
        points = method.expected_points()
        assert [point.depth for point in points] == [*exits, layers] and all(point.trained for point in points)
        assert all(point.path == (1,) * point.depth + (0,) * (layers - point.depth) for point in points)


def entropies(module, data, depth):
    path = (1,) * depth + (0,) * (module.layers - depth)
    with torch.no_grad():
        encoded = module.encode(data.inputs, data.input_lengths, path)
        valid = torch.arange(encoded.frames.size(1)) < encoded.lengths[:, None]
        return mean_entropy(module.ctc_log_probs(encoded), valid)


def test_mean_entropy_against_a_hand_calculation():
    certain, uniform = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    probabilities = torch.stack([torch.stack([certain, uniform, uniform]), torch.stack([uniform, certain, uniform])])
    log_probs = probabilities.clamp(min=1e-30).log()
    found = mean_entropy(log_probs, torch.tensor([[True, True, True], [True, True, False]]))
    torch.testing.assert_close(found, torch.tensor([2 * math.log(2) / 3, math.log(2) / 2]))
    assert float(mean_entropy(log_probs, torch.zeros(2, 3, dtype=torch.bool)).sum()) == 0.0, "an utterance of no frame"


@pytest.mark.parametrize("backbone", CASES)
def test_each_utterance_of_a_batch_leaves_where_it_would_leave_alone(backbone):
    method, module = intermediate(backbone)
    data = CASES[backbone][1]
    first = entropies(module, data, 1)
    assert len(set(first.tolist())) == len(first)
    threshold = float(first.sort().values[:2].mean())  # the surest one leaves first
    recogniser = EarlyExit(module, tuple(method.exits), threshold)
    with torch.no_grad():
        encoded, depths = recogniser.encode_with_depths(data.inputs, data.input_lengths)
        for row, length in enumerate(data.input_lengths.tolist()):
            alone, depth = recogniser.encode_with_depths(data.inputs[row : row + 1, :length], torch.tensor([length]))
            assert int(depth) == int(depths[row])
            count = int(alone.lengths)
            torch.testing.assert_close(encoded.frames[row, :count], alone.frames[0, :count], atol=1e-5, rtol=0)
            path = (1,) * int(depth) + (0,) * (4 - int(depth))
            there = module.encode(data.inputs, data.input_lengths, path)
            assert torch.equal(encoded.frames[row], there.frames[row]), "the frames of that depth"
    assert int(depths[first.argmin()]) == 1 < int(depths.max())
    by_rule = [next((e for e in method.exits if entropies(module, data, e)[row] < threshold), 4) for row in range(3)]
    assert depths.tolist() == by_rule


def test_no_layer_runs_behind_the_last_utterance_that_left():
    method, module = intermediate(thresholds=[100, 0.001])
    data, executed = CASES["conformer"][1], []
    run_layer = module.run_layer
    module.run_layer = lambda layer, *rest: (executed.append(layer), run_layer(layer, *rest))[1]
    sure, never = method.points(module)[-2:]
    assert (sure.id, never.id, sure.label, sure.path) == ("h100000", "h0001", "entropy below 100", None)
    costs = {}
    for point, layers in ((sure, [0]), (never, [0, 1, 2, 3])):
        executed.clear()
        with torch.no_grad():
            recogniser = method.at(module, point)
            costs[point.id] = count_macs(lambda each=recogniser: each.encode(data.inputs, data.input_lengths))
        assert executed == layers
    assert costs["h100000"] < costs["h0001"]
    assert method.cost_key(sure) != method.cost_key(never)
    assert method.parameters(module, sure).executed == method.parameters(module, sure).stored, "any of them may run"


@pytest.mark.parametrize("backbone", CASES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_holds_with_thresholds(backbone, check, tmp_path):
    check(contract_cases.case("baselines.intermediate_ctc", backbone, {"thresholds": [2.2, 0.5]}), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exits": [1, 4]}, r"settings.exits: \[1, 4\] are not ascending numbers from 1 to 3: there are 4 layers"),
        ({"exits": [2, 1]}, r"settings.exits: \[2, 1\] are not ascending"),
        ({"exits": [0, 1]}, r"settings.exits: \[0, 1\] are not ascending"),
        ({"thresholds": [0.5, 0.5]}, r"settings.thresholds: \[0.5, 0.5\] are not different entropies above 0"),
        ({"thresholds": [0.0]}, r"settings.thresholds: \[0.0\] are not different entropies above 0"),
        ({"weight": 1.0}, "weight: Input should be less than 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        intermediate(**settings)
    with pytest.raises(UserError, match="backbone.layers: 1 layer has no exit"):
        intermediate(made=factory(layers=1))


def test_depths_are_exported_and_thresholds_stay_behind(tmp_path):
    name = "baselines.intermediate_ctc"
    folder = system_folder(tmp_path, "wav2vec2", name, {"exits": [1], "thresholds": [0.5]}, name="i3")
    system = read_system(folder, None)
    assert {depth: point.label for depth, point in system.chosen.items()} == {1: "1 0 0", 3: "1 1 1"}
