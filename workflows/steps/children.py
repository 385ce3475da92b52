"""Work in a process of its own, forked from this one, whose result comes back."""

import contextlib
import importlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from common.errors import UserError, run


def in_child(where: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work(*arguments)` gives in a forked child. Ends this process after an error of the user's, which the child
    has said; raises `UserError` naming `where` when the child failed otherwise."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, work, arguments))
    process.start()
    sender.close()
    found = None
    with contextlib.suppress(EOFError):  # it ended without an answer
        found = receiver.recv()
    process.join()
    if process.exitcode == 1:
        sys.exit(1)
    if process.exitcode != 0:
        raise UserError(f"{where}: measuring failed (exit status {process.exitcode})")
    return found


def _answer(sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Errors of the user's are said as in every command."""
    sys.exit(run(lambda: sender.send(work(*arguments))))


def import_all(names: Iterable[str]) -> None:
    """Import modules by name, as far as they can be: some names that a process lists are made while it runs."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
