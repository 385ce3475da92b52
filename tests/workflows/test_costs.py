"""What a point costs: multiply-accumulates counted by hand, memory of a process of its own, and the file's format."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analysis.inputs.schemas import PointCosts
from tests.models import SMALL, STILL, VOCABULARY, conformer, small_encoder
from tests.workflows.commands import ROOT, TINY, command, one_clear_error, read, with_own_seeds
from workflows.steps.operations import count_macs, eager_attention

PATHS = [(1, 1, 1, 1), (2, 2, 2, 2), (1, 1, 2, 1), (1, 1, 0, 0), (0, 3, 0, 1)]


def block_macs(frames, width, ffn, kernel):
    """One Conformer block by hand; every product of an (m, k) by a (k, n) matrix has m * k * n multiply-accumulates."""
    positions = 2 * frames - 1
    feed_forward = 2 * (frames * width * ffn + frames * ffn * width)  # macaron: two of them
    projections = 4 * frames * width * width + positions * width * width  # query, key, value, output; positions
    scores = frames * frames * width + frames * positions * width  # by content, by relative position
    values = frames * frames * width
    pointwise = frames * width * 2 * width + frames * width * width
    depthwise = frames * width * kernel
    return feed_forward + projections + scores + values + pointwise + depthwise


def front_end_macs(inputs, features, width):
    """Two 3x3 convolutions of stride 2, from 1 to `width` and from `width` to `width` channels, and a linear map."""
    first_frames, first_features = (inputs - 1) // 2, (features - 1) // 2
    frames, rows = (first_frames - 1) // 2, (first_features - 1) // 2
    first = first_frames * first_features * 9 * width
    second = frames * rows * 9 * width * width
    return first + second + frames * rows * width * width, frames


@pytest.mark.parametrize("inputs", [30, 90, 171])
@pytest.mark.parametrize("sizes", [{}, {"width": 48, "heads": 4, "decoder_heads": 4}, {"ffn": 20, "kernel": 15}])
def test_one_block_by_hand(inputs, sizes):
    model = conformer(**STILL, **sizes).eval().requires_grad_(False)
    state = model.front_end(torch.randn(1, inputs, SMALL["input_dim"]), torch.tensor([inputs]))
    config, (_, frames) = model.config, front_end_macs(inputs, SMALL["input_dim"], model.config.width)
    assert state.x.size(1) == frames
    expected = block_macs(frames, config.width, config.ffn, config.kernel)
    assert count_macs(lambda: model.run_layer(2, state)) == expected


@pytest.mark.parametrize("path", PATHS)
def test_a_path_costs_its_front_end_its_executions_and_its_output_layer(path):
    model = conformer(**STILL).eval().requires_grad_(False)
    inputs, lengths = torch.randn(1, 90, SMALL["input_dim"]), torch.tensor([90])
    front_end, frames = front_end_macs(90, SMALL["input_dim"], SMALL["width"])
    block = block_macs(frames, SMALL["width"], SMALL["ffn"], SMALL["kernel"])
    output = frames * SMALL["width"] * VOCABULARY
    counted = count_macs(lambda: model.ctc_log_probs(model.encode(inputs, lengths, path)))
    assert counted == front_end + sum(path) * block + output


def speech_macs(model, samples, depth):
    """A wav2vec2 encoder by hand: convolutions over time, a projection, a grouped positional convolution, layers with
    attention over all frames, the CTC layer."""
    config, channels, frames, total = model.config, 1, samples, 0
    for outputs, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
        total += frames * kernel * channels * outputs
        channels = outputs
    width = config.width
    total += frames * channels * width
    # An even kernel with padding on both sides gives one frame more, which is cut off.
    total += (frames + 1) * config.positional_kernel * width * width // config.positional_groups
    layer = 4 * frames * width * width + 2 * frames * width * config.ffn + 2 * frames * frames * width
    return total + depth * layer + frames * width * 32


@pytest.mark.parametrize("path", [(1, 1, 1), (2, 1, 2), (0, 1, 0)])
def test_fused_attention_is_counted_too(path):
    model = small_encoder().eval().requires_grad_(False)
    inputs, lengths = torch.randn(1, 900), torch.tensor([900])

    def recognise():
        model.ctc_log_probs(model.encode(inputs, lengths, path))

    with eager_attention(model):
        counted = count_macs(recognise)
    assert counted == speech_macs(model, 900, sum(path))
    assert model.model.config._attn_implementation == "sdpa"


def test_costs_of_speech_encoders_are_those_counted_by_hand(run):
    from workflows.systems import load_system

    for system in ("w2", "fw1"):
        module = load_system(run / f"systems/{system}/seed0", packages=["tests.toys"]).module
        depths = {point["id"]: point["depth"] for point in read(eval_of(run, system))["points"]}
        costs = read(costs_of(run, system))["points"]
        rate = read(run / "data/synth/corpus.json")["sampling_rate"]
        assert costs and all(cost["macs"] == speech_macs(module, 10 * rate, depths[p]) for p, cost in costs.items())


def by_hand(run, depth):
    """What the tiny experiment's systems cost for 10 s of audio."""
    rate = read(run / "data/synth/corpus.json")["sampling_rate"]
    vocabulary = len(read(run / "data/synth/tokenizer.json")["tokens"])
    inputs = 1 + (10 * rate - round(0.025 * rate)) // round(0.01 * rate)
    front_end, frames = front_end_macs(inputs, 20, 32)
    return front_end + depth * block_macs(frames, 32, 32, 7) + frames * 32 * vocabulary


