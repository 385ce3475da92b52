"""USM-Lite through the real steps: trained, killed on the way, resumed, measured, exported."""

import pytest
from safetensors.torch import load_file

from methods.shared.matrices import matrices, packed_matrices
from tests.kills import killed_and_resumed
from tests.workflows.commands import read, refused_by_check, with_systems
from workflows.experiment import load_experiment
from workflows.steps.export.folder import export_system
from workflows.steps.measure import measure_system
from workflows.steps.train import train_system
from workflows.systems import load_system

SYSTEM = """
  f2_int4_24:
    method: methods.usmlite
    settings: {source: {system: f2}, bits: 4, n: 2, m: 4}
    training: {steps: 4, schedule: {kind: linear, warmup_steps: 1}}
"""


@pytest.fixture
def tiny(run, tmp_path):
    """Writes the tiny experiment with one more system, changed or not; its file."""
    return lambda change=("", ""): with_systems(run, SYSTEM.replace(*change), tmp_path / "tiny.yaml")


def test_a_training_that_was_killed_ends_with_the_same_bytes_and_is_measured(run, tiny, tmp_path):
    experiment, data, source = load_experiment(str(tiny())), run / "data/synth", run / "systems/f2/seed0"

    whole = killed_and_resumed(
        lambda folder: train_system(experiment, "f2_int4_24", 0, data, folder, {"f2": source}), tmp_path, "f2_int4_24"
    )

    packed = packed_matrices(load_system(whole).module)
    assert packed.keys() == matrices(load_system(source).module).keys()
    for part in packed.values():
        assert (part.weight.flatten(1).unflatten(1, (-1, 4)).count_nonzero(-1) <= 2).all()
    costs, before = (
        found["points"]
        for found in (measure_system(experiment, "f2_int4_24", data, whole), read(source / "measured/costs.json"))
    )
    tensors = load_file(whole / "model.safetensors").values()
    for name, point in costs.items():
        assert point["stored_bytes"] == sum(tensor.nbytes for tensor in tensors) < before[name]["stored_bytes"]
        assert point["bits_a_weight"] == 3 + 16 / 32, "every matrix has 32 inputs"
        assert point["macs"] == before[name]["macs"], "they are counted as dense"
        assert point["training_peak_memory_bytes"] > 0 and point["training_seconds"] > 0

    export_system(whole, tmp_path / "exported", data, None, None)
    card = (tmp_path / "exported/README.md").read_text()
    assert "in 4 bits, 2 of 4 weights with their positions, 3.50 a weight" in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("bits: 4", "bits: 5"), "systems.f2_int4_24.settings: bits: Input should be 8, 4 or 2"),
        (("n: 2, m: 4", "n: 2, m: 5"), "systems.f2_int4_24: settings.m: groups of 5 do not divide the 32 inputs of"),
        (("system: f2", "system: f2_half_int4"), "settings.source: the weights of 'f2_half_int4' are packed"),
    ],
)
def test_what_cannot_be_is_refused_by_check(tiny, change, message):
    refused_by_check(tiny(change), message)
