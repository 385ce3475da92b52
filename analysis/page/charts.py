"""The numbers behind the report's charts: WER by depth, cost against WER, learning curves. The page draws them.

Everything is plain lists and dictionaries, ready for JSON: no NaN, no infinity.
"""

import json
import math
import statistics
from pathlib import Path
from typing import Any

from analysis.inputs.choice import offered_at
from analysis.inputs.results import Results
from analysis.inputs.schemas import Point
from analysis.scoring.counts import Counts
from analysis.significance.intervals import wer_interval
from analysis.tables.cost_points import CostPoint, cost_points
from analysis.tables.figures import decoded_part, figure_title, path_spread, published_panels
from analysis.tables.formats import Column, Table
from analysis.tables.rows import MeasuredRow, measure_depth, systems_in_order
from common.errors import UserError

KINDS = ("sub", "dele", "ins")
LONGEST_CURVE = 300  # points of one learning curve; longer logs are thinned out
AXES = [
    ("stored_bytes", "stored size", "B"),
    ("parameters_stored", "stored parameters", ""),
    ("macs", "MACs", "MAC"),
    ("real_time_factor", "real-time factor", ""),
    ("peak_memory_bytes", "peak memory", "B"),
]


def depth_chart(results: Results, name: str) -> dict[str, Any]:
    """One figure: for each system its depths, each with the reported path and all the others; the published curves."""
    spec = results.experiment.figures[name]
    chart: dict[str, Any] = {"name": name, "title": figure_title(results.whole, name)}
    chart["systems"] = [_system_depths(results, system, spec.decode) for system in spec.systems]
    chart["baselines"] = [
        depth["reported"] | {"paths": depth["paths"]}
        for system in spec.baselines
        for depth in _system_depths(results, system, spec.decode)["depths"]
    ]
    chart["baselines"].sort(key=lambda point: point["depth"])
    chart["published"] = _published(results, name)
    chart["note"] = _note(results, name)
    return chart


def _note(results: Results, name: str) -> str:
    """What is to be known of the numbers of one figure: its seeds, and of how much of the test sets they are."""
    spec = results.experiment.figures[name]
    seeds = results.several_seeds((*spec.systems, *spec.baselines))
    text = (
        f"Large markers are means over {seeds} seeds; dots and whiskers are of the paths of all seeds, bands of those "
        "within a seed."
    )
    return results.experiment.named((text if seeds else "") + decoded_part(results.experiment, spec)).strip()


def _system_depths(results: Results, system: str, decode: str) -> dict[str, Any]:
    found = results.first_points(system)
    return {
        "name": system,
        "layers": found.physical_layers,
        "depths": [_depth(results, system, decode, depth) for depth in found.depths],
    }


def _depth(results: Results, system: str, decode: str, depth: int) -> dict[str, Any]:
    """What the tables report of a depth, over all seeds, and every path of every seed."""
    row = measure_depth(results, system, depth, decode)
    chosen = {(choice.point.seed, choice.point.id) for choice in row.choices}
    offered = [p for seed in results.seeds_of(system) for p in offered_at(results, system, seed, depth)]
    paths = [_point(results, p, decode) | {"reported": (p.seed, p.id) in chosen} for p in offered]
    wers = [path["wer"] for path in paths]
    spread = path_spread([[path["wer"] for path in paths if path["seed"] == seed] for seed in row.seeds])
    return {"depth": depth, "reported": _reported(row), "paths": paths, "mean": statistics.fmean(wers), "sd": spread}


def _reported(row: MeasuredRow) -> dict[str, Any]:
    """A row's mean WER with its interval over seeds and speakers. Errors are sums over seeds, words counted once."""
    by_seed, estimate, point = row.counts_by_seed(), row.estimate(), row.first.point
    return {
        "system": point.system,
        "seed": point.seed,
        "seeds": len(by_seed),
        "id": point.id,
        "path": row.by_seed(choice.point.shown for choice in row.choices),
        "depth": point.depth,
        "trained": point.trained,
        "counts": [*(sum(getattr(c, kind) for c in by_seed) for kind in KINDS), by_seed[0].ref_words],
        "wer": row.wer(),
        "interval": [estimate.low, estimate.high],
    }


def _point(results: Results, point: Point, decode: str) -> dict[str, Any]:
    """One point with its counts, and the bootstrap interval of its own seed."""
    alignments = results.alignments(point, decode, results.experiment.test_sets)
    counts, interval = _counts(results, point, decode), wer_interval(alignments)
    return {
        "system": point.system,
        "seed": point.seed,
        "id": point.id,
        "path": point.shown,
        "depth": point.depth,
        "trained": point.trained,
        "counts": [counts.sub, counts.dele, counts.ins, counts.ref_words],
        "wer": counts.wer,
        "interval": [interval.low, interval.high],
    }


def _counts(results: Results, point: Point, decode: str) -> Counts:
    return results.counts(point, decode, results.experiment.test_sets)


