"""One run at a time in a results folder, and none refused because an earlier one was killed.

    python -m workflows.lock results/smoke -- .venv/bin/snakemake --cores all --config experiment=smoke
    python -m workflows.lock results/smoke --unlock

`make reproduce` starts Snakemake through this. While the run lasts, the kernel holds a lock (flock) on `run.lock` in
the folder, for this process and for Snakemake and its jobs, whose standard input the file is: it is free when the last
of them has ended, however that came. The file says who runs: host, process, since when; a run that ends by itself
empties it.

Where it names a run of this host that nobody carries on, that run was killed: jobs that outlived it are ended, the
locks that its Snakemake left in `.snakemake/locks` are removed, and the new run goes on where the old one stopped.
Locks of other runs are left alone. What another host wrote is never judged from here, since flock may not reach across
a network file system: `--unlock` is for a person who knows that the run is dead.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from common.errors import UserError, run

NAME = "run.lock"
MARK = "FOLDBENCH_RUN_LOCK"
"""Environment variable of a run and all its jobs: the lock file."""
SNAKEMAKE_LOCKS = Path(".snakemake/locks")
GRACE_SECONDS = 10.0
"""So long have jobs that outlived their run to end when they are asked to."""


@dataclass
class Record:
    """Who runs, as the lock file says."""

    host: str
    process: int
    since: str
    snakemake_locks: dict[str, int] = field(default_factory=dict)
    """Files in `.snakemake/locks` that the run's Snakemake wrote: name -> time of writing in nanoseconds."""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


class RunLock:
    """The lock of one results folder: the open file, which is the lock, and what stands in it."""

    def __init__(self, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
        self.folder = folder
        self.path = folder / NAME
        try:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be opened ({error.strerror}); is the folder yours to write?"
            ) from None

    def try_flock(self) -> bool | None:
        """Whether the kernel gives the lock; None where the file system has no such locks."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def read(self) -> Record | None:
        """Who runs; None where nobody does, or where the file cannot be read."""
        try:
            return Record(**json.loads(os.pread(self.descriptor, 1 << 20, 0)))
        except (ValueError, TypeError):
            return None

    def write(self, record: Record | None) -> None:
        """None: nobody runs. Never shorter than what it says, so that a kill in between leaves it readable."""
        text = b"" if record is None else json.dumps(asdict(record), indent=1).encode() + b"\n"
        os.pwrite(self.descriptor, text, 0)
        os.ftruncate(self.descriptor, len(text))

    def take(self) -> None:
        """Take the lock, after what a killed run left was cleared away. Raises `UserError` that says who has it."""
        taken, record = self.try_flock(), self.read()
        if record is not None and record.host != socket.gethostname():
            raise UserError(self._of_another_host(record))
        if record is None:
            if taken is False:
                raise UserError(f"{self.folder}: another run is just starting there; wait for it")
            return
        if taken is not True and is_alive(record.process, self.path):
            raise UserError(
                f"{self.folder}: another run is at work there ({record}); wait for it, or end it: kill {record.process}"
            )
        ended = end(self.path)
        self._wait_for_flock(taken, record)
        jobs = ", what was left of it was ended" if ended else ""
        note = f"the last run ({record}) was killed{jobs}{self._clear_away(record)}; going on from there"
        print(f"note: {self.folder}: {note}", file=sys.stderr)

    def unlock(self) -> None:
        """Forget a run that a person knows to be dead, on whatever host it was. Raises `UserError` when it is not."""
        taken, record = self.try_flock(), self.read()
        if taken is False:
            raise UserError(f"{self.folder}: a run is at work there ({record or 'just starting'}): it is not dead")
        if record is None:
            print(f"{self.folder}: not locked", file=sys.stderr)
        else:
            locks = self._clear_away(record)
            print(f"note: {self.folder}: the run ({record}) is forgotten{locks}; start again", file=sys.stderr)

    def _wait_for_flock(self, taken: bool | None, record: Record) -> None:
        until = time.monotonic() + GRACE_SECONDS
        while taken is False:
            if time.monotonic() > until:
                raise UserError(
                    f"{self.folder}: a run has the lock ({record}), but that process cannot be seen from here: it is "
                    f"another user's, or something is left of it; `lsof {self.path}` names who has the lock"
                )
            time.sleep(0.1)
            taken = self.try_flock()

    def _clear_away(self, record: Record) -> str:
        """Remove the locks of Snakemake that the run left, and what the file says; in words what was removed."""
        found = snakemake_locks(self.folder)
        left = [name for name, written in record.snakemake_locks.items() if found.get(name) == written]
        for name in left:
            (SNAKEMAKE_LOCKS / name).unlink(missing_ok=True)
        self.write(None)
        return ", the locks that its Snakemake left were removed" if left else ""

    def _of_another_host(self, record: Record) -> str:
        return (
            f"{self.folder}: a run of another host has not ended ({record}), and whether it is still at work cannot be "
            f"seen from {socket.gethostname()}; if it is dead: "
            f".venv/bin/python -m workflows.lock {shlex.quote(str(self.folder))} --unlock"
        )


def snakemake_locks(folder: Path) -> dict[str, int]:
    """Snakemake's lock files of this working directory that name files below `folder`, with the times of writing."""
    inside, found = f"{os.path.abspath(folder)}{os.sep}", {}
    for path in SNAKEMAKE_LOCKS.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):
            names = path.read_text(encoding="utf-8").splitlines()
            if any(os.path.abspath(name).startswith(inside) for name in names):
                found[path.name] = path.stat().st_mtime_ns
    return found


