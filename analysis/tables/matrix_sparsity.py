"""Which weights a pruning takes: the share of zeros in each matrix of the physical layers, layer by layer.

One threshold for each matrix, or one for all of them, leaves layers and kinds of matrices unequally dense; a uniform
share does not. Counts are those of the finished weights, from `costs.json`, of the first seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.inputs.results import Results
from analysis.inputs.schemas import MatrixWeights
from analysis.tables.drawing import SETTINGS, saved
from common.errors import UserError

TITLE = "Zeros of each matrix"


@dataclass(frozen=True)
class Grid:
    """The zeros of one system: `shares[layer][kind]`, None where a layer has no such matrix."""

    system: str
    kinds: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    whole: float
    """Of all matrices together."""


def grid_of(results: Results, system: str) -> Grid:
    """The share of zeros of each matrix of a system. Raises `UserError` where matrices were not counted."""
    seed = results.seeds_of(system)[0]
    costs = results.costs(system, seed)
    if costs is None or not costs.matrices:
        path = results.system_folder(system, seed) / "measured" / "costs.json"
        raise UserError(f"{path}: counts no matrices of '{system}', so there are no zeros of each to show; measure it")
    kinds = tuple(dict.fromkeys(kind_of(matrix) for matrix in costs.matrices))
    by_place = {(matrix.layer, kind_of(matrix)): zeros_of([matrix]) for matrix in costs.matrices}
    layers = range(1, max(matrix.layer for matrix in costs.matrices) + 1)
    shares = tuple(tuple(by_place.get((layer, kind)) for kind in kinds) for layer in layers)
    return Grid(system, kinds, shares, zeros_of(costs.matrices))


def kind_of(matrix: MatrixWeights) -> str:
    """The name of a matrix without what says which layer it is in: `self_attn.linear_q`."""
    parts = matrix.name.split(".")
    numbers = [place for place, part in enumerate(parts) if part == str(matrix.layer - 1)]
    return ".".join(parts[numbers[0] + 1 :]) if numbers else matrix.name


def zeros_of(matrices: Sequence[MatrixWeights]) -> float:
    """The share of zeros in some matrices together."""
    return sum(matrix.zeros for matrix in matrices) / sum(matrix.weights for matrix in matrices)


def caption(results: Results, name: str) -> str:
    """How the figure is to be read."""
    grids = [grid_of(results, system) for system in results.experiment.figures[name].systems]
    found = "; ".join(f"{grid.system} {100 * grid.whole:.1f} % {_range(grid)}" for grid in grids)
    systems = results.experiment.figures[name].systems
    of = f" Of seed {results.first_seeds(systems)}." if results.several_seeds(systems) else ""
    return f"The share of zeros in each matrix of the physical layers; all together: {found}.{of}"


def _range(grid: Grid) -> str:
    known = [share for row in grid.shares for share in row if share is not None]
    return f"({100 * min(known):.1f} to {100 * max(known):.1f})"


def draw(results: Results, name: str) -> dict[str, bytes]:
    """A field for each matrix, a row for each kind, a column for each layer; a panel for each system."""
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    grids = [grid_of(results, system) for system in results.experiment.figures[name].systems]
    with matplotlib.rc_context(SETTINGS):
        height = sum(0.8 + 0.2 * len(grid.kinds) for grid in grids)
        figure = Figure(figsize=(8.4, height), layout="constrained")
        ratios = [len(grid.kinds) for grid in grids]
        panels = figure.subplots(len(grids), 1, squeeze=False, height_ratios=ratios)[:, 0]
        for axes, grid in zip(panels, grids, strict=True):
            shares = np.array([[np.nan if share is None else 100 * share for share in row] for row in grid.shares])
            image = axes.imshow(shares.T, aspect="auto", cmap="viridis", vmin=0, vmax=100)
            axes.set_yticks(range(len(grid.kinds)), grid.kinds, fontsize=6)
            axes.set_xticks(range(len(grid.shares)), range(1, len(grid.shares) + 1))
            axes.set_title(f"{grid.system}: {100 * grid.whole:.1f} % of the matrices", loc="left")
        panels[-1].set_xlabel("physical layer")
        figure.colorbar(image, ax=list(panels), label="zeros (%)", shrink=0.6)
        return saved(figure)
