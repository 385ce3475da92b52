"""Two processes that share each batch train as one that has all of it."""

import os
import subprocess
import sys

import pytest
import torch

from asr.training_log import read_log
from tests.asr.together import CASES, train_all

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
WITHOUT_EFFECT = ("k_proj.bias", "linear_k.bias", "depthwise_conv.bias")
"""What attention adds to all keys alike falls out of its softmax, what is added before batch norm out of the norm: of
the rounding errors of a gradient that is 0 AdamW makes steps."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of all trainings, by one process and by two (gloo), which run beside it."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    command = [sys.executable, "-m", "tests.asr.together", str(two), "2"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as run:
        train_all(one, 1)
        said = run.communicate()[1]
    assert run.returncode == 0, said[-3000:]
    return one, two


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_curve_of_one(trained, name):
    """Every term of every step, the dev set's too, and all weights and statistics at the end."""
    one, two = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(folder / name / "log.jsonl")]
        for folder in trained
    )
    assert len(one) == len(two) == 5
    for ours, theirs in zip(one, two, strict=True):
        assert ours.pop("stage") == theirs.pop("stage")
        assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-5)
    ours, theirs = (torch.load(folder / name / "final.pt", weights_only=True) for folder in trained)
    assert ours.keys() == theirs.keys()
    for key in (key for key in ours if not key.endswith(WITHOUT_EFFECT)):
        torch.testing.assert_close(theirs[key], ours[key], msg=lambda text, key=key: f"{key}: {text}", **CLOSE)
