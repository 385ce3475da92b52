"""The paper's Table 1 and Table 4 with our numbers, the published ones beside them, and what is known about both.

Rows stand in the paper's order; a row that the experiment does not have shows only what was published, and rows of
our own (another method, say) follow at the end.
"""

from collections.abc import Mapping, Sequence

from analysis.choice import Choice
from analysis.contrasts import Estimate
from analysis.formats import MISSING, Column, Table
from analysis.intervals import Interval
from analysis.mapsswe import shown_p
from analysis.published import published_table, slips
from analysis.results import Results
from analysis.rows import Comparison, MeasuredRow, measure
from analysis.schemas import Experiment, TableSpec
from analysis.significance import holm
from common.errors import unknown

FEW, CONSTANT, FEW_SPEAKERS = "†", "‡", "§"

PUBLISHED_CELLS = {
    "hub5_00_swbd": "Hub5'00 SWBD",
    "hub5_00_callhm": "Hub5'00 CallHome",
    "rt02_swbd1": "RT02 SWBD1",
    "rt02_swbd2": "RT02 SWBD2",
    "rt02_swbd3_cellular": "RT02 SWBD3",
    "rt03_fsh": "RT03 FSH",
    "rt03_swbd": "RT03 SWBD",
}


def build_table(results: Results, name: str, spec: TableSpec) -> Table:
    """One table of the experiment, by its `kind`."""
    builders = {"table1": _table1, "table4": _table4}
    if spec.kind not in builders:
        raise unknown("kind", spec.kind, builders, f"{results.folder / 'experiment.json'}: tables.{name}.kind")
    rows = measure(results, name, spec)
    published = published_table(spec.published) if spec.published else {}
    order = [*published, *(row for row in rows if row not in published)]
    return builders[spec.kind](results.experiment, name, spec, order, rows, published)


def _table1(experiment: Experiment, name: str, spec: TableSpec, order: Sequence[str], rows, published) -> Table:
    columns = [
        *_identity_columns(),
        *[Column(f"wer_{test_set}", f"{test_set} WER %") for test_set in experiment.test_sets],
        *_pooled_columns(spec.reference, [*rows.values()]),
        Column("published_params_millions", "paper: params M"),
        *[Column(f"published_{key}", f"paper: {heading}", wide=True) for key, heading in PUBLISHED_CELLS.items()],
        Column("published_wer", "paper: Avg WER %"),
        Column("published_star"),
    ]
    body, comparisons = [], _comparisons(spec, rows)
    for row in order:
        printed = published.get(row, {})
        star = "*" if printed.get("no_sig_increase_star") == "1" else ""
        average = printed.get("avg_reported")
        body.append(
            {
                **_fallback_identity(row, printed),
                **_measured_cells(experiment, rows.get(row), comparisons.get(row, {})),
                **{f"published_{key}": printed.get(key) for key in [*PUBLISHED_CELLS, "params_millions"]},
                "published_wer": (average, f"{average}{star}" if average else None),
                "published_star": printed.get("no_sig_increase_star"),
            }
        )
    title = _title("Table 1: all-physical and foldable systems", experiment, name, "table1")
    return Table(name, title, columns, body, _notes(experiment, spec, rows))


def _table4(experiment: Experiment, name: str, spec: TableSpec, order: Sequence[str], rows, published) -> Table:
    columns = [
        *_identity_columns(),
        Column("training_loss", "training loss", numeric=False),
        Column("how", "how it is run", numeric=False),
        *_pooled_columns(spec.reference, [*rows.values()]),
        Column("relative_increase_pct", "relative increase %"),
        Column("published_wer", "paper: WER %"),
        Column("published_relative_increase_pct", "paper: relative increase %"),
    ]
    base = rows[spec.reference].pooled.wer
    body, comparisons = [], _comparisons(spec, rows)
    for row in order:
        printed = published.get(row, {})
        cells = {
            **_fallback_identity(row, printed),
            **_measured_cells(experiment, rows.get(row), comparisons.get(row, {})),
            "training_loss": printed.get("training_loss"),
            "how": printed.get("how"),
            "published_wer": printed.get("avg_wer"),
            "published_relative_increase_pct": printed.get("relative_increase_pct_reported"),
        }
        if row in rows and base:
            increase = 100.0 * (rows[row].pooled.wer - base) / base
            cells["relative_increase_pct"] = (increase, f"{increase:+.1f}")
        body.append(cells)
    title = _title("Table 4: training losses, and depths that were not trained", experiment, name, "table4")
    return Table(name, title, columns, body, _notes(experiment, spec, rows))


