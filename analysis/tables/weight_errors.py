"""Does a folded layer suffer more from the same error, executed twice? Errors in the weights, and what they do.

Noise of the size of rounding, once the same at all executions of a layer, once drawn for each; and rounding itself.
Numbers are means over draws and seeds; the dev set's.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from analysis.inputs.results import Results
from analysis.inputs.studies import ErrorEffect, WeightErrors
from analysis.tables.drawing import COLOURS, MARKERS, SETTINGS, saved
from analysis.tables.formats import Column, Table

TITLE = "Errors in the weights of a folded layer"
COLUMNS = [
    Column("system", "system", numeric=False),
    Column("depth", "depth"),
    Column("path", "path", numeric=False),
    Column("error", "error", numeric=False),
    Column("bits", "bits"),
    Column("executions", "executions of a layer", numeric=False),
    Column("draws", "draws"),
    Column("divergence", "KL, nats a frame"),
    *[Column(key) for key in ("divergence_low", "divergence_high")],
    Column("ctc_rise", "rise of the CTC loss, nats a token"),
    Column("wer", "WER %"),
]
NOT_APPLICABLE = "each runs once"
Measure = Callable[[ErrorEffect], float]
MEASURES: list[tuple[str, Measure, bool]] = [
    ("KL from the output without errors\n(nats a frame)", lambda effect: effect.divergence, True),
    ("rise of the CTC loss\n(nats a token)", lambda effect: effect.ctc_rise, False),
    ("WER (%)", lambda effect: effect.counts.wer, False),
]
"""What is drawn of an effect: its label, the number, and whether it spans powers of ten."""


@dataclass(frozen=True)
class Effects:
    """What one kind of error did at one point, over all draws and seeds."""

    system: str
    depth: int
    path: tuple[int, ...]
    error: str
    bits: int | None
    executions: str
    found: tuple[ErrorEffect, ...]

    def mean(self, of: Measure) -> float:
        return statistics.fmean(map(of, self.found))

    @property
    def point(self) -> str:
        return f"{self.system} at depth {self.depth}"


def weight_error_table(results: Results) -> Table:
    """One line for each kind of error at each point of the systems that figures show; none where none does."""
    effects = [each for system in results.experiment.shown_weight_errors for each in effects_of(results, system)]
    rows = [_cells(each) for each in effects]
    notes = [repetition(results, system) for system in results.experiment.shown_weight_errors]
    notes = [note for note in notes if note]
    if rows:
        notes += [
            "Dev set, greedy CTC, words as they were recognised. Noise: normal, in each matrix of the physical layers "
            "as large (root mean square) as what rounding to so many bits leaves. same: a layer has it at all its "
            "executions, as it has any error of stored weights; each: a new draw for each execution, which no stored "
            "weights could have; the first execution gets the same draw in both. KL: of the CTC distributions, true to "
            "disturbed.",
            *results.experiment.family_notes(results.experiment.shown_weight_errors),
        ]
    title = f"{TITLE} ({results.experiment.name})"
    return Table("weight_errors", title, COLUMNS, rows, notes)


def effects_of(results: Results, system: str) -> Iterator[Effects]:
    """What each kind of error did at each trained path of a system; first, at each, what is there without errors."""
    by_seed: list[WeightErrors] = [
        results.weight_errors(system, seed) for seed in results.seeds_of_study("weight errors", system)
    ]
    for number, point in enumerate(by_seed[0].points):
        same = [found.points[number] for found in by_seed]
        groups: dict[tuple[str, int | None, str], list[ErrorEffect]] = {}
        for each in same:
            for effect in [each.without, *each.errors]:
                groups.setdefault((effect.error, effect.bits, effect.executions), []).append(effect)
        for kind, found in groups.items():
            yield Effects(system, point.depth, point.path, *kind, tuple(found))


def repetition(results: Results, system: str) -> str | None:
    """How much more the same noise weighs than new noise at each execution, in words; None where nothing is repeated.

    With one seed over its draws, with several over seeds: the geometric mean of the ratios of divergences, with a t
    interval."""
    from scipy.stats import ttest_1samp

    ratios, deepest = [], None
    several = len(seeds := results.seeds_of_study("weight errors", system)) > 1
    for seed in seeds:
        point = max(results.weight_errors(system, seed).points, key=lambda each: each.depth)
        logs = _log_ratios(point.errors)
        if len(logs) < 2:
            return None
        deepest = point.depth
        ratios += [statistics.fmean(logs)] if several else logs
    over = f"{len(ratios)} seeds" if several else f"{len(ratios)} draws, one training"
    low, high = ttest_1samp(ratios, 0.0).confidence_interval(0.95)
    return (
        f"{system} at depth {deepest}: the same noise at all executions of a layer moves the output "
        f"{math.exp(statistics.fmean(ratios)):.2f} times as far (KL) as new noise at each (95 % interval "
        f"{math.exp(low):.2f} to {math.exp(high):.2f} over {over})."
    )


def _log_ratios(effects: Sequence[ErrorEffect]) -> list[float]:
    noise = [effect for effect in effects if effect.error == "noise"]
    same, each = ({e.draw: e.divergence for e in noise if e.executions == kind} for kind in ("same", "each"))
    return [math.log(same[draw] / value) for draw, value in each.items() if value > 0 and same[draw] > 0]


def _cells(effects: Effects) -> dict:
    divergence = [effect.divergence for effect in effects.found]
    wer, rise = effects.mean(lambda effect: effect.counts.wer), effects.mean(lambda effect: effect.ctc_rise)
    cells = {key: getattr(effects, key) for key in ("system", "depth", "error", "bits")}
    cells |= {"path": " ".join(map(str, effects.path)), "wer": (wer, f"{wer:.2f}")}
    if effects.error == "none":
        return cells
    mean, low, high = statistics.fmean(divergence), min(divergence), max(divergence)
    spread = f" [{low:.2g}, {high:.2g}]" if len(divergence) > 1 else ""
    return cells | {
        "executions": effects.executions if max(effects.path) > 1 else NOT_APPLICABLE,
        "draws": len(divergence),
        "divergence": (mean, f"{mean:.2g}{spread}"),
        "divergence_low": low,
        "divergence_high": high,
        "ctc_rise": (rise, f"{rise:+.4f}"),
    }


def caption(results: Results, name: str) -> str:
    """How the figure is to be read."""
    systems = results.experiment.figures[name].systems
    answers = [answer for system in systems if (answer := repetition(results, system))]
    seeds = sorted({len(results.seeds_of_study("weight errors", system)) for system in systems})
    over = f", {' or '.join(map(str, seeds))} seeds" if seeds[-1] > 1 else ""
    return " ".join(
        [
            "Above: normal noise as large as the error of 4-bit rounding, a dot for each draw, a bar for their mean. "
            "same: at all executions of a layer; each: new at each execution. Below: rounding to so many bits. Dotted: "
            f"without errors. Dev set{over}.",
            *answers,
        ]
    )


def draw(results: Results, name: str) -> dict[str, bytes]:
    """What errors do: to the output, to the loss, to the words; noise above, rounding below."""
    import matplotlib
    from matplotlib.figure import Figure

    effects = [each for system in results.experiment.figures[name].systems for each in effects_of(results, system)]
    points = list(dict.fromkeys(each.point for each in effects))
    looks = {point: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, point in enumerate(points)}
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(11.4, 6.6), layout="constrained")
        panels = figure.subplots(2, len(MEASURES))
        for column, (label, of, powers) in enumerate(MEASURES):
            _draw_noise(panels[0][column], effects, looks, of)
            _draw_rounding(panels[1][column], effects, looks, of)
            if powers and all(of(effect) > 0 for each in effects for effect in each.found if each.error == "rounding"):
                panels[1][column].set_yscale("log")
                panels[1][column].yaxis.set_major_formatter("{x:g}")
            for panel in panels[:, column]:
                panel.set_ylabel(label)
                panel.grid(axis="y", linewidth=0.4, alpha=0.6)
        panels[0][0].set_title(f"{results.experiment.name}: noise of the size of 4-bit rounding", loc="left")
        panels[1][0].set_title("rounding", loc="left")
        _legend(figure, looks)
        return saved(figure, results.experiment.named)


def _draw_noise(axes, effects: Sequence[Effects], looks: dict, of: Measure) -> None:
    shown = [each for each in effects if each.error == "noise"]
    for position, each in enumerate(shown):
        colour, marker = looks[each.point]
        values = [of(effect) for effect in each.found]
        step = 0.4 / max(len(values) - 1, 1)
        places = [position - 0.2 + step * number for number in range(len(values))]
        axes.plot(places, values, marker, color=colour, markersize=4, alpha=0.7)
        axes.hlines(statistics.fmean(values), position - 0.28, position + 0.28, color=colour, linewidth=2.0)
    labels = [f"{each.system}\n@{each.depth}\n{each.executions if max(each.path) > 1 else ''}" for each in shown]
    axes.set_xticks(range(len(shown)), labels)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _draw_rounding(axes, effects: Sequence[Effects], looks: dict, of: Measure) -> None:
    positions = {bits: place for place, bits in enumerate(_bits(effects))}
    for point, (colour, marker) in looks.items():
        own = [each for each in effects if each.point == point and each.error == "rounding"]
        values = [each.mean(of) for each in own]
        axes.plot(
            [positions[each.bits] for each in own], values, marker + "-", color=colour, markersize=5, linewidth=1.2
        )
        for each in effects:
            if each.point == point and each.error == "none" and each.mean(of):  # 0 is the axis
                axes.axhline(each.mean(of), color=colour, linestyle=":", linewidth=1.0)
    axes.set_xticks([*positions.values()], [f"{bits} bits" for bits in positions])


def _bits(effects: Sequence[Effects]) -> list[int]:
    return sorted({each.bits for each in effects if each.error == "rounding" and each.bits}, reverse=True)


def _legend(figure, looks: dict) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, label=point, linewidth=1.2)
        for point, (colour, marker) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
