"""Where a result comes from: commit, versions, device, time."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workflows.devices import taken_devices

PACKAGES = (
    "torch",
    "espnet",
    "transformers",
    "lightning-fabric",
    "lhotse",
    "numpy",
    "scipy",
    "snakemake",
    "espeakng-loader",
)


ROOT = Path(__file__).resolve().parent.parent
CODE = ("Snakefile", "common", "asr", "methods", "baselines", "analysis", "workflows", "config")
"""Where a file that is not in the commit, tracked or not, makes a difference to a result."""


def commit() -> dict[str, Any]:
    """The commit of this repository, and whether the code differs from it: files that were changed, or that no commit
    holds."""

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20)
        return result.stdout.strip() if result.returncode == 0 else ""

    try:
        changed = git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
        return {"commit": git("rev-parse", "HEAD") or None, "modified": bool(changed)}
    except (OSError, subprocess.TimeoutExpired):
        return {"commit": None, "modified": None}


def versions() -> dict[str, str]:
    """Python and the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def processor() -> str:
    """The CPU's own name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_run(code: dict[str, Any], device: str, threads: int, wall_seconds: float) -> dict[str, Any]:
    """What every system's `provenance.json` says beside its configuration, identity and seed. `code` is what `commit`
    said when the run began: a commit that was made meanwhile did not make it."""
    return {
        **code,
        "versions": versions(),
        "device": device,
        "visible_devices": taken_devices(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "platform": f"{platform.system()} {platform.machine()}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(wall_seconds, 2),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
    }
