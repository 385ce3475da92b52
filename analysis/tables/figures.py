"""All figures of an experiment by their kind, and those of one kind, Figures 2 and 3 of the paper: WER against depth.

For every path of every depth, beside the published curves. A solid marker is a depth that was trained (the seed and the
deepest), a hollow one a depth that was not; it stands at the path that the tables report. The band is the mean ± the
standard deviation over the paths of a depth within a seed: what another training gives is not in it. Whiskers reach to
the extremes of all seeds. Systems differ in colour and in marker.
Figure 3 has one more panel, where the paper has an inset: the WER of a model with one of its layers left out.
"""

import math
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.inputs.choice import offered_at
from analysis.inputs.published import published_table
from analysis.inputs.results import Results
from analysis.inputs.schemas import Experiment, FigureSpec
from analysis.inputs.studies import Sensitivity
from analysis.tables import matrix_sparsity, pareto, weight_errors
from analysis.tables.drawing import COLOURS, MARKERS, SETTINGS, saved
from analysis.tables.rows import measure_depth
from common.errors import UserError, unknown

DEPTHS = "depth_curves"
OTHERS = {"weight_errors": weight_errors, "matrix_sparsity": matrix_sparsity, "pareto": pareto}
"""Kinds of figures: WER against depth, and those that have a module, with title, caption and drawing."""
BASELINE_COLOUR = "#444444"
BAR_COLOUR = "#999999"
LAYOUTS = {1: (1, 1, (6.0, 4.4)), 2: (1, 2, (9.6, 4.4)), 3: (1, 3, (13.2, 4.4)), 4: (2, 2, (9.6, 8.2))}
"""Panels to rows, columns and size in inches."""
TITLE = 50
"""Characters of a title that a panel is wide enough for."""
COLUMNS = {
    "paper_table1": {"avg_reported": "Hub5'00, RT02 and RT03, pooled"},
    "paper_table2": {"test_clean": "test-clean", "test_other": "test-other"},
}
"""The WERs by depth of a published table that are drawn, a panel each: column to title."""


@dataclass(frozen=True)
class Depth:
    """One depth of one curve: the WER (percent) of the reported path, averaged over seeds, and of all paths, seed by
    seed."""

    depth: int
    wer: float
    trained: bool
    by_seed: tuple[tuple[float, ...], ...]

    @property
    def wers(self) -> tuple[float, ...]:
        """All paths of all seeds."""
        return tuple(wer for wers in self.by_seed for wer in wers)

    @property
    def mean(self) -> float:
        """Over all paths of all seeds."""
        return statistics.fmean(self.wers)

    @property
    def spread(self) -> float:
        """The standard deviation over the paths of one seed, the root of its mean square over seeds."""
        return path_spread(self.by_seed)


@dataclass(frozen=True)
class Curve:
    """One system over its depths."""

    name: str
    depths: tuple[Depth, ...]


@dataclass(frozen=True)
class Published:
    """One panel of published WERs: what they were measured on, a curve for each system, the baselines."""

    title: str
    curves: tuple[Curve, ...]
    baseline: Curve


def path_spread(by_seed: Sequence[Sequence[float]]) -> float:
    """The standard deviation over paths within a seed, pooled over seeds; 0 where a seed has one path.

    Over the paths of all seeds together it would mostly be the seeds': these move a small model by points.
    """
    return math.sqrt(statistics.fmean(statistics.variance(wers) if len(wers) > 1 else 0.0 for wers in by_seed))


def draw_figure(results: Results, name: str) -> dict[str, bytes]:
    """A figure as `{"svg": bytes, "pdf": bytes, "png": bytes}`. Raises `UserError` for a kind that is not known."""
    draw = {DEPTHS: depth_curves, **{kind: module.draw for kind, module in OTHERS.items()}}
    kind = results.experiment.figures[name].kind
    if kind not in draw:
        raise unknown("kind", kind, [*draw], f"{results.folder / 'experiment.json'}: figures.{name}.kind")
    return draw[kind](results, name)


def figure_title(experiment: Experiment, name: str) -> str:
    """The paper's figure that this one reproduces, and its own name where that is another; with no table of a paper
    beside it, it is none of the paper's."""
    if (kind := experiment.figures[name].kind) in OTHERS:
        return experiment.named(OTHERS[kind].TITLE) + ("" if name == kind else f" ({name})")
    table = experiment.figures[name].table
    number = 3 if table is not None and experiment.tables[table].published == "paper_table2" else 2
    if not any(spec.published in COLUMNS for spec in experiment.tables.values()):
        return experiment.named(f"WER against executed depth ({name})")
    return f"Figure {number}: WER against executed depth" + ("" if name == f"figure{number}" else f" ({name})")