@pytest.mark.parametrize("system", ["a2", "a4", "f2"])
def test_costs_of_the_workflow_are_those_counted_by_hand(run, system):
    depths = {point["id"]: point["depth"] for point in read(eval_of(run, system))["points"]}
    costs = read(costs_of(run, system))["points"]
    assert costs and all(cost["macs"] == by_hand(run, depths[point]) for point, cost in costs.items())


def costs_of(run, system):
    return run / "systems" / system / "seed0/measured/costs.json"


def eval_of(run, system):
    return run / "systems" / system / "seed0/eval/points.json"


def test_doubling_a_path_adds_exactly_its_layers(run):
    costs = read(costs_of(run, "f2"))["points"]
    added = by_hand(run, 2) - by_hand(run, 0)
    assert costs["d04_00"]["macs"] - costs["d02_00"]["macs"] == added > 0
    assert costs["d03_00"]["macs"] == costs["d03_01"]["macs"]


def documented(name):
    """The example of a file in docs/files.md."""
    section = (ROOT / "docs/files.md").read_text().split(f"## `{name}`")[1].split("\n## ")[0]
    example = "".join(line for line in section.splitlines() if line.startswith("    "))
    return ast.literal_eval(example)


def shape(value):
    """Keys and kinds of values; a whole number may stand for any number."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.parametrize("system", ["a2", "a4", "f2", "widths", "student", "int8", "w2", "fw1"])
def test_the_file_is_as_documented(run, system):
    example, found = shape(documented("costs.json")), shape(read(costs_of(run, system)))
    (point,) = example.pop("points").values()
    if system in ("student", "int8"):  # the losses read another system, and nothing is trained
        trained = ("training_peak_memory_bytes", "training_step_seconds", "training_seconds")
        point |= dict.fromkeys(trained, "NoneType")
    point |= {"bits_a_weight": "NoneType"} if system == "int8" else {}  # a toy that says it in no standard way
    for name, cost in found.pop("points").items():
        assert cost == point, name
    assert {key: found[key] for key in example} == example
    assert read(costs_of(run, system))["system"] == system


@pytest.mark.parametrize("system", ["a2", "a4", "f2", "widths", "student", "int8", "w2", "fw1"])
def test_measured_values_are_possible(run, system):
    for cost in read(costs_of(run, system))["points"].values():
        speed = cost["real_time_factor"]
        assert 0 < speed["min"] <= speed["median"] <= speed["max"] < 1
        assert cost["parameters_stored"] >= cost["parameters_nonzero"] > 0
        # So small a model needs no tens of MB: imports alone are 79 MB where transformers is among them.
        assert cost["stored_bytes"] < cost["peak_memory_bytes"] < 30e6
        training = cost["training_peak_memory_bytes"]
        # Weights, gradients and the two moments of AdamW at least.
        assert training is None or 4 * 4 * cost["parameters_stored"] < training < 150e6
        step, steps = cost["training_step_seconds"], 8
        if step is not None:
            assert 0 < step["min"] <= step["median"] <= step["max"]
            assert cost["training_seconds"] == pytest.approx(steps * step["median"])


def python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is Linux's")
def test_peak_memory_sees_what_was_given_back_and_forgets_it_when_told():
    code = """
