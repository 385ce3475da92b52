"""Unfold paths: how often each physical layer is run, which paths the unfolding rule allows, and how they share work.

A path holds one repeat count a physical layer, in order: `(1, 1, 2, 2)` runs layers 1 2 3 3 4 4. Repeats are in place.
The unfolding rule (arXiv 2505.21237, section 2): a layer may be used k + 1 times only when every other layer is used
k or k + 1 times; with `last`, the rule holds among the last so many layers and the others run once.

    python -m methods.paths 6 8              the 15 paths of 6 physical layers at depth 8, one a line
    python -m methods.paths 8 12 --last 4    only the last four layers are unfolded
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, groupby
from typing import TypeVar

from asr.paths import Path, format_path
from common.errors import UserError

State = TypeVar("State")


def enumerate_paths(physical: int, depth: int, last: int | None = None) -> list[Path]:
    """All paths of `physical` layers that reach logical `depth` under the unfolding rule, in lexicographic order.

    `last` limits repeats to the last so many layers. There are C(k, remainder) of them, with k the layers that may be
    repeated. Raises `UserError` when the depth cannot be reached, and names the depths that can.
    """
    repeatable = physical if last is None else last
    if physical < 1:
        raise UserError(f"physical layers: {physical} is not a positive number")
    if not 1 <= repeatable <= physical:
        raise UserError(f"last: {last} is not between 1 and the {physical} physical layers")
    if depth < physical:
        raise UserError(
            f"depth {depth} is below the {physical} physical layers; possible depths: {physical}, {physical + 1}, "
            f"{physical + 2} and so on"
        )
    fixed = physical - repeatable
    times, remainder = divmod(depth - fixed, repeatable)
    paths = []
    for chosen in combinations(range(repeatable), remainder):
        counts = [times + (layer in chosen) for layer in range(repeatable)]
        paths.append((1,) * fixed + tuple(counts))
    return sorted(paths)


def offered_paths(physical: int, deepest: int, last: int | None = None) -> list[Path]:
    """Every path of every depth from `physical` to `deepest`, by depth, then in lexicographic order."""
    if deepest < physical:
        raise UserError(f"depth {deepest} is below the {physical} physical layers; possible: {physical} or more")
    return [path for depth in range(physical, deepest + 1) for path in enumerate_paths(physical, depth, last)]


def check_shape(path: Sequence[int], physical: int) -> Path:
    """Return `path` as a tuple if it names every physical layer with a count of 0 or more and runs at least one."""
    path = tuple(path)
    text = format_path(path)
    if len(path) != physical:
        raise UserError(f"path '{text}' has {len(path)} counts for {physical} physical layers")
    if any(count < 0 for count in path) or sum(path) == 0:
        raise UserError(f"path '{text}': counts are 0 or more, and at least one layer runs")
    return path


def check_rule(path: Sequence[int], physical: int, last: int | None = None) -> Path:
    """Return `path` if it keeps the unfolding rule. Raises `UserError` that says which count breaks it."""
    path = check_shape(path, physical)
    repeatable = physical if last is None else last
    fixed, free = path[: physical - repeatable], path[physical - repeatable :]
    if any(count != 1 for count in fixed):
        raise UserError(
            f"path '{format_path(path)}' breaks the unfolding rule: only the last {repeatable} layers may be repeated"
        )
    if min(free) < 1 or max(free) - min(free) > 1:
        raise UserError(
            f"path '{format_path(path)}' breaks the unfolding rule: a layer may be used {max(free)} times only when "
            f"every other layer is used {max(free) - 1} or {max(free)} times"
        )
    return path


def run_paths(
    paths: Iterable[Path], state: State, run_layer: Callable[[int, State], State]
) -> Iterator[tuple[Path, State]]:
    """Run all `paths` from one `state`, each layer execution that paths have in common only once.

    `run_layer(layer, state)` runs one physical layer and must not change the state it is given. Yields each path with
    its final state, in lexicographic order. The 64 paths of a 6-layer seed up to depth 12 need 126 executions instead
    of 576; at most as many states are alive as there are physical layers.
    """
    return _run_subtree(sorted(set(paths)), 0, state, run_layer)


def _run_subtree(
    paths: list[Path], layer: int, state: State, run_layer: Callable[[int, State], State]
) -> Iterator[tuple[Path, State]]:
    """Paths that agree on all layers before `layer` and whose common prefix led to `state`."""
    if not paths:
        return
    if layer == len(paths[0]):
        yield paths[0], state
        return
    executed = 0
    # Sorted paths have ascending counts here: k + 1 repeats continue from the state after k repeats.
    for count, group in groupby(paths, key=lambda path: path[layer]):
        for _ in range(count - executed):
            state = run_layer(layer, state)
        executed = count
        yield from _run_subtree(list(group), layer + 1, state, run_layer)
