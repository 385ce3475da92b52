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


def killed_and_resumed(train: Callable[[Path], None], root: Path, name: str) -> Path:
    """Train the system `name` with `train(folder)` below `root`, once whole, and once killed half-way and resumed: the
    weights are the same bytes. The folder of the whole one."""

    def once(which: str, kill_at: int | None = None) -> tuple[int, int]:
        folder = root / which / name / "seed0"
        return in_child(lambda: train(folder), folder, kill_at)

    status, changes = once("whole")
    assert status == 0 and changes > 8
    assert once("killed", kill_at=changes // 2)[0] == KILLED
    killed, whole = (root / which / name / "seed0" for which in ("killed", "whole"))
    assert (killed / "work").exists() and not (killed / "model.safetensors").exists()
    assert once("killed")[0] == 0
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    return whole
