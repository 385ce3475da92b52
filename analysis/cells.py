"""The measured cells of a table, and the columns they stand under: what a row is, its WERs, how it compares."""

from collections.abc import Mapping, Sequence

from analysis.choice import Choice
from analysis.contrasts import Estimate
from analysis.formats import Column
from analysis.intervals import Interval
from analysis.mapsswe import shown_p
from analysis.rows import Comparison, MeasuredRow
from analysis.schemas import TableSpec
from analysis.significance import holm

FEW, CONSTANT, FEW_SPEAKERS = "†", "‡", "§"


def identity_columns() -> list[Column]:
    """What a row is."""
    return [
        Column("sys", "Sys.", numeric=False),
        Column("system", "system", numeric=False),
        Column("physical_layers", "physical layers"),
        Column("depth", "depth"),
        Column("params_millions", "params M"),
    ]


def pooled_columns(reference: str, rows: Sequence[MeasuredRow], wer: str = "pooled WER %") -> list[Column]:
    """Counts, the WER they make (under the heading `wer`), its comparison with the reference row, the path."""
    middle = any(len(row.first.candidates) > 1 for row in rows)
    seeds = max(len(row.choices) for row in rows)
    return [
        *[Column(key) for key in ("sub", "del", "ins", "ref_words")],
        Column("wer", wer),
        Column("wer_interval", "95 % interval", wide=True),
        *[Column(key) for key in ("wer_low", "wer_high", "wer_sd_over_seeds", "star")],
        Column("difference", f"minus {reference} [95 % interval]"),
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


def set_columns(sets: Sequence[str], reference: str, corrected: bool) -> list[Column]:
    """The WER of each set with its star, and further off its comparison with the reference row; `corrected`: with
    Holm's p."""
    columns = []
    for name in sets:
        columns += [Column(f"wer_{name}", f"{name} WER %"), Column(f"star_{name}")]
    for name in sets:
        columns += [
            Column(f"difference_{name}", f"{name} minus {reference} [95 % interval]", wide=True),
            *[Column(f"{key}_{name}") for key in ("difference_low", "difference_high")],
            Column(f"p_{name}", f"{name} MAPSSWE p", wide=True),
            Column(f"p_exact_{name}"),
            Column(f"p_holm_{name}", f"{name} Holm p" if corrected else "", wide=True),
            Column(f"segments_{name}"),
        ]
    return columns


def row_cells(row: MeasuredRow, sets: Sequence[str]) -> dict:
    """What stands behind a row, and its WER on each of some sets."""
    parameters = row.parameters / 1e6 if row.parameters else None
    rates = {name: row.counts([name]).wer for name in sets}
    return {
        "system": row.row.system,
        "physical_layers": row.physical_layers,
        "depth": row.first.point.depth,
        "params_millions": (parameters, millions(parameters)),
        "seeds": len(row.choices),
        **{f"wer_{name}": (rate, f"{rate:.2f}") for name, rate in rates.items()},
    }


def wer_cells(row: MeasuredRow, sets: Sequence[str], comparison: Mapping) -> dict:
    """The WER of a row pooled over sets with interval and path, and its comparison with the reference row (or {})."""
    counts, spread, interval = row.counts(sets), row.seed_spread(sets), row.interval(sets)
    star = "*" if comparison.get("star") else ""
    text = f"{counts.wer:.2f}" + (f" ± {spread:.2f}" if spread is not None else "") + star
    return {
        **counts.to_json(),
        "wer": (counts.wer, text),
        "wer_interval": f"{interval.low:.2f} to {interval.high:.2f}",
        "wer_low": interval.low,
        "wer_high": interval.high,
        "wer_sd_over_seeds": spread,
        **_path_cells(row, sets),
        **comparison,
    }


def compared(spec: TableSpec, rows: Mapping[str, MeasuredRow], sets: Sequence[str]) -> dict[str, dict]:
    """The cells that compare each row with the reference row over sets, pooled; Holm's correction is over all rows."""
    against = {name: row.against(rows[spec.reference], sets) for name, row in _others(spec, rows)}
    adjusted = holm([comparison.p for comparison in against.values()])
    return {name: _comparison_cells(against[name], p) for name, p in zip(against, adjusted, strict=True)}


def compared_by_set(spec: TableSpec, rows: Mapping[str, MeasuredRow], sets: Sequence[str]) -> dict[str, dict]:
    """The cells that compare each row with the reference row on each set alone, stars and all.

    Holm's correction is over all cells, rows times sets: who looks for a star looks at all of them.
    """
    reference = rows[spec.reference]
    against = {(name, one): row.against(reference, [one]) for name, row in _others(spec, rows) for one in sets}
    adjusted = holm([comparison.p for comparison in against.values()])
    cells: dict[str, dict] = {name: {} for name in rows}
    for ((name, one), comparison), p in zip(against.items(), adjusted, strict=True):
        found = _comparison_cells(comparison, p)
        kept = ("star", "difference", "difference_low", "difference_high", "p", "p_exact", "p_holm", "segments")
        cells[name] |= {f"{key}_{one}": found[key] for key in kept}
        rate = rows[name].counts([one]).wer
        cells[name][f"wer_{one}"] = (rate, f"{rate:.2f}" + "*" * comparison.star)
    return cells


def _others(spec: TableSpec, rows: Mapping[str, MeasuredRow]) -> list[tuple[str, MeasuredRow]]:
    return [(name, row) for name, row in rows.items() if name != spec.reference]


def _path_cells(row: MeasuredRow, sets: Sequence[str]) -> dict:
    choice: Choice = row.first
    cells = {"path": choice.point.shown, "paths": len(choice.candidates)}
    if len(choice.candidates) > 1:
        on_dev = row.on_dev(sets)
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


def millions(parameters: float | None) -> str:
    """Millions of parameters as tables print them."""
    if parameters is None:
        return "not measured"
    return f"{parameters:.1f}" if parameters >= 10 else f"{parameters:.3f}"
