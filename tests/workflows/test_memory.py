"""Peak memory: what a model and its inputs need, the same each time, whatever was imported or measured before."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from asr.settings import TrainingSettings
from methods.contract import Stage
from tests.models import batch
from tests.systems import system_folder
from tests.workflows.commands import ROOT
from workflows.steps.training_step import training_step

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is Linux's")


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    words = [sys.executable, "-m", "tests.workflows.memory_runs", str(tmp_path_factory.mktemp("memory"))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@linux
@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
def test_repeated_runs_agree_to_one_per_cent(peaks, backbone):
    pairs = [*peaks["points"][backbone].values(), peaks["training"][backbone]]
    assert len(pairs) == 3
    for first, second in pairs:
        assert first == pytest.approx(second, rel=0.01)


@linux
@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
def test_a_deeper_path_of_the_same_layers_needs_no_more(peaks, backbone):
    """Layers that are run again hold nothing; a process that had measured the first point held that."""
    shallow, deep = (peaks["points"][backbone][point][0] for point in ("d03_00", "d06_00"))
    assert deep == pytest.approx(shallow, rel=0.02)


@linux
def test_no_draw_decides_what_a_training_step_takes(peaks):
    """Layer drop of 0.9 would leave out nearly all layers of a step."""
    assert peaks["dropped"] == pytest.approx(peaks["training"]["conformer"][0], rel=0.01)


@linux
def test_gradients_stand_beside_the_activations_of_the_next_batch(peaks):
    assert peaks["accumulated"] >= peaks["training"]["wav2vec2"][0] + 0.9 * peaks["weights"]["wav2vec2"]


@linux
def test_what_was_frozen_has_no_gradient_and_no_state(peaks):
    assert peaks["frozen"] < peaks["training"]["wav2vec2"][0]


def test_a_step_trains_what_training_trained(tmp_path):
    """Parameters that the last stage froze stay; all others move."""
    folder = system_folder(tmp_path)
    content = json.loads((folder / "system.json").read_text())
    (folder / "system.json").write_text(json.dumps({**content, "frozen": ["ctc.ctc_lo.weight"]}))
    groups = []

    def remember(optimiser, *_):
        groups.append([len(group["params"]) for group in optimiser.param_groups])

    handle = register_optimizer_step_pre_hook(remember)
    try:
        training_step(folder, Stage("train", TrainingSettings(steps=10)), batch(), 2, torch.device("cpu"))()
    finally:
        handle.remove()
    from workflows.systems import load_system

    every = len(list(load_system(folder).module.parameters()))
    assert groups == [[every - 1]]


@pytest.mark.parametrize(("name", "dtype"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_a_step_runs_in_the_precision_that_trains(tmp_path, name, dtype):
    """Matrix products in bf16 where training has them, and in float32 where not."""
    seen = set()

    def remember(module, inputs, output):
        if isinstance(module, torch.nn.Linear):
            seen.add(output.dtype)

    handle = register_module_forward_hook(remember)
    try:
        stage = Stage("train", TrainingSettings(steps=10, precision=name))
        training_step(system_folder(tmp_path), stage, batch(), 1, torch.device("cpu"))()
    finally:
        handle.remove()
    assert dtype in seen and (name == "bf16-mixed" or seen == {torch.float32})
