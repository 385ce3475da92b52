"""Pruned systems through the real steps: trained, killed on the way, resumed, measured, exported; bad input."""

import json

import pytest

from methods.shared.bitmap import bitmaps
from methods.shared.matrices import matrices
from methods.shared.pruning import encoder_weights, pruned_weights
from tests.kills import killed_and_resumed
from tests.workflows.commands import read, refused_by_check, with_systems
from workflows.experiment import load_experiment
from workflows.steps.export.folder import export_system
from workflows.steps.measure import measure_system
from workflows.steps.train import train_system
from workflows.systems import load_system

SYSTEMS = """
  f2_gated:
    method: methods.selfpinching
    settings: {source: {system: f2}, target: 0.4}
    training: &short {steps: 4, schedule: {kind: linear, warmup_steps: 1}}
  f2_gradual:
    method: baselines.magnitude
    settings: {source: {system: f2}, target: 0.4, schedule: gradual, every: 0.5, storage: bitmap}
    training: *short
"""


@pytest.fixture
def tiny(run, tmp_path):
    """Writes the tiny experiment with two more systems, changed or not; its file."""
    return lambda change=("", ""): with_systems(run, SYSTEMS.replace(*change), tmp_path / "tiny.yaml")


@pytest.mark.parametrize("name", ["f2_gated", "f2_gradual"])
def test_a_training_that_was_killed_ends_with_the_same_bytes_and_is_measured(run, tiny, tmp_path, name):
    experiment, data, source = load_experiment(str(tiny())), run / "data/synth", run / "systems/f2/seed0"

    whole = killed_and_resumed(
        lambda folder: train_system(experiment, name, 0, data, folder, {"f2": source}), tmp_path, name
    )

    system, dense = load_system(whole), load_system(source)
    gone = round(0.4 * encoder_weights(dense.module))
    assert list(bitmaps(system.module)) == list(matrices(dense.module))
    assert not [key for key in system.module.state_dict() if "gates" in key]
    log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert any("sparsity" in row for row in log) == (name == "f2_gated")

    costs = measure_system(experiment, name, data, whole)
    before = read(source / "measured/costs.json")["points"]
    weights, nonzero = (sum(each[key] for each in costs["matrices"]) for key in ("weights", "nonzero"))
    assert weights == pruned_weights(dense.module) and weights - nonzero == gone
    assert [each["name"] for each in costs["matrices"]] == list(matrices(dense.module))
    differ = {round(each["nonzero"] / each["weights"], 2) for each in costs["matrices"]}
    assert (len(differ) > 1) == (name == "f2_gated"), "thresholds learn which matrix can spare more"
    for point, cost in costs["points"].items():
        assert cost["bits_a_weight"] == pytest.approx(1 + 32 * nonzero / weights)
        assert before[point]["stored_bytes"] - cost["stored_bytes"] == 4 * gone - weights // 8
        assert before[point]["parameters_nonzero"] - cost["parameters_nonzero"] == gone
        assert cost["training_seconds"] > 0 and cost["training_peak_memory_bytes"] > 0
        header = 8 + int.from_bytes((whole / "model.safetensors").read_bytes()[:8], "little")
        assert (whole / "model.safetensors").stat().st_size == header + cost["stored_bytes"]
    export_system(whole, tmp_path / "exported", data, None, None)
    card = (tmp_path / "exported/README.md").read_text()
    assert "matrices the weights that are not zero are stored" in card
    header = 8 + int.from_bytes((tmp_path / "exported/model.safetensors").read_bytes()[:8], "little")
    assert (tmp_path / "exported/model.safetensors").stat().st_size == header + cost["stored_bytes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("target: 0.4}", "target: 0.9}"), "systems.f2_gated: settings.target: 0.9 of the encoder's"),
        (("target: 0.4}", "target: 1.5}"), "systems.f2_gated.settings: target: Input should be less than 1"),
        (("{system: f2}, target: 0.4}", "{system: f2_half_int4}}"), "the weights of 'f2_half_int4' are packed"),
        (("target: 0.4, schedule", "target: 0.9, schedule"), "systems.f2_gradual: settings.target: 0.9 of"),
        (("target: 0.4, schedule: gradual, every: 0.5", "n: 1, m: 5"), "settings.m: groups of 5 do not divide the 32"),
        (("target: 0.4, schedule: gradual, every: 0.5", "n: 4, m: 2"), "n: 4 of every 2 weights"),
    ],
)
def test_what_cannot_be_pruned_is_refused_early(run, tiny, change, message):
    refused_by_check(tiny(change), message)
