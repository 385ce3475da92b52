"""Work in processes of their own, forked from this one, whose results come back."""

import contextlib
import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from common.errors import UserError, run


class Work(NamedTuple):
    """A call for a child: `function(*arguments)`; `where` is what it is about, as errors name it."""

    where: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


class _Child(NamedTuple):
    number: int
    place: int
    process: BaseProcess


def in_child(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function(*arguments)` gives in a forked child. Ends this process after an error of the user's, which the
    child has said; raises `UserError` naming `where` when the child failed otherwise."""
    return in_children([Work(where, function, arguments)])[0]


def in_children(tasks: Sequence[Work], at_once: int = 1) -> list[Any]:
    """`in_child` of each, so many at a time: for work that does not mind what runs beside it. Where there are several,
    each stays on a processor of its own. The first that fails ends the others."""
    context = multiprocessing.get_context("fork")
    processors = sorted(_processors())[:at_once] if at_once > 1 else []
    places = list(range(max(len(processors), 1)))
    waiting = list(enumerate(tasks))[::-1]
    found: list[Any] = [None] * len(tasks)
    running: dict[Connection, _Child] = {}
    try:
        while waiting or running:
            while waiting and places:
                (number, task), place = waiting.pop(), places.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_answer, args=(sender, task, processors[place : place + 1]))
                process.start()
                sender.close()
                running[receiver] = _Child(number, place, process)
            for receiver in wait(list(running)):
                number, place, process = running.pop(receiver)
                with contextlib.suppress(EOFError):  # it ended without an answer
                    found[number] = receiver.recv()
                process.join()
                receiver.close()
                _check_ended(process, tasks[number].where)
                places.append(place)
    finally:
        for child in running.values():
            child.process.terminate()
            child.process.join()
    return found


def _check_ended(process: BaseProcess, where: str) -> None:
    if process.exitcode == 1:
        sys.exit(1)
    if process.exitcode != 0:
        raise UserError(f"{where}: measuring failed (exit status {process.exitcode})")


def _answer(sender: Connection, task: Work, processors: Sequence[int]) -> None:
    """Errors of the user's are said as in every command."""
    if processors:
        os.sched_setaffinity(0, processors)
    sys.exit(run(lambda: sender.send(task.function(*task.arguments))))


def _processors() -> set[int]:
    """Those that this process may use; none where the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def import_all(names: Iterable[str]) -> None:
    """Import modules by name, as far as they can be: some names that a process lists are made while it runs."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
