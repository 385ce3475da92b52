"""Fold, gate, then few bits on a speech encoder, and nested sub-nets: each killed on the way, resumed, decoded."""

import pytest

from methods.shared.matrices import matrices, packed_matrices
from tests.kills import KILLED, in_child
from tests.workflows.commands import command, read
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
tables:
"""


@pytest.fixture(scope="module")
def resumed(run, reading, tmp_path_factory):
    """Trains a system twice, once killed on the way and resumed; both folders by its name."""
    root = tmp_path_factory.mktemp("killed")
    path = root / "tiny.yaml"
    with reading():
        path.write_text((run.parent / "tiny.yaml").read_text().replace("tables:\n", SYSTEMS, 1))
    experiment = load_experiment(str(path))

    def trained(name, inputs):
        def once(folder, kill_at=None):
            folder = root / folder / name / "seed0"
            return in_child(
                lambda: train_system(experiment, name, 0, run / "data/synth", folder, inputs), folder, kill_at
            )

        status, changes = once("whole")
        assert status == 0 and changes > 8
        assert once("killed", kill_at=changes // 2)[0] == KILLED
        killed, whole = (root / folder / name / "seed0" for folder in ("killed", "whole"))
        assert (killed / "work").exists() and not (killed / "model.safetensors").exists()
        assert once("killed")[0] == 0
        return killed, whole

    return path, trained


def same_bytes(killed, whole):
    return (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


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
    killed, whole = trained("fw1_gated", sources)
    assert same_bytes(killed, whole)
    killed, packed = trained("fw1_gated_int4", {**sources, "fw1_gated": whole})
    assert same_bytes(killed, packed)
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
    killed, whole = trained("aio", {})
    assert same_bytes(killed, whole)
    points = decoded(run, path, "aio", whole, tmp_path / "eval")
    assert len(points) == 2 * 2 * 2 and {point["id"] for point in points} >= {"n02w100b08", "n01w050b02"}
