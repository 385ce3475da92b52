"""Two processes that share each batch train as one that has all of it."""

import os
import select
import subprocess
import sys
import time

import pytest
import torch

from asr.processes import end_with_parent, launched
from asr.training import make_fabric
from asr.training_log import read_log
from common.errors import UserError
from methods.contract import Step
from tests.asr.together import CASES, settings, train_all

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of all trainings, by one process and by two (gloo), which run beside it, and what these said."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    command = [sys.executable, "-m", "tests.asr.together", str(two), "2"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as run:
        train_all(one, 1)
        said = run.communicate()[1]
    return one, two, said


def test_an_interrupted_training_of_two_goes_on_from_its_checkpoint(trained):
    """To the bit."""
    _, two, said = trained
    whole, resumed = (torch.load(two / name / "final.pt", weights_only=True) for name in ("sums", "resumed"))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items()), said[-3000:]
    rows = [[{**row, "seconds": 0} for row in read_log(two / name / "log.jsonl")] for name in ("sums", "resumed")]
    assert rows[0] == rows[1]


def test_a_process_that_fails_ends_all_and_is_the_one_that_says_why(trained):
    said = [line for line in trained[2].splitlines() if line.startswith("error: ")]
    assert sorted(said) == [
        "error: another process of this training has ended, and says why; this one ends too",
        "error: the second process fails",
    ], trained[2][-3000:]
    assert "Traceback" not in trained[2] and not (trained[1] / "fails/final.pt").exists()


@pytest.mark.parametrize(
    ("found", "machines"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "GROUP_WORLD_SIZE": "2", "WORLD_SIZE": "8"}, (2, 8)),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}, (2, 4)),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, None),
        ({}, None),
    ],
)
def test_what_a_launcher_started_is_found(monkeypatch, found, machines):
    """A shell in an allocation is no task of srun's."""
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert launched() == machines
    if machines:
        with pytest.raises(UserError, match=f"training.devices is 3, but {machines[1]} process"):
            make_fabric(settings(3))


def test_what_decides_which_layers_run_is_drawn_alike_only_where_batch_norm_asks():
    def draws(**kind):
        steps = [Step("train", 3, 0, rank=rank, **kind) for rank in (0, 1)]
        return [
            [float(torch.rand((), generator=make("x"))) for make in (s.layers_generator, s.generator)] for s in steps
        ]

    (first, alone), (second, other) = draws()
    assert first == alone != other == second
    (first, alone), (second, other) = draws(same_layers=True)
    assert first == second == alone != other


def test_a_process_ends_with_the_one_that_started_it():
    """It does not wait in vain for one that has gone."""
    reader, writer = os.pipe()
    if not (starter := os.fork()):
        if not os.fork():
            end_with_parent()
            time.sleep(60)
        time.sleep(0.2)
        os._exit(0)
    os.close(writer)
    os.waitpid(starter, 0)
    assert select.select([reader], [], [], 30)[0] and os.read(reader, 1) == b"", "still there"
    os.close(reader)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_curve_of_one(trained, name):
    """Every term of every step, the dev set's too, and all weights and statistics at the end."""
    one, two = (read_log(folder / name / "log.jsonl") for folder in trained[:2])
    assert len(one) == len(two) == 5
    for rows in zip(one, two, strict=True):
        ours, theirs = ({key: value for key, value in row.items() if key not in ("stage", "seconds")} for row in rows)
        assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-5)
    ours, theirs = (torch.load(folder / name / "final.pt", weights_only=True) for folder in trained[:2])
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(theirs[key], ours[key], msg=lambda text, key=key: f"{key}: {text}", **CLOSE)