def _title(text: str, experiment: Experiment, name: str, usual_name: str) -> str:
    """Names the experiment, and the table where an experiment has several of the kind."""
    return f"{text} ({experiment.name})" if name == usual_name else f"{text} ({experiment.name}, {name})"


def _identity_columns() -> list[Column]:
    return [
        Column("sys", "Sys.", numeric=False),
        Column("system", "system", numeric=False),
        Column("physical_layers", "physical layers"),
        Column("depth", "depth"),
        Column("params_millions", "params M"),
    ]


def _pooled_columns(reference: str, rows: Sequence[MeasuredRow]) -> list[Column]:
    middle = any(len(row.first.candidates) > 1 for row in rows)
    seeds = max(len(row.choices) for row in rows)
    return [
        *[Column(key) for key in ("sub", "del", "ins", "ref_words")],
        Column("wer", "pooled WER %"),
        Column("wer_interval", "95 % interval", wide=True),
        *[Column(key) for key in ("wer_low", "wer_high", "wer_sd_over_seeds", "star")],
        Column("difference", f"minus Sys. {reference} [95 % interval]"),
        *[Column(key) for key in ("difference_low", "difference_high", "speakers", "z")],
        Column("difference_over_seeds", "mean over seeds [95 % interval]" if seeds > 1 else ""),
        *[Column(key) for key in ("difference_over_seeds_low", "difference_over_seeds_high")],
        Column("p", "MAPSSWE p"),
        Column("p_exact"),
        Column("p_holm", "Holm p" if len(rows) > 2 else ""),
        Column("segments", "segments"),
        Column("path", "path", numeric=False),
        Column("paths", "of paths" if middle else ""),
        Column("dev_path", "chosen on dev (WER %)" if middle else "", numeric=False),
        Column("dev_wer"),
        Column("seeds", "seeds"),
    ]


def _fallback_identity(row: str, printed: Mapping[str, str]) -> dict:
    """What a row is called even where we have nothing to show for it."""
    return {
        "sys": row,
        "system": printed.get("group"),
        "physical_layers": printed.get("physical_layers"),
        "depth": printed.get("inference_depth"),
    }


def _comparisons(spec: TableSpec, rows: Mapping[str, MeasuredRow]) -> dict[str, dict]:
    """The cells that compare each row with the reference row; Holm's correction is over all of them."""
    against = {name: row.against(rows[spec.reference]) for name, row in rows.items() if name != spec.reference}
    adjusted = holm([comparison.p for comparison in against.values()])
    return {name: _comparison_cells(against[name], p) for name, p in zip(against, adjusted, strict=True)}


def _measured_cells(experiment: Experiment, row: MeasuredRow | None, comparison: Mapping) -> dict:
    if row is None:
        return {}
    counts, point = row.pooled, row.first.point
    spread = row.seed_spread
    star = "*" if comparison.get("star") else ""
    text = f"{counts.wer:.2f}" + (f" ± {spread:.2f}" if spread is not None else "") + star
    parameters = row.parameters / 1e6 if row.parameters else None
    return {
        "system": row.row.system,
        "physical_layers": row.physical_layers,
        "depth": point.depth,
        "params_millions": (parameters, _millions(parameters)),
        **{f"wer_{test_set}": (rate := row.counts([test_set]).wer, f"{rate:.2f}") for test_set in experiment.test_sets},
        **counts.to_json(),
        "wer": (counts.wer, text),
        "wer_interval": f"{row.interval.low:.2f} to {row.interval.high:.2f}",
        "wer_low": row.interval.low,
        "wer_high": row.interval.high,
        "wer_sd_over_seeds": spread,
        "seeds": len(row.choices),
        **_path_cells(row),
        **comparison,
    }


