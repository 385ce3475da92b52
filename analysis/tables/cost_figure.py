"""Cost against WER as a figure: a row of panels for each family, for models of two families are not on one scale.

To the left is what has to be stored, to the right what has to be computed: a folded model saves the one and not the
other. Lines join the depths of one system. Equal results give equal bytes.
"""

from collections.abc import Sequence

from analysis.inputs.results import Results
from analysis.tables.cost_points import CostPoint, cost_points
from analysis.tables.drawing import COLOURS, MARKERS, SETTINGS, drawn_as

CAPTION = (
    "Down and to the left is better. Each family has panels and scales of its own. Lines join the depths of a system, "
    "numbers are depths. Filled: trained; hollow: never trained, the path that the tables report. WERs are of the "
    "decode of a system's first table."
)


def cost_figure(results: Results) -> dict[str, bytes]:
    """The figure as `{"svg": bytes, "pdf": bytes}`, of the points in the tables that are in no part; empty
    without costs."""
    apart = results.whole.shown_by_parts_alone
    points = [point for point in cost_points(results) if point.in_table and point.system not in apart]
    if not points:
        return {}
    import matplotlib
    from matplotlib.figure import Figure

    titles = results.experiment.family_titles(point.system for point in points)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(11.0, 3.9 * len(titles)), layout="constrained")
        rows = figure.subplots(len(titles), 2, squeeze=False, sharey="row")
        for panels, (family, title) in zip(rows, titles.items(), strict=True):
            _draw_family(panels, [point for point in points if point.family == family], title)
        files = {"svg": drawn_as(figure, "svg", results.experiment.named)}
        figure.set_layout_engine("none")  # the places are found
        return files | {"pdf": drawn_as(figure, "pdf", results.experiment.named)}


def _draw_family(panels, points: Sequence[CostPoint], title: str) -> None:
    stored, computed = panels
    for number, system in enumerate(dict.fromkeys(point.system for point in points)):
        own = sorted((p for p in points if p.system == system), key=lambda p: p.point.depth or 0)
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]  # the pairs repeat after all of them
        look = {"color": COLOURS[number % len(COLOURS)], "marker": marker}
        _draw_system(stored, own, [point.costs.stored_bytes / 1e6 for point in own], look)
        _draw_system(computed, own, [point.costs.macs / 1e9 for point in own], look)
        computed.plot([], [], label=system, **look)
    stored.set_xlabel("stored size (MB, 1 000 000 bytes)")
    stored.set_ylabel("WER (%)")
    computed.set_xlabel(f"multiply-accumulates for {points[0].audio_seconds:g} s of audio (billions)")
    stored.set_title(points[0].family or title, loc="left")
    computed.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)


def _draw_system(axes, points: Sequence[CostPoint], x: Sequence[float], look: dict[str, str]) -> None:
    places = [(position, point.wer) for position, point in zip(x, points, strict=True)]
    axes.plot(*zip(*places, strict=True), color=look["color"], linewidth=0.9, alpha=0.7)
    for trained, face in ((True, look["color"]), (False, "white")):
        some = [place for place, point in zip(places, points, strict=True) if point.point.trained is trained]
        if some:
            axes.plot(*zip(*some, strict=True), linestyle="", markerfacecolor=face, markersize=6.0, zorder=3, **look)
    for place, point in zip(places, points, strict=True):
        if len(points) > 1 and point.point.depth:
            axes.annotate(str(point.point.depth), place, (5, 2), textcoords="offset points", fontsize=7)
    axes.grid(linewidth=0.4, alpha=0.6)
