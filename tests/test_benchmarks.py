"""The arithmetic of the benchmarks of speech encoders, on a narrow encoder. Nothing is asserted of measured times."""

import contextlib
import json
import subprocess
import sys

import pytest
import torch

from benchmarks.encoders import noise
from benchmarks.joint_training import (
    DEPTH,
    LayerClock,
    Setting,
    StepTimes,
    Trainee,
    compare,
    crossing,
    kept_bytes,
    time_step,
)
from benchmarks.packed import main as packed
from benchmarks.sensitivity import main as sensitivity

SETTING = Setting("small", seconds=0.5, threads=1, bf16=False, processor_time=False)


@pytest.mark.parametrize(("layers", "executed"), [(8, 15), (6, 17), (4, 15), (3, 14), (2, 13)])
def test_executions_of_a_joint_step(layers, executed):
    """Two passes, less what they begin with; the front end once."""
    found = time_step(Trainee(layers, True, SETTING), noise(1, 0.5))
    assert (found.executed, found.front_ends) == (executed, 1)
    assert 0 < found.layer_seconds < found.step_seconds


def test_executions_of_the_baseline():
    found = time_step(Trainee(DEPTH, False, SETTING), noise(1, 0.5))
    assert (found.executed, found.front_ends) == (12, 1)


@pytest.mark.parametrize(("layers", "executed"), [(8, 15), (6, 17)])
@pytest.mark.parametrize("checkpoint_layers", [False, True])
def test_the_clock_counts_all_of_the_layers_and_nothing_else(layers, executed, checkpoint_layers):
    """By a clock that a layer's forward pass advances by 1, its backward pass by 2, and everything else by 1000."""
    trainee = Trainee(layers, True, SETTING, checkpoint_layers)
    passed = 0

    def advance(seconds):
        def hook(*_):
            nonlocal passed
            passed += seconds

        return hook

    for layer in range(layers):
        trainee.module.layer_module(layer).register_forward_pre_hook(advance(1))
        trainee.module.layer_module(layer).register_full_backward_hook(advance(2))
    for other in (trainee.module.model.wav2vec2.encoder.layer_norm, trainee.module.model.lm_head):
        other.register_forward_hook(advance(1000))
        other.register_full_backward_hook(advance(1000))
    clock = LayerClock(trainee.module, trainee.device, lambda: passed)
    with clock.watching():
        trainee.step(noise(1, 0.5))
    forward_passes = 2 if checkpoint_layers else 1
    assert clock.seconds() == executed * (forward_passes + 2)
    assert passed == clock.seconds() + 6000, "the front end's norm once, the CTC layer twice"


def test_a_watched_step_is_an_ordinary_step():
    gradients = []
    for watched in (False, True):
        trainee = Trainee(6, True, SETTING)
        trainee.module.eval()  # no dropout and no masks
        clock = LayerClock(trainee.module, trainee.device, lambda: 0.0)
        with clock.watching() if watched else contextlib.nullcontext():
            trainee.loss(noise(2, 0.5)).backward()
        assert bool(clock.marks) == watched
        assert "run_layer" not in vars(trainee.module)
        assert not any(module._forward_hooks for module in trainee.module.modules())
        named = trainee.module.named_parameters()
        gradients.append({name: weight.grad for name, weight in named if weight.grad is not None})
    assert len(gradients[0]) > 6 * 16
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-4)


def test_overlapping_executions_are_refused():
    clock = LayerClock(None, torch.device("cpu"), lambda: 0.0)
    clock.marks = [("enter", 0.0), ("enter", 1.0), ("leave", 2.0), ("leave", 3.0)]
    with pytest.raises(AssertionError, match="overlap"):
        clock.seconds()


def test_comparison_pair_by_pair():
    baseline = [StepTimes(12, 1, 12.0, 20.0), StepTimes(12, 1, 24.0, 40.0), StepTimes(12, 1, 12.0, 20.0)]
    seed = [StepTimes(15, 1, 15.0, 18.0), StepTimes(15, 1, 33.0, 38.0), StepTimes(15, 1, 18.0, 30.0)]
    found = compare(list(zip(seed, baseline, strict=True)))
    assert found["expected_ratio"] == 1.25
    assert found["layer_ratio"] == {"median": 1.375, "min": 1.25, "max": 1.5, "repeats": 3}
    assert found["above_expected"] == pytest.approx(0.1) and found["within_tolerance"]
    assert found["step_ratio"]["median"] == pytest.approx(0.95)
    slower = compare([(StepTimes(15, 1, 16.6, 20.0), StepTimes(12, 1, 12.0, 20.0))])
    assert not slower["within_tolerance"]


