"""Errors that are the user's to mend, and the wrapper that turns them into one clear message.

A `UserError` names the file and the key (or the utterance) and says what to do. Commands end with
`sys.exit(run(main))`: the message goes to standard error, the exit status is 1, and there is no traceback
unless the environment variable FOLDBENCH_TRACEBACK is set. Every other exception is a defect of ours and keeps its
traceback.
"""

import difflib
import os
import sys
import threading
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Something the user can mend. The text is the whole message: what is wrong, where, what to do."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> UserError:
    """A `UserError` for a name that does not exist, with the closest name that does.

    `kind` says what was named ("method", "key"), `where` the file and key in which the name stands.
    """
    known = sorted(known)
    prefix = f"{where}: " if where else ""
    return UserError(f"{prefix}unknown {kind} '{name}'{closest(name, known)} (known: {', '.join(known) or 'none'})")


def closest(name: str, known: Iterable[str]) -> str:
    """The words of a message that ask whether the closest of the `known` names was meant; none where nothing is
    close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def run(main: Callable[[], None]) -> int:
    """Run a command's `main` and return its exit status: 0, or 1 after a `UserError` was printed."""
    if not os.environ.get("FOLDBENCH_TRACEBACK"):
        threading.excepthook = _in_thread
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        if os.environ.get("FOLDBENCH_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _in_thread(arguments: threading.ExceptHookArgs) -> None:
    """A full disk is TensorBoard's to tell the main thread, which says it once; anything else is shown."""
    from common.files import is_disk_full

    if not is_disk_full(arguments.exc_value):
        threading.__excepthook__(arguments)
