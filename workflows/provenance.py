"""Where a result comes from: commit, versions, device, time."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


def commit() -> dict[str, Any]:
    """The commit of this repository, and whether tracked files differ from it."""
    root = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20)
        return result.stdout.strip() if result.returncode == 0 else ""

    try:
        return {"commit": git("rev-parse", "HEAD") or None, "modified": bool(git("status", "--porcelain", "-uno"))}
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


def describe_run(device: str, threads: int, wall_seconds: float) -> dict[str, Any]:
    """What every system's `provenance.json` says beside its configuration and seed."""
    return {
        **commit(),
        "versions": versions(),
        "device": device,
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "platform": f"{platform.system()} {platform.machine()}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(wall_seconds, 2),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
    }