def figure_caption(results: Results, name: str) -> str:
    """How the figure is to be read."""
    if (kind := results.experiment.figures[name].kind) in OTHERS:
        return results.experiment.named(OTHERS[kind].caption(results, name))
    sensitivity = figure_sensitivity(results, results.experiment.figures[name])
    published = [panel.title for panel in published_panels(results, name)]
    figure = results.experiment.figures[name]
    seeds = results.several_seeds((*figure.systems, *figure.baselines))
    within, of_all = (" within a seed", f" of all {seeds} seeds") if seeds else ("", "")
    caption = (
        "Solid markers: trained depths (seed and deepest); hollow: never trained, the path with the median errors"
        f"{_chosen_on(results, figure)}. Bands: mean ± standard deviation over the paths of a depth{within}; "
        f"whiskers: the best and the worst path{of_all}."
    )
    if seeds:
        caption += f" Markers: mean over {seeds} seeds."
    caption += decoded_part(results.experiment, figure)
    if len(published) > 1:
        caption += f" Ours are pooled over the test sets, the published WERs stand apart: {', '.join(published)}."
    if sensitivity:
        caption += (
            f" Bars: WER of {sensitivity.system} on {sensitivity.set} with one layer left out, the number above is the "
            "layer's place in the drop order; line: the full model."
        )
    return results.experiment.named(caption)


def decoded_part(experiment: Experiment, figure: FigureSpec) -> str:
    """Of how much of the test sets a figure's WERs are, as a caption goes on; nothing where it is all."""
    first = experiment.decodes[figure.decode].get("utterances")
    if not first:
        return ""
    return f" All of it on the first {first:,} utterances of each test set, so that WERs differ from a table's."


def _chosen_on(results: Results, figure: FigureSpec) -> str:
    """Where the paths were chosen at which hollow markers stand, as the caption goes on; nothing without a choice."""
    rows = (
        measure_depth(results, system, depth, figure.decode)
        for system in figure.systems
        for depth in results.first_points(system).depths
    )
    sets = {name for row in rows for choice in row.choices if choice.how for name in choice.how.chosen_on}
    if not sets:
        return ""
    dev = results.experiment.dev_set
    return f" on the development set '{dev}'" if sets == {dev} else " on the test sets, as the paper chooses it"


def measured_curve(results: Results, system: str, decode: str) -> Curve:
    """All offered depths of one system, pooled over the test sets, averaged over seeds."""
    experiment = results.experiment
    curve = []
    for depth in results.first_points(system).depths:
        row = measure_depth(results, system, depth, decode)
        wers = tuple(
            tuple(
                results.counts(point, decode, experiment.test_sets).wer
                for point in offered_at(results, system, seed, depth)
            )
            for seed in results.seeds_of(system)
        )
        curve.append(Depth(depth, row.wer(), row.first.point.trained, wers))
    return Curve(system, tuple(curve))


def published_panels(results: Results, name: str) -> list[Published]:
    """The published WERs of the figure's systems, read off the table that it names, or else off the first Table 1.

    Raises `UserError` when it names a table without published WERs by depth.
    """
    tables, figure = results.whole.tables, results.experiment.figures[name]
    if figure.table is not None:
        table = tables[figure.table]
        if table.published not in COLUMNS:
            raise UserError(
                f"{results.folder / 'experiment.json'}: figures.{name}.table: '{figure.table}' has no published WER by "
                f"depth to draw; name a table that reproduces {' or '.join(COLUMNS)}"
            )
    else:
        table = next((t for t in tables.values() if t.kind == "table1" and t.published in COLUMNS), None)
    if table is None:
        return []
    printed = published_table(table.published)
    by_system = [
        [printed[name] for name, row in table.rows.items() if row.system == system and name in printed]
        for system in figure.systems
    ]
    baselines = {name for name, row in table.rows.items() if row.system in figure.baselines}
    panels = []
    for column, title in COLUMNS[table.published].items():
        curves = [
            _published_curve(system, rows, column) for system, rows in zip(figure.systems, by_system, strict=True)
        ]
        rest = [_published_depth(row, column, True) for name, row in printed.items() if name in baselines]
        panels.append(Published(title, tuple(curves), Curve("all-physical", tuple(rest))))
    return panels


def _published_curve(system: str, rows: list[dict[str, str]], column: str) -> Curve:
    depths = [int(row["inference_depth"]) for row in rows]
    ends = {min(depths), max(depths)} if depths else set()
    return Curve(system, tuple(_published_depth(row, column, int(row["inference_depth"]) in ends) for row in rows))