def processes_of(lock: Path) -> list[int]:
    """Processes of a run and its jobs, known by their environment; none where the system does not show it (no /proc),
    and never this one."""
    mark, found = f"{MARK}={lock.resolve()}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def is_alive(process: int, lock: Path) -> bool:
    """Whether the process that a lock file names is still that run's, not another one that was given its number."""
    if Path("/proc/self/environ").exists():
        return process in processes_of(lock)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def end(lock: Path) -> bool:
    """End what is left of a run, by asking first; whether anything was."""
    found = False
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + GRACE_SECONDS / 2
        while (left := processes_of(lock)) and time.monotonic() < until:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            found = True
            time.sleep(0.1)
    return found


def run_locked(folder: Path, command: Sequence[str]) -> int:
    """Run `command` under the lock of `folder`; its exit status, 128 + n after signal n."""
    lock = RunLock(folder)
    lock.take()
    before = snakemake_locks(folder)
    environment = {**os.environ, MARK: str(lock.path.resolve())}
    try:
        process = subprocess.Popen(command, stdin=lock.descriptor, env=environment)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror})") from None
    _pass_on_signals(process)
    record = Record(socket.gethostname(), process.pid, datetime.now().astimezone().isoformat(timespec="seconds"))
    lock.write(record)
    while process.poll() is None:
        made = {name: written for name, written in snakemake_locks(folder).items() if before.get(name) != written}
        if made and made != record.snakemake_locks:
            record.snakemake_locks = made
            lock.write(record)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
    if process.returncode < 0:  # killed: the next run clears away what it left
        end(lock.path)
        return 128 - process.returncode
    lock.write(None)
    return process.returncode


def _pass_on_signals(process: subprocess.Popen) -> None:
    """A terminal's Ctrl-C reaches Snakemake by itself, `kill` reaches this process only; either way it is Snakemake
    that ends its jobs, and this process waits for it."""

    def pass_on(number: int, frame: Any) -> None:
        if number == signal.SIGTERM:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.lock", description="Run a command as the only one that writes into a results folder."
    )
    parser.add_argument("folder", type=Path, help="for example results/smoke")
    parser.add_argument("--unlock", action="store_true", help="forget a run known to be dead, of another host too")
    parser.add_argument("command", nargs="*", help="the command and its arguments, after --")
    arguments = parser.parse_args()
    if arguments.unlock:
        RunLock(arguments.folder).unlock()
    elif not arguments.command:
        parser.error("give a command after --, or --unlock")
    else:
        sys.exit(run_locked(arguments.folder, arguments.command))


if __name__ == "__main__":
    sys.exit(run(main))
