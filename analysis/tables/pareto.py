"""Bytes against WER of everything in a run, by method: which compression is worth its bytes.

A panel for each family, for models of two families are not on one scale. The line joins the points that no other point
of the family beats in both. Equal results give equal bytes.
"""

from collections.abc import Sequence

from analysis.inputs.results import Results
from analysis.inputs.schemas import Experiment
from analysis.tables.cost_points import CostPoint, cost_points
from analysis.tables.drawing import COLOURS, MARKERS, SETTINGS, saved

TITLE = "Bytes against WER, by method"
CAPTION = (
    "Every offered point that a table shows, and those of systems that no table shows, by how it was made: methods "
    "joined by + were applied one after the other. Bytes are all weights and buffers that the point needs. Down and to "
    "the left is better; the line joins the points that no other one of the family beats in both. WERs are of the "
    "decode of a system's first table, and estimates: of two points on the line, only a test says which is better."
)


def shown_points(results: Results, name: str) -> list[CostPoint]:
    """What the figure shows: of its systems, or of all where it names none."""
    systems = results.experiment.figures[name].systems
    points = [point for point in cost_points(results) if point.in_table and point.point.offered]
    return [point for point in points if not systems or point.system in systems]


def made_by(experiment: Experiment, system: str) -> str:
    """The methods of a system and what it is derived from, the first one first: `unfolding + usmlite`."""
    names: list[str] = []
    found: str | None = system
    while found in experiment.systems and len(names) < len(experiment.systems):
        names.append((experiment.systems[found].method or found).rpartition(".")[2])
        found = experiment.systems[found].source
    return " + ".join(reversed(names))


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other one beats in both: none is smaller with as few errors. By size."""
    best: list[CostPoint] = []
    for point in sorted(points, key=lambda each: (each.costs.stored_bytes, each.wer)):
        if not best or point.wer < best[-1].wer:
            best.append(point)
    return best


def caption(results: Results, name: str) -> str:
    """How the figure is to be read."""
    seeds = results.several_seeds(point.system for point in shown_points(results, name))
    return CAPTION + (f" WERs are means over {seeds} seeds." if seeds else "")


def draw(results: Results, name: str) -> dict[str, bytes]:
    """Bytes on a scale of powers, WER in percent."""
    import matplotlib
    from matplotlib.figure import Figure

    points, experiment = shown_points(results, name), results.experiment
    titles = experiment.family_titles(point.system for point in points)
    methods = list(dict.fromkeys(made_by(experiment, point.system) for point in points))
    looks = {method: _look(number) for number, method in enumerate(methods)}
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9.6, 4.4 * max(1, len(titles))), layout="constrained")
        panels = figure.subplots(max(1, len(titles)), 1, squeeze=False)[:, 0]
        for axes, (family, title) in zip(panels, titles.items(), strict=False):
            _draw_family(axes, [point for point in points if point.family == family], looks, experiment)
            axes.set_title(family or title, loc="left")
        panels[-1].set_xlabel("stored size (MB, 1 000 000 bytes)" if points else "no costs were measured")
        _legend(figure, looks)
        return saved(figure, results.experiment.named)


def _look(number: int) -> dict[str, str]:
    marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]  # the pairs repeat after all of them
    return {"color": COLOURS[number % len(COLOURS)], "marker": marker}


def _draw_family(axes, points: Sequence[CostPoint], looks: dict, experiment: Experiment) -> None:
    best = [(point.costs.stored_bytes / 1e6, point.wer) for point in front(points)]
    axes.plot(*zip(*best, strict=True), color="#888888", linewidth=1.0, zorder=1)
    for point in points:
        look = looks[made_by(experiment, point.system)]
        axes.plot(point.costs.stored_bytes / 1e6, point.wer, linestyle="", markersize=5.5, zorder=3, **look)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_ylabel("WER (%)")
    axes.grid(linewidth=0.4, alpha=0.6)


def _legend(figure, looks: dict) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="", label=method, **look) for method, look in looks.items()]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
