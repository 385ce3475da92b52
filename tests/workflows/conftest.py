"""One run of the tiny experiment, shared by all tests of a session: a part of it first, then the whole."""

import shutil
from pathlib import Path

import pytest

from tests.workflows.commands import ROOT, TINY, snakemake
from tests.workflows.parts import ONLY, SYSTEMS, FirstPart, files_of


@pytest.fixture(scope="session")
def both(tmp_path_factory) -> FirstPart:
    """The run, with what its first part left."""
    results = tmp_path_factory.mktemp("results")
    shutil.copy(ROOT / TINY, results)  # a file of its own, so that tests may change it
    part = snakemake(results, only=ONLY, systems=SYSTEMS)
    assert part.returncode == 0, part.stdout[-2000:] + part.stderr[-4000:]
    files, shown = files_of(results / "tiny"), results / "part"
    shutil.copytree(results / "tiny", shown, ignore=shutil.ignore_patterns("data", "systems"))
    whole = snakemake(results)
    assert whole.returncode == 0, whole.stdout[-2000:] + whole.stderr[-4000:]
    return FirstPart(results / "tiny", part, whole, files, shown)


@pytest.fixture(scope="session")
def run(both) -> Path:
    """The results folder of the run; tests read what it left, and change copies."""
    return both.run


@pytest.fixture
def data(run, tmp_path) -> Path:
    """A copy of the prepared data, to damage."""
    return Path(shutil.copytree(run / "data/synth", tmp_path / "data"))
