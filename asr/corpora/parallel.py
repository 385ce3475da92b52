"""Tasks over processes, with results that do not depend on how many there are.

Why processes: the speech engine is one per process. Why a fork server: a plain fork of a process with threads (torch,
for one) can hang, and spawning imports everything again for each worker.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> list[Result]:
    """`[function(task) for task in tasks]` on `workers` processes. A task must not depend on what ran before it."""
    if workers == 1 or len(tasks) < 2:
        return [function(task) for task in tasks]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
        try:
            return list(pool.map(function, tasks, chunksize=max(1, len(tasks) // (workers * 8))))
        except BrokenProcessPool as error:
            raise RuntimeError("a worker process died (killed, or out of memory); try workers: 1") from error
