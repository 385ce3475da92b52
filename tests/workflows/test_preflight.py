"""What a run lacks is said before it begins: packages, data, weights, disk, devices, memory; and how long it takes."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from asr.corpora import check_source
from common.errors import UserError
from tests.workflows.commands import TINY, command, one_clear_error
from tests.workflows.test_devices import Machine
from workflows.check import checked_methods
from workflows.experiment import load_experiment
from workflows.part import chosen_part
from workflows.steps.dry_step import (
    StepCost,
    counting,
    dry_step,
    parts_of_a_step,
    weights_in_training,
)
from workflows.steps.heard import Noise, utterances_of
from workflows.steps.preflight import (
    device_bytes,
    devices,
    disk,
    duration,
    hours,
    memory,
    packages,
    size,
    step,
    weights_of,
    working_bytes,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny():
    return load_experiment(TINY)


@pytest.fixture(scope="module")
def methods(tiny):
    return checked_methods(tiny, TINY, None, lambda system: 32)


def test_a_paper_without_its_data_says_what_is_missing(tmp_path):
    nowhere = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = command("workflows.preflight", "--experiment", "paper_librispeech", "--quick", **nowhere)
    one_clear_error(done, "paper_librispeech lacks data, weights")
    said = [line for line in done.stderr.splitlines() if line.startswith("missing: ")]
    assert len(said) == 3 and "/change/me/LibriSpeech" in said[0]
    for model, line in zip(("wav2vec2-base-100h", "hubert-base-ls960"), said[1:], strict=True):
        assert model in line and str(tmp_path) in line
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["packages"].endswith("ok") and rows["data"].endswith("MISSING")


def test_a_run_that_lacks_nothing_says_so(run):
    asked = ["--experiment", run.parent / "tiny.yaml", "--results", run.parent, "--systems", "f2_half"]
    done = command("workflows.preflight", *asked, "--quick")
    assert done.returncode == 0, done.stderr
    assert "prepared" in done.stdout and "MISSING" not in done.stdout


def test_the_parts_of_librispeech_are_counted_and_missed(tmp_path):
    parts = {"train": ["a"], "dev": ["b"], "test_sets": {"test": ["b", "c"]}}
    settings = {"folder": str(tmp_path), **parts}
    for part, number in (("a", 100), ("b", 20), ("other", 7000)):
        (tmp_path / part / "1").mkdir(parents=True)
        (tmp_path / part / "1/x.flac").write_bytes(bytes(number))
    with pytest.raises(UserError, match="unknown part of LibriSpeech 'c'"):
        check_source("librispeech", settings)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/y.flac").write_bytes(bytes(3))
    assert check_source("librispeech", settings) == 123


def test_an_archive_is_looked_for_and_not_fetched(tmp_path):
    archive = tmp_path / "digits.tar.gz"
    with pytest.raises(UserError, match="no such archive"):
        check_source("fsdd", {"archive": str(archive)})
    archive.write_bytes(bytes(77))
    assert check_source("fsdd", {"archive": str(archive)}) == 77
    assert check_source("synth", {}) is None


def test_disk_is_what_models_leave_and_a_training_takes(tiny, methods, tmp_path):
    training = tiny.training  # it keeps 2 states beside two checkpoints of three copies each
    assert working_bytes(training, 100) == 100 * (3 + 3 + 2)
    assert working_bytes(training.model_copy(update={"keep": "last"}), 100) == 600
    two = {name: methods[name] for name in ("a4", "a2")}
    weights = [4 * weights_of(method) for method in two.values()]
    assert weights[0] > weights[1] > 0
    needed = 3 * weights[0] + 2 * weights[1] + 8 * weights[0]
    found = disk(tiny, two, {"a4": (0, 1, 2), "a2": (0, 1)}, tmp_path / "not/yet")
    assert found.needed.startswith(f"{size(needed)}:") and found.missing is None
    assert "are needed" in disk(tiny, two, dict.fromkeys(two, range(10**7)), tmp_path).missing


def test_too_few_devices_are_missed(tiny, methods, tmp_path, monkeypatch):
    more = tiny.model_copy(update={"training": tiny.training.model_copy(update={"devices": 3})})
    assert devices(more, {"a4": methods["a4"]}).missing is None, "on CPUs there are as many processes as are asked for"
    for key, value in Machine(tmp_path, ["a", "b"]).environment.items():
        monkeypatch.setenv(key, value)
    assert "training.devices is 3, this machine shows 2 GPUs" in devices(more, {"a4": methods["a4"]}).missing
    assert devices(tiny, {"a4": methods["a4"]}).missing is None


def test_packages_are_those_of_the_lock():
    found = packages()
    assert found.missing is None and found.needed.split()[0] == found.found.split()[0]


def test_bytes_in_words():
    assert [size(each) for each in (7, 1500, 2.5e6, 1e9, 3.2e12)] == [
        "7 bytes",
        "1.5 kB",
        "2.5 MB",
        "1 GB",
        "3.2 TB",
    ]


def test_what_the_backward_pass_keeps_is_counted_once_and_without_weights():
    layer, x = nn.Linear(4, 3), torch.randn(5, 4)
    kept = {}
    with counting(kept, layer):
        (y := layer(x)).pow(2).sum()
        (x * layer.weight[0]).sum()
    assert sorted(kept.values()) == [5 * 3 * 4, 5 * 4 * 4], "y for its square, x once for both products"
    assert y.requires_grad
    layer.bias.requires_grad_(False)
    assert weights_in_training(layer) == 4 * (4 * 12 + 3)


def test_activations_grow_with_the_utterances(tiny, methods):
    """Which is what lets a processor take some of a batch."""
    method = methods["f2"]
    (stage,) = method.stages(tiny.training_of("f2"))
    kept = []
    for number in (2, 4):
        module = method.backbone.build().train()
        batch = Noise(tiny, "f2").batch(number, 4.0, method.backbone.vocabulary, True)
        passes, _, bytes_kept = parts_of_a_step(method, module, stage, batch, CPU)
        passes()
        kept.append(bytes_kept())
    assert kept[1] == pytest.approx(2 * kept[0], rel=0.02)
    training = tiny.training.model_copy(update={"batch_seconds": 45.0})
    assert [utterances_of(each, 10.0) for each in (training, tiny.training)] == [4, 1]
    assert utterances_of(training.model_copy(update={"batch_utterances": 7}), 10.0) == 7


@pytest.mark.parametrize("system", ["a4", "w2"])
def test_a_step_is_taken_without_data(tiny, methods, system):
    found = dry_step(tiny, system, methods[system], CPU)
    weights = 4 * weights_of(methods[system])
    assert found.seconds > 0 and found.memory_bytes > 3 * weights
    assert found.of == {"a4": (1, 1), "w2": (2, 4)}[system]


def test_time_is_steps_by_their_number(tiny, monkeypatch):
    two = tiny.model_copy(update={"threads": 1})
    costs = {"a4": StepCost(3.0, 10, (1, 1)), "f2": StepCost(6.0, 10, (1, 1))}
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    found = hours(two, costs, dict.fromkeys(costs, (0, 1)), ["student"])
    total = 2 * 8 * (3.0 + 6.0)  # two seeds, eight steps each
    assert found.needed.startswith(f"{duration(total)}: systems 2 x seeds 2 of 8 steps; 1 not stepped")
    more = hours(two, costs, {"a4": (0, 1, 2), "f2": (1,)}, [])
    assert more.needed == f"{duration(8 * (3 * 3.0 + 6.0))}: systems 2, 4 trainings of 8 steps"
    assert found.found.startswith(f"{duration(total / 4)} on 4") and found.found.endswith("f2, 48 s")
    assert [duration(each) for each in (90, 600, 9000, 864000)] == ["90 s", "10 min", "2.5 h", "10 days"]


def test_a_step_that_does_not_fit_is_missed():
    costs = {"a4": StepCost(1.0, 10, (1, 1)), "f2": StepCost(1.0, 10**16, (2, 8))}
    found = memory(costs, CPU)
    assert "f2: a training step takes 1e+04 TB" in found.missing and "8 utterances, from 2" in found.needed
    assert memory({"a4": costs["a4"]}, CPU).missing is None


def test_what_the_system_keeps_of_files_counts_as_free():
    told = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert device_bytes(CPU) == pytest.approx(1024 * int(told.group(1)), rel=0.2)


def test_systems_that_train_nothing_or_read_another_take_no_step(tiny, tmp_path):
    rows = list(step(tiny, TINY, chosen_part(tiny, "", "int8,student"), tmp_path / "not prepared"))
    assert [row.what for row in rows] == ["memory", "time"]
    assert ": systems 1 x seeds 1 of 8 steps; 1 not stepped" in rows[1].needed, (
        "a4 is stepped, its student is not, int8 trains nothing"
    )
