"""The real commands, as a user runs them, and what a clear error looks like."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TINY = "tests/workflows/tiny.yaml"
BIN = Path(sys.executable).parent


def snakemake(
    results: Path,
    *arguments: str,
    only: str = "",
    systems: str = "",
    seeds: str = "",
    fresh: str = "",
    **options: Any,
) -> subprocess.CompletedProcess:
    """The workflow, or a part of it, on two cores for the experiment `results/tiny.yaml`, written below `results`."""
    words = [str(BIN / "snakemake"), "--profile", "workflows/profiles/default", "--cores", "2", *arguments]
    words += ["--nolock", "--config", f"experiment={results}/tiny.yaml", f"results={results}"]
    asked = {"only": only, "systems": systems, "seeds": seeds, "fresh": fresh}
    words += [f"{key}={names}" for key, names in asked.items() if names]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900, **options)


def jobs(done: subprocess.CompletedProcess) -> list[str]:
    """The messages of the jobs that a run, or a dry run, announces."""
    return sorted(re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, re.MULTILINE))


def measured(system: str) -> str:
    """What the job is called that measures a system."""
    return f"Measure what {system}, seed 0, costs"


def command(module: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run `python -m module arguments` in the repository's root, with further environment variables."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )


def train(system: str, data: Path, out: Path, experiment: object = TINY, **environment: str):
    """`python -m workflows.train` for a system of an experiment."""
    arguments = ["--experiment", experiment, "--system", system, "--data", data, "--out", out]
    return command("workflows.train", *arguments, **environment)


def errors(done: subprocess.CompletedProcess) -> list[str]:
    """The error messages on standard error."""
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def one_clear_error(done: subprocess.CompletedProcess, *words: str) -> None:
    """Assert that a command ended with status 1 and, last, one message that holds all `words`; and no traceback."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert len(errors(done)) == 1 and done.stderr.splitlines()[-1] == errors(done)[0], done.stderr
    for word in words:
        assert word in errors(done)[0], (word, done.stderr)


def read(path: Path | str) -> Any:
    """A JSON file."""
    return json.loads(Path(path).read_text())


def refused(step: Callable[[], object], *words: object) -> None:
    """Assert that a step ends with one line that holds all `words`; in this process, where its command would import
    everything once more."""
    with pytest.raises(UserError) as error:
        step()
    for word in words:
        assert str(word) in str(error.value), (word, str(error.value))
    assert "\n" not in str(error.value)


def refused_by_check(path: Path, message: str) -> None:
    """Assert that checking an experiment ends with one line that holds `message` and names the file."""
    from workflows.check import check_systems
    from workflows.experiment import load_experiment

    refused(lambda: check_systems(load_experiment(str(path)), str(path)), message, path)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their bytes, to see that nothing changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def with_own_seeds(folder: Path, seeds: dict[str, Any]) -> Path:
    """Write the tiny experiment with seeds of some systems: of them all, 0, and what `seeds` says."""
    values = yaml.safe_load((ROOT / TINY).read_text())
    for name, own in seeds.items():
        values["systems"][name]["seeds"] = own
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def with_systems(run, systems, path):
    """Write the experiment of `run` with further `systems` to `path`."""
    text = (run.parent / "tiny.yaml").read_text()
    assert "tables:\n" in text
    path.write_text(text.replace("tables:\n", f"{systems}tables:\n", 1))
    return path