def _published_depth(row: dict[str, str], column: str, trained: bool) -> Depth:
    wer = float(row[column])
    return Depth(int(row["inference_depth"]), wer, trained, ((wer,),))


def figure_sensitivity(results: Results, figure: FigureSpec) -> Sensitivity | None:
    """The sensitivity that a figure shows, of the first seed. Raises `UserError` where it was not measured."""
    if figure.sensitivity is None:
        return None
    seed = results.seeds_of_study("sensitivity", figure.sensitivity)[0]
    found = results.sensitivity(figure.sensitivity, seed)
    if found is None:
        path = results.system_folder(figure.sensitivity, seed) / "sensitivity.json"
        raise UserError(f"{path}: no such file; the sensitivity of '{figure.sensitivity}' has not been measured")
    return found


def depth_curves(results: Results, name: str) -> dict[str, bytes]:
    """WER against executed depth, drawn."""
    import matplotlib
    from matplotlib.figure import Figure

    spec = results.experiment.figures[name]
    curves = [measured_curve(results, system, spec.decode) for system in spec.systems]
    baselines = [measured_curve(results, system, spec.decode).depths for system in spec.baselines]
    baseline = Curve("all-physical", tuple(sorted((d for depths in baselines for d in depths), key=lambda d: d.depth)))
    layers = [results.first_points(system).physical_layers for system in spec.systems]
    published, sensitivity = published_panels(results, name), figure_sensitivity(results, spec)
    rows, columns, size = LAYOUTS[1 + len(published) + (sensitivity is not None)]
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        panels = iter(figure.subplots(rows, columns, squeeze=False).flat)
        measured = next(panels)
        _draw(measured, curves, baseline)
        test_sets = ", ".join(results.experiment.test_sets)
        _title(measured, f"{results.experiment.name}: pooled over {test_sets}")
        if sensitivity:
            bars = next(panels)
            _draw_sensitivity(bars, sensitivity)
            _title(bars, sensitivity_title(results, sensitivity))
        for panel in published:
            axes = next(panels)
            _draw(axes, panel.curves, panel.baseline)
            _title(axes, f"published: {panel.title}")
        within = " (within a seed)" if results.several_seeds((*spec.systems, *spec.baselines)) else ""
        _legend(figure, spec, layers, f"mean ± sd over paths{within}")
        return saved(figure, results.experiment.named)


def _title(axes, text: str) -> None:
    """A panel's title, in as many lines as its width asks for."""
    axes.set_title(textwrap.fill(text, TITLE), loc="left")


def sensitivity_title(results: Results, found: Sensitivity) -> str:
    """What the bars show."""
    seed = f" (seed {found.seed})" if len(results.seeds_of_study("sensitivity", found.system)) > 1 else ""
    return f"{results.experiment.name}: {found.system}{seed} with one layer left out, on {found.set}"


def _draw_sensitivity(axes, found: Sensitivity) -> None:
    """A bar for each layer: what leaving it out adds to the full model's WER; above it its place in the drop order."""
    full = found.full.wer
    layers = [variant.layer for variant in found.without]
    added = [variant.counts.wer - full for variant in found.without]
    axes.bar(layers, added, color=BAR_COLOUR, width=0.72)
    line = axes.axhline(0, color=BASELINE_COLOUR, linewidth=1.4, label=f"full model: {full:.2f} %")
    for layer, value in zip(layers, added, strict=True):
        top = (layer, max(0.0, value))
        axes.annotate(str(found.rank(layer)), top, (0, 2), textcoords="offset points", ha="center", fontsize=8)
    reach = max([*map(abs, added), 0.1])
    axes.set_ylim(min([0.0, *added]) - 0.05 * reach, max([0.0, *added]) + 0.25 * reach)
    axes.set_xticks(layers)
    axes.set_xlabel("layer left out (number above: its place in the drop order)")
    axes.set_ylabel("increase of the WER (points)")
    axes.legend(handles=[line], loc="upper center", borderaxespad=0.0, framealpha=1.0, edgecolor="none")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)


def _draw(axes, curves: list[Curve], baseline: Curve) -> None:
    for index, curve in enumerate(curves):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        shift = 0.13 * (index - (len(curves) - 1) / 2)  # keep the whiskers of equal depths apart
        x = [d.depth + shift for d in curve.depths]
        low, high = ([d.mean + sign * d.spread for d in curve.depths] for sign in (-1, 1))
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


def _legend(figure, spec: FigureSpec, layers: list[int | None], band: str) -> None:
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
        Patch(color=grey, alpha=0.25, label=band),
        Line2D([], [], color=grey, marker="|", markersize=10, linestyle="", label="extremes"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _label(system: str, layers: int | None) -> str:
    return f"{system} ({layers} physical layers)" if layers else system
