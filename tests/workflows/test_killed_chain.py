"""Fold, gate, then few bits on a speech encoder, and nested sub-nets: each killed on the way, resumed, decoded."""

import pytest

from methods.shared.matrices import matrices, packed_matrices
from tests.kills import killed_and_resumed
from tests.workflows.commands import command, read, with_systems
from workflows.experiment import load_experiment
from workflows.steps.train import train_system
from workflows.systems import load_system

SYSTEMS = """
  fw1_gated:
    method: methods.selfpinching
    settings: {source: {system: fw1}, target: 0.2}
    training: &short {steps: 4, schedule: {kind: linear, warmup_steps: 1}}
  fw1_gated_int4:
    method: methods.usmlite
    settings: {source: {system: fw1_gated}, bits: 4}
    training: *short
    decodes: [greedy]
  aio:
    method: methods.allinone
    settings: {depths: [2, 1], widths: [1, 0.5], bits: [8, 2]}
    backbone: {layers: 2}
    decodes: [greedy]
"""


@pytest.fixture(scope="module")
def resumed(run, reading, tmp_path_factory):
    """Trains a system whole, and killed on the way and resumed; its folder. With it the experiment's file."""
    root = tmp_path_factory.mktemp("killed")
    with reading():
        path = with_systems(run, SYSTEMS, root / "tiny.yaml")
    experiment = load_experiment(str(path))

    def trained(name, inputs):
        data = run / "data/synth"
        return killed_and_resumed(lambda folder: train_system(experiment, name, 0, data, folder, inputs), root, name)

    return path, trained


def decoded(run, path, name, folder, out):
    done = command(
        "workflows.evaluate",
        *("--experiment", path, "--system", name, "--data", run / "data/synth", "--model", folder, "--out", out),
    )
    assert done.returncode == 0, done.stderr
    points = read(out / "points.json")
    found = points["decodes"]["greedy"]["sets"]
    assert {tuple(each["points"]) for each in found.values()} == {tuple(point["id"] for point in points["points"])}
    return points["points"]


def test_a_gated_speech_encoder_in_4_bits(run, resumed, tmp_path):
    path, trained = resumed
    sources = {name: run / f"systems/{name}/seed0" for name in ("fw1", "w2")}
    whole = trained("fw1_gated", sources)
    packed = trained("fw1_gated_int4", {**sources, "fw1_gated": whole})
    gated, codes = load_system(whole), packed_matrices(load_system(packed).module)
    assert codes.keys() == matrices(load_system(sources["fw1"]).module).keys()
    for name, part in codes.items():
        pruned = gated.module.get_submodule(name).weight == 0
        assert pruned.any() and (part.weight[pruned] == 0).all(), "what the gates pinched off stays zero"
    points = decoded(run, path, "fw1_gated_int4", packed, tmp_path / "eval")
    before = read(sources["fw1"] / "eval/points.json")["points"]
    assert [(point["id"], point["path"]) for point in points] == [(point["id"], point["path"]) for point in before]


def test_nested_sub_nets(run, resumed, tmp_path):
    path, trained = resumed
    whole = trained("aio", {})
    points = decoded(run, path, "aio", whole, tmp_path / "eval")
    assert len(points) == 2 * 2 * 2 and {point["id"] for point in points} >= {"n02w100b08", "n01w050b02"}