import torch
from workflows.steps.memory import peak_resident_bytes, reset_peak, resident_bytes
device = torch.device("cpu")
before = resident_bytes()
torch.ones(40_000_000).sum()  # 160 MB, given back at once
high = peak_resident_bytes()
reset_peak(device)
print(high - before, peak_resident_bytes() - before)
"""
    high, after = python(code)
    assert 155e6 < high < 200e6 and after < 30e6


def measure(run, system, model, out, experiment=TINY, **environment):
    arguments = ["--experiment", experiment, "--system", system, "--data", run / "data/synth", "--model", model]
    return command("workflows.measure", *arguments, "--out", out, **environment)


def test_of_further_seeds_is_counted_and_nothing_is_timed(run, tmp_path):
    experiment = with_own_seeds(tmp_path, {"f2": [1, 0]})
    done = measure(run, "f2", run / "systems/f2/seed0", tmp_path / "costs.json", experiment)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    counted, timed = (read(path)["points"] for path in (tmp_path / "costs.json", costs_of(run, "f2")))
    assert counted.keys() == timed.keys()
    for point, costs in counted.items():
        known = {key: value for key, value in costs.items() if value is not None}
        assert known.keys() >= {"parameters_stored", "stored_bytes", "macs"}
        assert not {"real_time_factor", "peak_memory_bytes", "training_seconds"} & known.keys()
        assert known == {key: timed[point][key] for key in known}
        assert PointCosts.model_validate(costs).real_time_factor is None
    recipes = [read(folder / "identity.json")["recipe"] for folder in (tmp_path, costs_of(run, "f2").parent)]
    assert recipes[0]["settings"] == {**recipes[1]["settings"], "timed": False}, "in another order of seeds: again"


def test_costs_repeat(run, tmp_path):
    """Measured once more, by itself: what is counted is equal, and memory holds nothing of what ran before."""
    done = measure(run, "f2", run / "systems/f2/seed0", tmp_path / "costs.json")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    again, earlier = (read(path)["points"] for path in (tmp_path / "costs.json", costs_of(run, "f2")))
    for key in ("peak_memory_bytes", "training_peak_memory_bytes"):
        # Linux counts pages by some dozens at a time: of so small a model that is several per cent.
        assert again["d02_00"][key] == pytest.approx(earlier["d02_00"][key], abs=2e6)
    assert again.keys() == earlier.keys()
    for point, cost in again.items():
        for key in ("macs", "stored_bytes", "parameters_stored", "parameters_executed", "parameters_nonzero"):
            assert cost[key] == earlier[point][key]
    assert read(tmp_path / "identity.json") == read(costs_of(run, "f2").with_name("identity.json"))


def test_a_damaged_system_is_named_and_the_earlier_costs_stay(run, tmp_path):
    folder = Path(shutil.copytree(run / "systems/a2/seed0", tmp_path / "a2"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    before = (folder / "measured/costs.json").read_bytes()
    out = folder / "measured/costs.json"
    one_clear_error(measure(run, "a2", folder, out), str(weights), "not a readable safetensors file")
    assert out.read_bytes() == before
    assert "Traceback" in measure(run, "a2", folder, out, FOLDBENCH_TRACEBACK="1").stderr
    one_clear_error(measure(run, "a3", folder, out), "unknown system 'a3'; did you mean")