def test_where_a_seed_needs_more():
    assert crossing(4, -600, 100) == 10, "600 less at 4 utterances, 100 more for each further one"
    assert crossing(8, 300, 100) == 5
    assert crossing(1, 300, 100) == 0, "at every batch"
    assert crossing(4, -600, -5) is None and crossing(4, -600, 0) is None


def test_kept_activations():
    """A joint step keeps more than the baseline's, checkpointing less, and twice the batch twice as much."""
    sizes = {}
    for name, layers, joint, checkpoint_layers in [
        ("baseline", DEPTH, False, False),
        ("seed", 6, True, False),
        ("checkpointed", 6, True, True),
    ]:
        trainee = Trainee(layers, joint, SETTING, checkpoint_layers)
        sizes[name] = [kept_bytes(trainee, noise(utterances, 0.5)) for utterances in (1, 2, 4)]
    assert sizes["checkpointed"][0] < sizes["baseline"][0] < sizes["seed"][0]
    for one, two, four in sizes.values():
        assert four - two == pytest.approx(2 * (two - one), rel=0.02)


def test_joint_training_as_a_whole(tmp_path):
    out = tmp_path / "joint.json"
    options = ["--device", "cpu", "--quick", "--threads", "1", "--json", str(out)]
    done = subprocess.run([sys.executable, "-m", "benchmarks.joint_training", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert all(row["name"] in done.stdout for row in found["rows"]) and len(found["rows"]) == 4
    assert "| 2 -> 12 | 13 | 1.083 |" in found["markdown"]
    assert [(row["system"], row["checkpoint_layers"]) for row in found["facts"]["memory"]["systems"]] == [
        ("12", False),
        ("12", True),
        ("2 -> 12", False),
        ("2 -> 12", True),
    ]
    assert all(peak > 0 for row in found["facts"]["memory"]["systems"] for peak in row["peak_bytes"])
    assert found["facts"]["time"]["seeds"][0]["layer_ratio"]["repeats"] == 1


def test_sensitivity_shares_executions(tmp_path):
    out = tmp_path / "sensitivity.json"
    (row,) = sensitivity(["--device", "cpu", "--quick", "--json", str(out)])
    facts = json.loads(out.read_text())["facts"]["small"]
    assert facts["executed_layers"] == [78, 144]
    assert facts["largest_difference"] <= 1e-5
    assert row.ratio > 0


def test_packed_weights_give_the_outputs_of_the_weights_they_stand_for(tmp_path):
    out = tmp_path / "packed.json"
    rows = packed(["--device", "cpu", "--quick", "--json", str(out)])
    differences = json.loads(out.read_text())["facts"]["largest_difference"]
    assert {f"a matrix in {name}" for name in differences if name != "dense"} == {row.name for row in rows}
    rounded = differences.pop("int8, torchao's kernel, inputs in int8 too", 0.01)  # where it is installed
    assert 1e-5 < rounded < 0.1, "inputs are rounded too"
    assert len(differences) == 5 and max(differences.values()) < 1e-5
    assert all(row.ratio > 0 and row.repeats == 2 for row in rows)


def test_both_loaders_read_the_same(tmp_path):
    from benchmarks.loader import main as loader

    out = tmp_path / "loader.json"
    rows = loader(["--device", "cpu", "--quick", "--json", str(out)])
    assert [row.peer for row in rows] == ["", "lhotse's K2SpeechRecognitionDataset"] * 2
    facts = json.loads(out.read_text())["facts"]
    assert len(facts) == 2 and all(0 <= difference < 1e-3 for difference in facts.values())
    assert all(row.ratio > 0 for row in rows)


def test_beam_search_beside_espnets():
    """The same work on both sides: the transcripts are ESPnet's."""
    from benchmarks.beam import main as beam

    (row,) = beam(["--quick", "--device", "cpu", "--beam", "3"])
    assert "2 transcripts equal, 0 others within 0.0001, 0 different" in row.work
    assert row.ratio > 0 and row.peer == "ESPnet's, one utterance at a time"


def test_transcripts_that_are_equal_close_or_different():
    from benchmarks.beam import agreement

    ours = [([1, 2], -3.0), ([1], -4.0), ([2], -5.0)]
    theirs = [([1, 2], -3.5), ([2], -4.00001), ([3], -4.0)]
    found = agreement(ours, theirs)
    assert found.pop("largest_score_difference") == pytest.approx(1.0)
    assert found == {"equal_transcripts": 1, "close": 1, "different": 1}
