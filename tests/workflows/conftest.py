"""One run of the tiny experiment, shared by all tests of a session."""

import shutil
from pathlib import Path

import pytest

from tests.workflows.commands import ROOT, TINY, snakemake


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """The results folder of one run of the tiny experiment; tests read what it left, and change copies."""
    results = tmp_path_factory.mktemp("results")
    shutil.copy(ROOT / TINY, results)  # a file of its own, so that tests may change it
    done = snakemake(results)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return results / "tiny"


@pytest.fixture
def data(run, tmp_path) -> Path:
    """A copy of the prepared data, to damage."""
    return Path(shutil.copytree(run / "data/synth", tmp_path / "data"))
