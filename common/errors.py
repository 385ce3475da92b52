"""Errors that are the user's to mend, and the wrapper that turns them into one clear message.

A `UserError` names the file and the key (or the utterance) and says what to do. Commands end with
`sys.exit(run(main))`: the message goes to standard error, the exit status is 1, and there is no traceback
unless the environment variable FOLDBENCH_TRACEBACK is set. Every other exception is a defect of ours and keeps its
traceback.
"""

import difflib
import errno
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable

FULL = re.compile(r"No space left on device|Not enough free space to write|\d+ requested and \d+ written")
"""What the system and safetensors say of a full disk, and NumPy's two ways."""


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


def is_disk_full(error: BaseException | None) -> bool:
    """Whether `error`, or one that it came from, says that the disk (or the quota) is full.

    safetensors has it in its text, NumPy in words of its own. torch hides it behind an error about positions, and only
    where it writes to a file that Python opened; given a path it does not say why it failed.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _in_thread(arguments: threading.ExceptHookArgs) -> None:
    """A full disk is TensorBoard's to tell the main thread, which says it once; anything else is shown."""
    if not is_disk_full(arguments.exc_value):
        threading.__excepthook__(arguments)
