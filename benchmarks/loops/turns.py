"""Training loops that take turns, each in a process of its own: one step of this, one step of that.

A loop calls `Turn` at the end of each of its steps; there it says how long the step took and waits until it is its turn
again. So whole loops are compared, batches, clipping, optimiser and log among it, though each is somebody else's, and
one of them may come from another checkout. This module imports nothing of this repository: it is read beside old code.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

MARK = "turn "
"""What begins an answer: libraries print lines of their own."""


class Turn:
    """The end of a step in a loop that takes turns. The first `warm_up` steps are not timed and wait for nobody.

    `wait` empties the device's queue; `now` is the clock. When no more is wanted the process ends.
    """

    def __init__(self, warm_up: int = 2, wait: Callable[[], None] = lambda: None, now: Callable[[], float] = time.time):
        self.left, self.wait, self.now = warm_up, wait, now
        self.began: float | None = None

    def __call__(self) -> None:
        if self.left > 0:
            self.left -= 1
            if self.left:
                return
        self.wait()
        print(f"\n{MARK}{0.0 if self.began is None else self.now() - self.began}", flush=True)
        if sys.stdin.readline() != "go\n":
            os._exit(0)
        self.began = self.now()


class Side:
    """A loop that takes turns, as a running process. Raises `RuntimeError` with its last words when it ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str | None):
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  (`end` closes it)
        pipe = subprocess.PIPE
        environment = {**os.environ, **environment}
        self.process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=pipe, stdout=pipe, stderr=self.said, text=True
        )

    def answer(self) -> float:
        """Seconds that it says; 0 when it is ready."""
        for line in self.process.stdout:
            if line.startswith(MARK):
                return float(line.removeprefix(MARK))
        self.process.wait()
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"ended with status {self.process.returncode}")

    def step(self) -> float:
        """Seconds of its next step."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.said.close()


@contextlib.contextmanager
def sides(
    commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], folders: Sequence[str | None]
) -> Iterator[list[Side]]:
    """Running loops, one after the other until each is warm; they end with the context."""
    running: list[Side] = []
    try:
        for command, environment, folder in zip(commands, environments, folders, strict=True):
            running.append(Side(command, environment, folder))
            running[-1].answer()
        yield running
    finally:
        for side in running:
            side.end()
