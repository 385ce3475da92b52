"""Tasks over processes, with results that do not depend on how many there are.

Why processes: the speech engine is one per process. Why fresh ones instead of `multiprocessing`: a fork of a
process with threads (torch, for one) can hang, and its other ways to start import the caller's main module again,
torch and all.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from common.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> list[Result]:
    """`[function(task) for task in tasks]` on `workers` processes. `function` is one of a module, not a local one,
    and a task must not depend on what ran before it. The first exception of a task is raised here."""
    workers = min(workers, len(tasks))
    if workers < 2:
        return [function(task) for task in tasks]
    results: list = [None] * len(tasks)
    with ThreadPoolExecutor(workers) as threads:  # each waits for one process
        shares = threads.map(lambda first: _run(function, tasks[first::workers]), range(workers))
        for first, share in enumerate(shares):
            results[first::workers] = share
    return results


def _run(function: Callable, tasks: Sequence) -> list:
    """The results of tasks that another process carries out."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "asr.corpora.parallel"],
        input=pickle.dumps((function, list(tasks))),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode != 0:
        raise UserError(f"a worker process died (status {done.returncode}: killed, or out of memory?); try workers: 1")
    outcome = pickle.loads(done.stdout)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _work() -> None:
    """The other side: tasks from standard input, results (or the exception) to standard output."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # whatever a library prints goes to standard error
        function, tasks = pickle.load(sys.stdin.buffer)
        try:
            outcome = [function(task) for task in tasks]
        except Exception as error:
            error.__traceback__ = None
            outcome = error
        pickle.dump(outcome, answer)


if __name__ == "__main__":
    _work()
