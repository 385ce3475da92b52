"""Fixtures: a small results folder, and the real commands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.analysis import results_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory) -> Path:
    """A results folder as a run leaves it, before the analysis; tests that change files copy it."""
    return results_folder.make(tmp_path_factory.mktemp("results") / "tiny")


@pytest.fixture(scope="session")
def with_family(pristine, tmp_path_factory) -> Path:
    """The same with a family of speech models, Tables 2 and 3 and Figure 3."""
    folder = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("family") / "tiny"))
    return results_folder.add_family(folder)


@pytest.fixture(scope="session")
def family_rendered(with_family, tmp_path_factory) -> Path:
    """That folder after the real command."""
    folder = Path(shutil.copytree(with_family, tmp_path_factory.mktemp("family_rendered") / "tiny"))
    done = command("analysis.render", "--experiment-folder", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A copy of the results folder to spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def rendered(pristine, tmp_path_factory) -> Path:
    """The results folder after the real command."""
    folder = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("rendered") / "tiny"))
    done = command("analysis.render", "--experiment-folder", folder)
    assert done.returncode == 0, done.stderr
    return folder


def command(module: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run `python -m module arguments` in the repository's root."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def table_widths(text: str) -> list[int]:
    """How many columns each table of a Markdown or LaTeX text has."""
    markdown = [rule.count("|") - 1 for rule in re.findall(r"^\|(?::?-+:?\|)+$", text, re.MULTILINE)]
    return markdown + [len(columns) for columns in re.findall(r"\\begin{tabular}{(\w+)}", text)]


def one_clear_error(done: subprocess.CompletedProcess, *words: str) -> None:
    """Assert that a command ended with one message that holds all `words`, status 1 and no traceback."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)
