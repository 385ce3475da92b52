"""Figure 2 of the paper: WER against executed depth, for every path of every depth, beside the published curves.

A solid marker is a depth that was trained (the seed and the deepest), a hollow one a depth that was not; it stands at
the path that the tables report. The band is the mean ± standard deviation over all paths of a depth, whiskers reach to
the extremes. Systems differ in colour (Okabe and Ito's, safe for colour-blind readers) and in marker. Equal results
give equal bytes.
"""

import io
import statistics
from dataclasses import dataclass

from analysis.choice import choose, offered_at
from analysis.counts import Counts
from analysis.published import published_table
from analysis.results import Results
from analysis.schemas import FigureSpec, Row, TableSpec
from common.errors import unknown

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "D", "^", "s", "v", "P"]
BASELINE_COLOUR = "#444444"
SETTINGS = {
    "svg.hashsalt": "foldbench",  # ids in the file do not depend on the run
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar in a system's name is a dollar
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
METADATA = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}


@dataclass(frozen=True)
class Depth:
    """One depth of one curve: the WER (percent) of the reported path, and of all paths of all seeds."""

    depth: int
    wer: float
    trained: bool
    wers: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """One system over its depths."""

    name: str
    depths: tuple[Depth, ...]


def measured_curve(results: Results, system: str, decode: str) -> Curve:
    """All offered depths of one system, pooled over the test sets."""
    experiment = results.experiment
    first = experiment.seeds[0]
    depths = sorted({p.depth for p in results.points(system, first).points if p.offered and p.depth})
    curve = []
    for depth in depths:
        row, where = Row(system=system, depth=depth), f"figures: {system}"
        chosen = [choose(results, row, seed, decode, where).point for seed in experiment.seeds]
        counts = sum((results.counts(point, decode, experiment.test_sets) for point in chosen), Counts.zero())
        wers = tuple(
            results.counts(point, decode, experiment.test_sets).wer
            for seed in experiment.seeds
            for point in offered_at(results, system, seed, depth)
        )
        curve.append(Depth(depth, counts.wer, chosen[0].trained, wers))
    return Curve(system, tuple(curve))


def published_curves(figure: FigureSpec, table: TableSpec) -> tuple[list[Curve], Curve]:
    """The published curve of each system of the figure, and the published baselines, read off Table 1."""
    printed = published_table(table.published)
    curves = []
    for system in figure.systems:
        rows = [printed[name] for name, row in table.rows.items() if row.system == system and name in printed]
        depths = [int(row["inference_depth"]) for row in rows]
        ends = {min(depths), max(depths)} if depths else set()
        curves.append(Curve(system, tuple(map(_published_depth, rows, [depth in ends for depth in depths]))))
    names = {name for name, row in table.rows.items() if row.system in figure.baselines}
    baselines = [_published_depth(printed[name], True) for name in printed if name in names]
    return curves, Curve("all-physical", tuple(baselines))


def _published_depth(row: dict[str, str], trained: bool) -> Depth:
    wer = float(row["avg_reported"])
    return Depth(int(row["inference_depth"]), wer, trained, (wer,))


def depth_curves(results: Results, name: str) -> dict[str, bytes]:
    """The figure as `{"svg": bytes, "pdf": bytes, "png": bytes}`."""
    import matplotlib
    from matplotlib.figure import Figure

    spec = results.experiment.figures[name]
    if spec.kind != "depth_curves":
        where = f"{results.folder / 'experiment.json'}: figures.{name}.kind"
        raise unknown("kind", spec.kind, ["depth_curves"], where)
    curves = [measured_curve(results, system, spec.decode) for system in spec.systems]
    baselines = [measured_curve(results, system, spec.decode).depths for system in spec.baselines]
    baseline = Curve("all-physical", tuple(sorted((d for depths in baselines for d in depths), key=lambda d: d.depth)))
    layers = [results.points(system, results.experiment.seeds[0]).physical_layers for system in spec.systems]
    table = next((t for t in results.experiment.tables.values() if t.kind == "table1" and t.published), None)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9.6, 4.4) if table else (6.0, 4.4), layout="constrained")
        panels = figure.subplots(1, 2 if table else 1, squeeze=False)[0]
        _draw(panels[0], curves, baseline)
        panels[0].set_title(
            f"{results.experiment.name}: pooled over {', '.join(results.experiment.test_sets)}", loc="left"
        )
        if table:
            _draw(panels[1], *published_curves(spec, table))
            panels[1].set_title("published: Hub5'00, RT02 and RT03, pooled", loc="left")
        _legend(figure, spec, layers)
        return {kind: _bytes(figure, kind) for kind in ("svg", "pdf", "png")}


def _draw(axes, curves: list[Curve], baseline: Curve) -> None:
    for index, curve in enumerate(curves):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        shift = 0.13 * (index - (len(curves) - 1) / 2)  # keep the whiskers of equal depths apart
        x = [d.depth + shift for d in curve.depths]
        means = [statistics.fmean(d.wers) for d in curve.depths]
        spreads = [statistics.stdev(d.wers) if len(d.wers) > 1 else 0.0 for d in curve.depths]
        low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, [d.wer for d in curve.depths], color=colour, linewidth=1.4)
        for position, d in zip(x, curve.depths, strict=True):
            if len(d.wers) > 1:
                reach = [[max(0.0, d.wer - min(d.wers))], [max(0.0, max(d.wers) - d.wer)]]  # rounding may go below 0
                axes.errorbar(position, d.wer, yerr=reach, color=colour, capsize=2.5, linewidth=0.9, fmt="none")
            face = colour if d.trained else "white"
            axes.plot(position, d.wer, marker, color=colour, markerfacecolor=face, markersize=6.5, zorder=3)
    if baseline.depths:
        x, y = [d.depth for d in baseline.depths], [d.wer for d in baseline.depths]
        axes.plot(x, y, "x--", color=BASELINE_COLOUR, linewidth=1.0, markersize=7, markeredgewidth=1.8, zorder=2)
    axes.set_xlabel("executed depth (layers)")
    axes.set_ylabel("WER (%)")
    axes.set_xticks(sorted({d.depth for curve in [*curves, baseline] for d in curve.depths}))
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def _legend(figure, spec: FigureSpec, layers: list[int | None]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D(
            [], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], label=_label(system, layers[i])
        )
        for i, system in enumerate(spec.systems)
    ]
    grey = BASELINE_COLOUR
    if spec.baselines:
        handles.append(Line2D([], [], color=grey, marker="x", linestyle="--", label="all-physical"))
    handles += [
        Line2D([], [], color=grey, marker="o", linestyle="", label="trained depth"),
        Line2D(
            [], [], color=grey, marker="o", linestyle="", markerfacecolor="white", label="never trained (median path)"
        ),
        Patch(color=grey, alpha=0.25, label="mean ± sd over paths"),
        Line2D([], [], color=grey, marker="|", markersize=10, linestyle="", label="extremes"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _label(system: str, layers: int | None) -> str:
    return f"{system} ({layers} physical layers)" if layers else system


def _bytes(figure, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=METADATA.get(kind), dpi=150)
    return out.getvalue()
