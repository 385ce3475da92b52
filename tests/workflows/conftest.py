"""One run of the tiny experiment, shared by all tests of a session and all workers: a part of it first, then the whole.

Tests read what it left, and change copies. Those that must change the run itself for a while ask for `alone`: then no
test of another worker reads it.
"""

import contextlib
import fcntl
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflows.commands import ROOT, TINY, snakemake
from tests.workflows.parts import ONLY, SYSTEMS, FirstPart, files_of


@contextlib.contextmanager
def held(path: Path, kind: int) -> Iterator[None]:
    """A lock on a file, shared or exclusive, among processes."""
    with open(path, "a") as file:
        fcntl.flock(file, kind)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory, request) -> Path:
    """A folder that all workers of a session have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(scope="session")
def both(shared) -> FirstPart:
    """The run, with what its first part left; the first worker that asks makes it."""
    with held(shared / "making", fcntl.LOCK_EX):
        made = shared / "both.pickle"
        if not made.exists():
            made.write_bytes(pickle.dumps(_made(shared / "results")))
        return pickle.loads(made.read_bytes())


def _made(results: Path) -> FirstPart:
    results.mkdir()
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


@pytest.fixture(scope="session")
def reading(shared):
    """A context in which nobody changes the run, for fixtures that read it for long."""
    return lambda: held(shared / "changing", fcntl.LOCK_SH)


@pytest.fixture
def alone() -> None:
    """Asked for by tests that change the run and change it back."""


@pytest.fixture(autouse=True)
def _one_changes_or_many_read(request, shared) -> Iterator[None]:
    if not {"run", "both", "data"} & set(request.fixturenames):
        yield
        return
    request.getfixturevalue("both")  # made before it is locked
    with held(shared / "changing", fcntl.LOCK_EX if "alone" in request.fixturenames else fcntl.LOCK_SH):
        yield


@pytest.fixture
def data(run, tmp_path) -> Path:
    """A copy of the prepared data, to damage."""
    return Path(shutil.copytree(run / "data/synth", tmp_path / "data"))
