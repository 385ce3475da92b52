"""Tasks on several processes: the same results, and an error that comes through."""

import os

import pytest

from asr.corpora.parallel import map_tasks
from common.errors import UserError


def square(number: int) -> int:
    print("noise on standard output must not reach the results")
    if number == 13:
        raise UserError("no thirteen")
    if number == 17:
        os._exit(3)
    return number * number


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(workers):
    assert map_tasks(square, range(7), workers) == [0, 1, 4, 9, 16, 25, 36]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(workers):
    with pytest.raises(UserError, match="no thirteen"):
        map_tasks(square, [1, 13, 3], workers)


def test_a_worker_that_dies_is_said():
    with pytest.raises(UserError, match="worker process died .status 3"):
        map_tasks(square, [1, 17], 2)
