"""All benchmarks, what matters first, and how one of them is run: in a process of its own, with a limit of time, its
rows kept as JSON. Nothing that a benchmark does can lose the others."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_json, write_json
from workflows.provenance import CODE, ROOT, commit, processor, versions

PEERS = ROOT / ".bench" / "packages"
GRACE = 15
"""Seconds beside its budget that a benchmark may take: to start, and to end the pair that it is at."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """`cpu` and `cuda` are budgets in seconds, 0: it is not run there. `needs` are packages beyond torch, and `options`
    what is given to the module beside the options that all have."""

    name: str
    cpu: int
    cuda: int
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    module: str = ""

    def budget(self, device: str) -> int:
        return self.cuda if device == "cuda" else self.cpu

    def command(self, device: str, quick: bool, path: Path) -> list[str]:
        command = [sys.executable, "-m", f"benchmarks.{self.module or self.name}", *self.options]
        command += ["--device", device, "--budget", str(self.budget(device)), "--json", str(path)]
        return [*command, "--quick"] if quick else command


STEP = "training_step"
BENCHMARKS = (
    Benchmark("conformer_step", 160, 120, ("espnet2",), ("--what", "conformer"), STEP),
    Benchmark("smoke_step", 60, 120, ("espnet2",), ("--what", "smoke"), STEP),
    Benchmark("fine_tuning_step", 75, 60, ("transformers", "accelerate"), ("--what", "fine_tuning"), STEP),
    Benchmark("smoke_training", 0, 600, ("espnet2", "snakemake", "transformers")),
    Benchmark("joint_step", 160, 90, ("espnet2", "transformers")),
    Benchmark("beam", 20, 90, ("espnet2",)),
    Benchmark("loader", 30, 60),
    Benchmark("corpus_memory", 50, 0, options=("--memory",), module="loader"),
    Benchmark("paths_tree", 30, 30, ("espnet2",)),
    Benchmark("joint_training", 200, 60, ("transformers",), ("--repeats", "3", "--layers", "8", "6", "3")),
    Benchmark("sensitivity", 100, 30, ("transformers",), ("--seconds", "2.5", "--repeats", "3")),
    Benchmark("scoring", 60, 0),
    Benchmark("packed", 10, 10),
    Benchmark("sizes", 20, 0, ("transformers",)),
    Benchmark("jobs", 10, 0),
)
LIMIT = {"cpu": 20 * 60, "cuda": 25 * 60}
"""Seconds that all budgets stay below."""


def chosen(names: Sequence[str], device: str) -> list[Benchmark]:
    """The benchmarks with these names, or all, that run on a device. Raises `UserError` for an unknown name."""
    known = {each.name: each for each in BENCHMARKS}
    for name in names:
        if name not in known:
            raise UserError(f"ONLY: there is no benchmark '{name}' (known: {', '.join(known)})")
    return [each for each in BENCHMARKS if each.budget(device) and (not names or each.name in names)]


def machine(device: str) -> dict[str, Any]:
    """What times depend on beside the code."""
    name = "cpu"
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    known = versions()
    packages = {package: known[package] for package in ("python", "torch", "espnet", "transformers")}
    return {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "device": name, "packages": packages}


def code() -> dict[str, Any]:
    """The commit, whether the code differs from it, and a digest of the code itself, by which results are reused."""
    digest = hashlib.sha256()
    for folder in (*CODE, "benchmarks"):
        place = ROOT / folder
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in (".py", ".yaml", ".smk") and path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\n".encode())
                digest.update(path.read_bytes())
    return {**commit(), "digest": digest.hexdigest()}


def is_installed(package: str) -> bool:
    """In this Python, or in the folder that `make bench` sets up for peers."""
    return importlib.util.find_spec(package) is not None or (PEERS / package).is_dir()


def run_one(benchmark: Benchmark, device: str, quick: bool, folder: Path, made_by: dict[str, Any]) -> dict[str, Any]:
    """Run a benchmark, or read what it found under the same code, machine and settings. The result says `state`: done,
    failed (with what was said), or missing (what is not installed); rows that were there before a failure are kept."""
    path = folder / device / f"{benchmark.name}.json"
    settings = {"options": list(benchmark.options), "quick": quick, "budget": benchmark.budget(device)}
    known = {**made_by, "settings": settings}
    if path.exists():
        found = read_json(path)
        same = all(found.get(key) == known[key] for key in ("machine", "settings")) and (
            found["code"]["digest"] == known["code"]["digest"]
        )
        if same and found["state"] == "done":
            return {**found, "reused": True}
    if missing := [package for package in benchmark.needs if not is_installed(package)]:
        result = {"state": "missing", "said": f"{', '.join(missing)} not installed", "rows": []}
    else:
        result = _in_a_process(benchmark.command(device, quick, Path("found.json")), benchmark.budget(device) + GRACE)
    result = {"name": benchmark.name, **known, **result}
    write_json(path, result)
    return result


def _in_a_process(command: list[str], limit: float) -> dict[str, Any]:
    """Rows, facts and Markdown of a benchmark; everything that it started ends with it."""
    with tempfile.TemporaryDirectory() as place:
        found, said = Path(place) / "found.json", Path(place) / "stderr"
        command = [str(found) if part == "found.json" else part for part in command]
        began = time.monotonic()
        with open(said, "wb") as errors:
            process = subprocess.Popen(command, cwd=ROOT, stderr=errors, start_new_session=True)
            try:
                status: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        result = {"rows": [], "facts": {}, "markdown": "", "seconds": round(time.monotonic() - began, 1)}
        if found.exists():
            result |= read_json(found)
        if status == 0:
            return {**result, "state": "done", "said": ""}
        lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {status}"
        text = f"took longer than its {limit:g} s" if status is None else reason
        return {**result, "state": "failed", "said": text[:300]}
