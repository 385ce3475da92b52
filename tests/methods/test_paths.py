"""Unfold paths: numbers from the paper, the rule itself as an oracle, and the prefix tree against the naive way."""

import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.paths import parse_path
from common.errors import UserError
from methods.paths import check_rule, check_shape, enumerate_paths, format_path, offered_paths, run_paths


@pytest.mark.parametrize(
    ("physical", "depth", "last", "count"),
    [
        (6, 8, None, 15),
        (8, 10, None, 28),
        (8, 12, None, 70),
        (4, 6, None, 6),
        (4, 10, None, 6),
        (6, 12, None, 1),
        (8, 12, 4, 1),
    ],
)
def test_numbers_of_paths_that_the_paper_quotes(physical, depth, last, count):
    assert len(enumerate_paths(physical, depth, last)) == count


@given(physical=st.integers(1, 5), extra=st.integers(0, 8), data=st.data())
def test_enumeration_is_exactly_what_the_rule_allows(physical, extra, data):
    last = data.draw(st.none() | st.integers(1, physical))
    depth = physical + extra
    allowed = []
    for counts in itertools.product(range(1, depth + 1), repeat=physical):
        if sum(counts) != depth:
            continue
        try:
            check_rule(counts, physical, last)
        except UserError:
            continue
        allowed.append(counts)
    found = enumerate_paths(physical, depth, last)
    assert found == sorted(allowed)
    repeatable = physical if last is None else last
    assert len(found) == math.comb(repeatable, (depth - physical + repeatable) % repeatable)


@given(physical=st.integers(1, 5), extra=st.integers(0, 7))
def test_tree_runs_every_path_as_the_naive_way_does(physical, extra):
    paths = offered_paths(physical, physical + extra)
    runs = dict(run_paths(reversed(paths), (), lambda layer, state: (*state, layer)))
    naive = {path: tuple(layer for layer, count in enumerate(path) for _ in range(count)) for path in paths}
    assert runs == naive
    assert list(runs) == sorted(paths)


def test_tree_shares_prefixes():
    executions = []

    def run_layer(layer, state):
        executions.append(layer)
        return (*state, layer)

    paths = offered_paths(6, 12)
    assert len(list(run_paths(paths, (), run_layer))) == 64
    assert len(executions) == 126  # 2 + 4 + ... + 64 nodes
    assert sum(map(sum, paths)) == 576


def test_tree_runs_dropped_layers_not_at_all():
    runs = dict(run_paths([(1, 0, 2), (0, 1, 1)], (), lambda layer, state: (*state, layer)))
    assert runs == {(1, 0, 2): (0, 2, 2), (0, 1, 1): (1, 2)}


@pytest.mark.parametrize("path", ["1 1 3 1", "1 1 0 1", "1 2 1 1 3"])
def test_paths_that_break_the_rule_are_refused(path):
    with pytest.raises(UserError, match="unfolding rule|counts for 4"):
        check_rule(parse_path(path), 4)


def test_last_layers_only():
    with pytest.raises(UserError, match="only the last 2 layers"):
        check_rule((2, 1, 1, 1), 4, last=2)
    assert check_rule((1, 1, 2, 1), 4, last=2) == (1, 1, 2, 1)


@pytest.mark.parametrize("path", [(0, 0, 0), (-1, 2, 1), (-1, 0, 1), (1, 1), (1, 1, 1, 1)])
def test_shapes_that_no_model_can_run_are_refused(path):
    with pytest.raises(UserError, match="0 or more, and at least one layer runs|counts for 3"):
        check_shape(path, 3)


@pytest.mark.parametrize("path", [(0, 0, 1), (3, 0, 1), [1, 1, 1]])
def test_shapes_beyond_the_rule_are_returned_as_they_are(path):
    assert check_shape(path, 3) == tuple(path)


@pytest.mark.parametrize(
    ("physical", "depth", "last", "message"),
    [
        (0, 3, None, "0 is not a positive number"),
        (3, 4, 0, "last: 0 is not between 1 and the 3"),
        (3, 4, 4, "last: 4 is not between 1 and the 3"),
        (3, 2, None, "depth 2 is below the 3 physical layers; possible depths: 3, 4, 5"),
    ],
)
def test_what_cannot_be_enumerated_is_said(physical, depth, last, message):
    with pytest.raises(UserError, match=message):
        enumerate_paths(physical, depth, last)


def test_the_smallest_of_everything():
    assert enumerate_paths(1, 1) == [(1,)] and enumerate_paths(1, 4) == [(4,)]
    assert enumerate_paths(3, 4, 1) == [(1, 1, 2)] and enumerate_paths(3, 3, 3) == [(1, 1, 1)]
    assert offered_paths(2, 2) == [(1, 1)] and offered_paths(2, 3) == [(1, 1), (1, 2), (2, 1)]
    with pytest.raises(UserError, match="depth 1 is below the 2"):
        offered_paths(2, 1)
    assert list(run_paths([], "nothing", None)) == []


@pytest.mark.parametrize("last", [1, 2, 3])
def test_the_rule_among_the_last_layers(last):
    assert check_rule((1, 1, 2), 3, last) == (1, 1, 2)
    for path in [(2, 1, 1), (1, 2, 1)][: 3 - last]:
        with pytest.raises(UserError, match=f"only the last {last} layers"):
            check_rule(path, 3, last)
    for path in ((1, 1, 0), (1, 0, 2), (1, 1, 3)):
        if last > 1 or path[2] == 0:
            with pytest.raises(UserError, match="breaks the unfolding rule"):
                check_rule(path, 3, last)


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "methods.paths", *arguments], capture_output=True, text=True)


def test_command_prints_one_path_a_line():
    result = command("6", "8")
    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert lines == [format_path(path) for path in enumerate_paths(6, 8)]
    assert lines[0] == "1 1 1 1 2 2"
    assert command("8", "12", "--last", "4").stdout == "1 1 1 1 2 2 2 2\n"


def test_command_names_the_possible_depths():
    result = command("6", "5")
    assert result.returncode == 1
    assert result.stderr.startswith("error: depth 5 is below the 6 physical layers; possible depths: 6, 7, 8")
    assert "Traceback" not in result.stderr
