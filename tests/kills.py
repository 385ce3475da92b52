"""Kills at a chosen moment: a function runs in a process of its own, which dies as by SIGKILL."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
KILLED = 9


def in_child(function: Callable[[], None], folder: Path, kill_at: int | None = None) -> tuple[int, int]:
    """Run `function`; its process dies before change number `kill_at` to a file in `folder` (None: not at all).

    Returns its exit status (`KILLED`, or 0) and the number of changes that it came to.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        changes = int(os.fdopen(reader).read())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), changes
    changes = 0

    def end(status):
        os.write(writer, str(changes).encode())
        os._exit(status)

    def before_a_change(event, arguments):
        nonlocal changes
        writes = event == "open" and (arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if (writes or event in CHANGES) and place(event, arguments).startswith(f"{folder}/"):
            changes += 1
            if changes == kill_at:
                end(KILLED)

    def place(event, arguments):
        if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:  # a name in an open folder
            return f"{os.readlink(f'/proc/self/fd/{arguments[1]}')}/{arguments[0]}"
        return str(arguments[0])

    try:
        sys.addaudithook(before_a_change)
        function()
    except BaseException:
        traceback.print_exc()
        end(1)
    end(0)