def _published(results: Results, name: str) -> list[dict[str, Any]]:
    """The published WERs, a panel for each set that the paper gives apart."""

    def depths(curve):
        return [{"depth": d.depth, "wer": d.wer, "trained": d.trained} for d in curve.depths]

    return [
        {
            "title": panel.title,
            "systems": [{"name": curve.name, "depths": depths(curve)} for curve in panel.curves],
            "baselines": depths(panel.baseline),
        }
        for panel in published_panels(results, name)
    ]


def depth_table(chart: dict[str, Any], experiment: str) -> Table:
    """The same numbers as a table: one line for each path of each seed, with that seed's interval."""
    columns = [Column("system", "system", numeric=False), Column("depth", "depth"), Column("seed", "seed")]
    columns += [Column("path", "path", numeric=False), Column("role", "role", numeric=False)]
    columns += [Column(key, key) for key in ("sub", "del", "ins", "words")]
    columns += [Column("wer", "WER %"), Column("interval", "95 % interval"), Column("low"), Column("high")]
    rows = []
    for system in chart["systems"]:
        for depth in system["depths"]:
            rows += map(_depth_row, depth["paths"])
    rows += [_depth_row(path) for point in chart["baselines"] for path in point["paths"]]
    return Table(f"{chart['name']}_paths", f"WER of every path ({experiment})", columns, rows)


def _depth_row(point: dict[str, Any]) -> dict:
    low, high = point["interval"]
    roles = ["trained"] * point["trained"] + ["reported"] * point["reported"]
    return {
        **{key: point[key] for key in ("system", "depth", "seed", "path")},
        **dict(zip(("sub", "del", "ins", "words"), point["counts"], strict=True)),
        "role": ", ".join(roles),
        "wer": (point["wer"], f"{point['wer']:.2f}"),
        "interval": f"{low:.2f} to {high:.2f}",
        "low": low,
        "high": high,
    }


def cost_chart(results: Results) -> dict[str, Any] | None:
    """Cost against WER, family by family, as `cost_points` has it; None where nothing was measured.

    An axis is offered where one point at least has that cost; a point without it has null there, and the page names it.
    """
    points = cost_points(results)
    if not points:
        return None
    titles = results.experiment.family_titles(point.system for point in points)
    measured = [axis for axis in AXES if any(getattr(point.costs, axis[0]) is not None for point in points)]
    return {
        "axes": [{"key": key, "label": label, "unit": unit} for key, label, unit in measured],
        "families": [{"name": name, "title": title} for name, title in titles.items()],
        "points": [_cost_point(point) | {"seeds": len(results.seeds_of(point.system))} for point in points],
        "audio_seconds": points[-1].audio_seconds,
    }


def _cost_point(found: CostPoint) -> dict[str, Any]:
    values, point = found.costs.model_dump(), found.point
    real_time = found.costs.real_time_factor
    values["real_time_factor"] = None if real_time is None else real_time.median
    return {
        "system": point.system,
        "family": found.family,
        "depth": point.depth,
        "path": point.shown,
        "trained": point.trained,
        "in_table": found.in_table,
        "wer": found.wer,
        "costs": {key: values[key] for key, *_ in AXES},
    }


def learning_chart(results: Results) -> dict[str, Any] | None:
    """Every logged term of every trained system by step, `dev.` terms beside those of training; None without logs."""
    curves, terms = [], {}
    for system in systems_in_order(results):
        for seed in results.seeds_of(system):
            path = results.system_folder(system, seed) / "log.jsonl"
            if path.exists():
                curves.append({"system": system, "seed": seed, **_learning_curve(path)})
                terms.update(dict.fromkeys(term for kind in ("train", "dev") for term in curves[-1][kind]))
    if not curves:
        return None
    names = sorted(terms, key=lambda term: (term != "total", term == "learning_rate"))
    return {"terms": names, "curves": curves}


def _learning_curve(path: Path) -> dict[str, Any]:
    """`{"train": {term: [[step, value], ...]}, "dev": {...}, "stages": [[name, first step], ...]}`.

    Steps go on counting from one stage to the next.
    """
    curve: dict[str, Any] = {"train": {}, "dev": {}, "stages": []}
    before = last = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            stage, step = str(row.pop("stage")), int(row.pop("step"))
            row.pop("seconds", None)
            values = {term: float(value) for term, value in row.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: line {number}: not a line of a training log ({error!r})") from None
        if not curve["stages"] or curve["stages"][-1][0] != stage:
            before = last
            curve["stages"].append([stage, before])
        last = before + step
        for term, value in values.items():
            kind = "dev" if term.startswith("dev.") else "train"
            if math.isfinite(value):
                curve[kind].setdefault(term.removeprefix("dev."), []).append([last, value])
    for kind in ("train", "dev"):
        curve[kind] = {term: _thinned(points) for term, points in curve[kind].items()}
    return curve


def _thinned(points: list) -> list:
    step = math.ceil(len(points) / LONGEST_CURVE)
    kept = points[:: step or 1]
    return kept if not points or kept[-1] is points[-1] else [*kept, points[-1]]
