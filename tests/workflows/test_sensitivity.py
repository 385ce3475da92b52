"""Leave-one-out sensitivity: what is left out, the order in which layers are dropped, the file the next rule reads."""

import pytest
import torch
from safetensors.torch import load_file

from analysis.scoring.alignment import align
from analysis.scoring.trn import read_trn
from common.errors import UserError
from methods.paths import run_paths
from tests.models import small_encoder, waves
from tests.workflows.commands import read
from workflows.experiment import load_experiment
from workflows.steps.sensitivity import drop_order, leave_one_out, measure_sensitivity
from workflows.systems import load_drop_order


def test_each_layer_is_left_out_once():
    points = leave_one_out(3)
    assert [(point.id, point.path) for point in points] == [
        ("full", (1, 1, 1)),
        ("without_01", (0, 1, 1)),
        ("without_02", (1, 0, 1)),
        ("without_03", (1, 1, 0)),
    ]


def test_drop_order():
    """Fewest errors first; of equals the later layer."""
    assert drop_order([9, 4, 7, 4]) == [4, 2, 3, 1]


def test_variants_share_their_prefixes():
    """Twelve layers: 12 + 66 executions instead of 144; and the outputs are those of each path alone."""
    model, speech = small_encoder(layers=12).eval(), waves()
    executed = 0

    def run_layer(layer, state):
        nonlocal executed
        executed += 1
        return model.run_layer(layer, state)

    with torch.no_grad():
        start = model.front_end(speech.inputs, speech.input_lengths)
        paths = [point.path for point in leave_one_out(12)]
        found = dict(run_paths(paths, start, run_layer))
        assert executed == 78 <= 0.6 * 144
        for path in paths:
            torch.testing.assert_close(found[path].x, model.run_path(path, start).x)


def test_the_file_agrees_with_its_transcripts(run):
    folder = run / "systems/w2/seed0"
    content = read(folder / "sensitivity.json")
    assert content["system"] == "w2" and content["set"] == "dev" and content["physical_layers"] == 2
    reference = read_trn(run / "data/synth/dev.trn")
    entries = {"full": content["full"], **{f"without_{each['layer']:02d}": each for each in content["without"]}}
    assert list(entries) == ["full", "without_01", "without_02"]
    for name, entry in entries.items():
        counts = align(reference, read_trn(folder / "sensitivity" / f"{name}.trn")).counts.to_json()
        assert {key: entry[key] for key in counts} == counts
    errors = [each["sub"] + each["del"] + each["ins"] for each in content["without"]]
    assert content["drop_order"] == ([2, 1] if errors[1] <= errors[0] else [1, 2])
    assert content["full"] == {key: entries["full"][key] for key in content["full"]}


def test_the_next_system_keeps_what_the_file_says(run):
    """The one-layer seed was trained from the kept layer: provenance holds the order."""
    order = list(load_drop_order(run / "systems/w2/seed0"))
    provenance = read(run / "systems/fw1/seed0/provenance.json")
    assert provenance["configuration"]["drop_orders"] == {"start": order}
    assert len(load_file(run / "systems/fw1/seed0/model.safetensors")) < len(
        load_file(run / "systems/w2/seed0/model.safetensors")
    )


def test_bad_drop_orders(tmp_path):
    assert load_drop_order(tmp_path) is None
    for text in ('{"drop_order": [1, 1]}', '{"drop_order": 3}', "{}"):
        (tmp_path / "sensitivity.json").write_text(text)
        with pytest.raises(UserError, match="does not name every layer once"):
            load_drop_order(tmp_path)


def test_a_model_that_recognises_nothing_has_no_sensitivity(run):
    experiment = load_experiment(str(run.parent / "tiny.yaml"))
    with pytest.raises(UserError, match="'heard' recognises nothing yet; fine-tune it with a CTC layer"):
        measure_sensitivity(
            experiment, "heard", run / "data/synth", run / "systems/heard/seed0", run / "unwritten.json"
        )
