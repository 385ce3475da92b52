"""Layer drop, pruned at use: which layers go, how they go in training, and what is offered."""

import pytest
import torch

from asr.backbones import BackboneFactory, LayerDrop
from baselines.layer_drop import kept_path
from common.errors import UserError
from methods.contract import Step, make_method
from tests.models import SMALL_ENCODER, STILL, batch, factory, waves
from tests.systems import system_folder
from workflows.steps.export.folder import export_system
from workflows.steps.export.system import read_system

QUIET = {**SMALL_ENCODER, "layers": 4, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
CASES = {"conformer": (factory(**STILL), batch()), "wav2vec2": (BackboneFactory("wav2vec2", QUIET, 32), waves())}


def layer_drop(backbone="conformer", **settings):
    method = make_method("baselines.layer_drop", settings, CASES[backbone][0])
    torch.manual_seed(0)
    return method, method.build()


@pytest.mark.parametrize(
    ("layers", "depth", "choice", "path"),
    [
        (12, 6, "spread", "101010101010"),  # every other, as Fan et al.
        (12, 9, "spread", "111011101110"),
        (12, 10, "spread", "111110111110"),
        (12, 8, "spread", "110110110110"),
        (12, 7, "spread", "101011010110"),
        (12, 4, "spread", "010010010010"),
        (12, 12, "spread", "111111111111"),
        (12, 1, "first", "100000000000"),
        (12, 9, "first", "111111111000"),
        (3, 2, "spread", "110"),
    ],
)
def test_which_layers_are_kept(layers, depth, choice, path):
    assert "".join(map(str, kept_path(layers, depth, choice))) == path


@pytest.mark.parametrize("backbone", CASES)
def test_training_runs_what_the_draws_leave_and_rescales_nothing(backbone):
    """On every backbone alike, the Conformer's own ramp notwithstanding."""
    method, module = layer_drop(backbone, rate=0.5)
    module.eval()  # nothing else is random
    data, seen = CASES[backbone][1], set()
    for index in range(6):
        step = Step("train", index, 0)
        path = tuple(int(drawn >= 0.5) for drawn in torch.rand(4, generator=step.generator("layer drop")).tolist())
        seen.add(path)
        with torch.no_grad():
            expected = module.loss(module.outputs(module.encode(data.inputs, data.input_lengths, path), data), data)
            found = method.losses(module, data, step)
        assert float(found["total"]) == pytest.approx(float(expected["total"]), rel=1e-5)
    assert len(seen) > 2
    with torch.no_grad():
        whole = module.loss(module.outputs(module.encode(data.inputs, data.input_lengths), data), data)
        on_dev = method.losses(module, data, Step("train", 0, 0, training=False))
    torch.testing.assert_close(on_dev["total"], whole["total"])


def test_the_rate_is_the_methods_also_when_a_step_is_measured():
    method, module = layer_drop(rate=0.3)
    assert module.layer_drop == method.rebuild({}).layer_drop == 0.3
    drop = LayerDrop.draw(0.3, 4, torch.Generator(), kind="uniform")
    assert {drop.probability(execution) for execution in range(4)} == {0.3}


def test_points_are_the_depths_that_are_asked_for():
    def paths(**settings):
        method, module = layer_drop(**settings)
        assert method.statistics_points(module, Step("statistics", 0, 0)) == method.points(module)
        return {point.id: (point.label, point.trained) for point in method.points(module)}

    assert paths() == {"d04_00": ("1 1 1 1", True), "d03_00": ("1 1 1 0", False), "d02_00": ("1 0 1 0", False)}
    assert paths(depths=[1]) == {"d04_00": ("1 1 1 1", True), "d01_00": ("0 0 1 0", False)}
    both = paths(depths=[4, 3, 2], keep=["spread", "first"])
    assert [label for label, _ in both.values()] == ["1 1 1 1", "1 1 1 0", "1 0 1 0", "1 1 0 0"], "each path once"


@pytest.mark.parametrize("depths", [[0], [5], [2, 2], [3, -1]])
def test_depths_that_there_are_not_are_refused(depths):
    with pytest.raises(UserError, match="settings.depths: .* are not different numbers from 1 to 4, the physical"):
        layer_drop(depths=depths)


def test_it_is_exported_at_all_its_depths(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = system_folder(tmp_path, "wav2vec2", "baselines.layer_drop", {"depths": [2, 1]}, name="l3")
    export_system(folder, tmp_path / "out", None, None, None)
    system, data = read_system(folder, None), torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    assert {depth: point.label for depth, point in system.chosen.items()} == {1: "0 1 0", 2: "1 1 0", 3: "1 1 1"}
    for depth in (1, 2, 3):
        import asr.exported.huggingface  # noqa: F401 - registers the classes

        model = transformers.AutoModelForCTC.from_pretrained(tmp_path / "out", depth=depth)
        with torch.no_grad():
            encoded = system.module.encode(data, torch.tensor([8000]), system.chosen[depth].path)
            expected, found = system.module.ctc_log_probs(encoded), model(data).logits.log_softmax(-1)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