def _path_cells(row: MeasuredRow) -> dict:
    choice: Choice = row.first
    cells = {"path": choice.point.shown, "paths": len(choice.candidates)}
    if len(choice.candidates) > 1:
        on_dev = row.on_dev
        cells["dev_path"] = "not decoded" if on_dev is None else choice.on_dev.shown
        if on_dev is not None:
            cells["dev_wer"] = on_dev.wer
            cells["dev_path"] = (choice.on_dev.shown, f"{choice.on_dev.shown} ({on_dev.wer:.2f})")
    return cells


def _comparison_cells(comparison: Comparison, adjusted_p: float) -> dict:
    test, interval, over_seeds = comparison.test, comparison.interval, comparison.over_seeds
    exact = "" if comparison.exact_p is None else f" (exact {shown_p(comparison.exact_p)})"
    mark = CONSTANT if test.constant_difference and test.mean else FEW if test.few_segments else ""
    return {
        "star": int(comparison.star),
        "difference": (comparison.difference, _difference(comparison.difference, interval)),
        "difference_low": interval.low,
        "difference_high": interval.high,
        "speakers": interval.units,
        "z": test.z,
        "p": (test.p, shown_p(test.p) + mark + exact),
        "p_exact": comparison.exact_p,
        "p_holm": (adjusted_p, shown_p(adjusted_p)),
        "segments": test.segments,
        **(_over_seeds_cells(over_seeds) if over_seeds else {}),
    }


def _over_seeds_cells(found: Estimate) -> dict:
    return {
        "difference_over_seeds": (found.value, f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"),
        "difference_over_seeds_low": found.low,
        "difference_over_seeds_high": found.high,
    }


def _difference(difference: float, interval: Interval) -> str:
    mark = FEW_SPEAKERS if interval.few_units else ""
    return f"{difference:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]{mark}"


def _millions(parameters: float | None) -> str:
    if parameters is None:
        return "not measured"
    return f"{parameters:.1f}" if parameters >= 10 else f"{parameters:.3f}"


def _notes(experiment: Experiment, spec: TableSpec, rows: Mapping[str, MeasuredRow]) -> list[str]:
    test_sets, seeds = ", ".join(experiment.test_sets), experiment.seeds
    notes = [
        f"WER in percent, from errors pooled over {test_sets} (decode: {spec.decode}), aligned as NIST's sclite does.",
        "The paper's numbers come from other data and larger systems: compare directions, not values.",
        f"* no significant increase over Sys. {spec.reference}: left out only where MAPSSWE (two-sided, p < 0.05, "
        "all test sets pooled) finds a difference and the system makes more errors.",
    ]
    if any(len(row.first.candidates) > 1 for row in rows.values()):
        notes.append(
            "A depth with several paths is represented by the path with the median pooled errors (the lower one of an "
            "even number), chosen on the test sets as in the paper; beside it stands the path that the same rule picks "
            f"on the development set '{experiment.dev_set}', with its test WER."
        )
    if len(seeds) > 1:
        notes.append(
            f"{len(seeds)} seeds: WERs are pooled over them, ± is their standard deviation; paths, tests and intervals "
            f"are those of seed {seeds[0]}, except the mean over seeds: its interval draws seeds, then speakers."
        )
    else:
        notes.append("One seed: intervals and tests say what other speech would give, not what another training would.")
    if len(rows) > 2:
        notes.append(
            f"Holm p: corrected for this table's {len(rows) - 1} comparisons; it starts from the exact p (sign-flip "
            "test) where one is shown, which is where MAPSSWE's own is weak."
        )
    notes.append(
        f"Intervals: paired bootstrap over speakers. {FEW} fewer than 30 segments, {FEW_SPEAKERS} fewer than 10 "
        f"speakers: the approximation is weak. {CONSTANT} every segment differs equally: the test says nothing. "
        f"{MISSING} does not apply, or is not part of this experiment."
    )
    if not experiment.evidence:
        notes.append("This experiment shows that the machinery works; it is no evidence about the method.")
    printed = slips(spec.published or "")
    return notes + [f"Paper, Sys. {row}: {note}" if row else f"Paper: {note}" for row, note in printed]
