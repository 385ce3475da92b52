"""Work in forked children: several at a time, in order, and what happens to the others when one fails."""

import os
import time

import pytest

from common.errors import UserError
from workflows.steps.children import Work, in_child, in_children


def square(number, wait=0.0):
    time.sleep(wait)
    return os.getpid(), number * number


def fail(kind):
    if kind == "killed":
        os.kill(os.getpid(), 9)
    raise UserError("what the user did") if kind == "user" else RuntimeError("a defect")


def test_results_come_in_the_order_of_the_tasks_whoever_ends_first():
    tasks = [Work("x", square, (number, 0.2 if number == 0 else 0.0)) for number in range(5)]
    for at_once in (1, 3):
        found = in_children(tasks, at_once)
        assert [result for _, result in found] == [0, 1, 4, 9, 16]
        assert len({process for process, _ in found} | {os.getpid()}) == 6, "each in a process of its own"
    assert in_children([], 2) == []
    large = in_child("x", lambda: bytes(10_000_000))
    assert len(large) == 10_000_000


def processors():
    time.sleep(0.2)
    return os.sched_getaffinity(0)


def test_side_by_side_each_stays_on_a_processor_of_its_own():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    (one,), (other,) = in_children([Work("x", processors)] * 2, 2)
    assert one != other
    assert in_children([Work("x", processors)] * 2, 1) == [os.sched_getaffinity(0)] * 2


def test_one_that_fails_ends_the_others(capfd, tmp_path):
    def late():
        time.sleep(20)
        (tmp_path / "written").touch()

    began = time.monotonic()
    with pytest.raises(UserError, match="f6: measuring failed .exit status -9"):
        in_children([Work("a12", late), Work("f6", fail, ("killed",))], 2)
    with pytest.raises(SystemExit):
        in_child("f6", fail, "user")
    assert "error: what the user did" in capfd.readouterr().err
    with pytest.raises((UserError, SystemExit)):
        in_child("f6", fail, "defect")
    assert time.monotonic() - began < 15 and not (tmp_path / "written").exists()
