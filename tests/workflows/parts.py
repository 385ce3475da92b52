"""The first part of the session's run, and what is known of it afterwards."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ONLY, SYSTEMS = "table4", "f2_half"
"""A table of one system, and a system whose source stands for itself in no table of the part."""


@dataclass(frozen=True)
class FirstPart:
    """`run` is the results folder, `part` and `whole` the two calls, `files` what the part left of data and systems,
    `shown` a copy of what it showed."""

    run: Path
    part: subprocess.CompletedProcess
    whole: subprocess.CompletedProcess
    files: dict[str, tuple[int, str]]
    shown: Path


def files_of(run: Path) -> dict[str, tuple[int, str]]:
    """Time and digest of every file of the data and the systems."""
    paths = [path for name in ("data", "systems") for path in sorted((run / name).rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}


def running_beside(said: str, what: str) -> Iterator[tuple[str, list[str]]]:
    """From the lines of a run: each job whose message begins with `what`, and the jobs that ran while it did."""
    running: dict[str, str] = {}
    beside: dict[str, list[str]] = {}
    for line in said.splitlines():
        if begun := re.fullmatch(r"Job (\d+): (.*)", line):
            number, message = begun.groups()
            for other in running:
                beside[other].append(message)
            beside[number] = list(running.values())
            running[number] = message
        elif ended := re.match(r"Finished jobid: (\d+)", line):
            number = ended.group(1)
            message = running.pop(number, "")  # the goal itself has none
            if message.startswith(what):
                yield message, beside[number]
