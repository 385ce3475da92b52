"""The measured cells of a table, and the columns they stand under: what a row is, its WERs, how it compares.

With several seeds the columns are other ones: each says what it is the mean, the sum or the list of, and no number of
one seed stands beside one of all. Where rows differ in their seeds, each number says how many are behind it.
"""

from collections.abc import Iterable, Mapping, Sequence

from analysis.inputs.schemas import TableSpec
from analysis.significance.comparison import Comparison, estimate_wer, mean_wer
from analysis.significance.contrasts import Estimate
from analysis.significance.exact import Significance, holm
from analysis.significance.mapsswe import shown_p
from analysis.tables.formats import Column
from analysis.tables.rows import MeasuredRow, most_seeds, point_costs, seeds_differ

FEW, CONSTANT, FEW_SPEAKERS = "†", "‡", "§"
Rows = Mapping[str, MeasuredRow]
"""The rows of a table by name."""


def identity_columns() -> list[Column]:
    """What a row is."""
    return [
        Column("sys", "Sys.", numeric=False),
        Column("system", "system", numeric=False),
        Column("physical_layers", "physical layers"),
        Column("depth", "depth"),
        Column("params_millions", "params M"),
        Column("stored_bytes", "stored kB"),
    ]


def pooled_columns(reference: str, rows: Sequence[MeasuredRow], of: str = "pooled") -> list[Column]:
    """Counts, the WER they make (headings say `of` what), its comparison with the reference row, the path."""
    middle = any(len(choice.candidates) > 1 for row in rows for choice in row.choices)
    beside = any(row.beside_dev for row in rows)
    seeds, unequal = most_seeds(rows), seeds_differ(rows)
    several = seeds > 1
    mean = f", mean {'over' if unequal else f'of {seeds}'} seeds" if several else ""
    counts = [f"{key}_over_seeds" if several else key for key in ("sub", "del", "ins")]
    tests = ["z"] if not several else []
    return [
        *[Column(key) for key in (*counts, "ref_words")],
        Column("wer", f"{of} WER %{mean} [95 % interval]"),
        *[Column(key) for key in ("wer_low", "wer_high")],
        *([Column("wer_by_seed", "WER by seed")] if several else []),
        Column("star", "* in seeds" if several else ""),
        Column("difference", f"{of} minus {reference} [95 % interval]"),
        *[Column(key) for key in ("difference_low", "difference_high", "units", *tests)],
        Column("p", "p" if several else "MAPSSWE p"),
        *([] if several else [Column("p_exact")]),
        Column("p_holm", "Holm p" if len(rows) > 2 else ""),
        *(_columns_by_seed() if several else [Column("segments", "segments")]),
        Column("path", "path", numeric=False),
        Column("paths", "of paths" if middle else ""),
        Column("dev_path", "chosen on dev (WER %)" if beside else "", numeric=False),
        *[Column(key) for key in ("dev_wer", "dev_wer_low", "dev_wer_high")],
        Column("seeds", "seeds"),
        Column("seeds_compared", "seeds compared" if unequal else "", numeric=False),
    ]


def _columns_by_seed(name: str = "") -> list[Column]:
    """The tests within each seed, of one set or of all pooled."""
    end, on = (f"_{name}", f"{name} ") if name else ("", "")
    return [
        Column(f"p_by_seed{end}", f"{on}MAPSSWE p by seed", numeric=False),
        Column(f"segments_by_seed{end}", f"{on}segments by seed", numeric=False),
    ]


def wer_columns(sets: Sequence[str], rows: Rows, starred: bool = False) -> list[Column]:
    """The WER of each set, with its interval and, if `starred`, its star."""
    columns, several = [], most_seeds(rows.values()) > 1
    for name in sets:
        columns += [Column(f"wer_{name}", f"{name} WER %")]
        columns += [Column(f"star_{name}", f"{name} * in seeds" if several else "")] if starred else []
    for name in sets:
        columns += [Column(f"wer_interval_{name}", f"{name} 95 % interval" if several else "")]
        columns += [Column(f"{key}_{name}") for key in ("wer_low", "wer_high")]
    return columns


def set_columns(sets: Sequence[str], reference: str, corrected: bool, rows: Rows) -> list[Column]:
    """The WER of each set with its star, and further off its comparison with the reference row; `corrected`: with
    Holm's p."""
    columns, several = wer_columns(sets, rows, starred=True), most_seeds(rows.values()) > 1
    for name in sets:
        columns += [
            Column(f"difference_{name}", f"{name} minus {reference} [95 % interval]"),
            *[Column(f"{key}_{name}") for key in ("difference_low", "difference_high")],
            Column(f"p_{name}", f"{name} p" if several else f"{name} MAPSSWE p"),
            *([] if several else [Column(f"p_exact_{name}")]),
            Column(f"p_holm_{name}", f"{name} Holm p" if corrected else ""),
            *(_columns_by_seed(name) if several else [Column(f"segments_{name}")]),
        ]
    return columns


def row_cells(row: MeasuredRow, rows: Rows, sets: Sequence[str]) -> dict:
    """What stands behind a row, and its WER on each of some sets; `rows` are all of the table."""
    parameters = [stored / 1e6 if stored else None for stored in row.parameters]
    shown = row.by_seed(map(millions, parameters))
    cells = {
        "system": row.row.system,
        "physical_layers": row.physical_layers,
        "depth": row.first.point.depth,
        "params_millions": (parameters[0] if len({*parameters}) == 1 else shown, shown),
        "seeds": len(row.seeds),
        **_size_cells(row),
    }
    for name in sets:
        rate, estimate = row.wer([name]), row.estimate([name])
        cells[f"wer_{name}"] = (rate, f"{rate:.2f}{_seeds(row.seeds, rows)}")
        cells |= {
            f"wer_interval_{name}": f"{estimate.low:.2f} to {estimate.high:.2f}",
            f"wer_low_{name}": estimate.low,
            f"wer_high_{name}": estimate.high,
        }
    return cells


def _size_cells(row: MeasuredRow) -> dict:
    """What the row's point takes on disk, once where all seeds have the same; nothing where it was not measured."""
    costs = [point_costs(row.results, choice) for choice in row.choices]
    if not all(costs):
        return {}
    sizes, bits = [each.stored_bytes for each in costs], [each.bits_a_weight for each in costs]
    shown = {"stored_bytes": (sizes, [f"{size / 1e3:,.0f}" for size in sizes])}
    if None not in bits:
        shown["bits_a_weight"] = (bits, [f"{each:.4g}" for each in bits])
    listed = {key: (values, row.by_seed(texts)) for key, (values, texts) in shown.items()}
    return {key: (values[0] if len({*values}) == 1 else text, text) for key, (values, text) in listed.items()}


def wer_cells(row: MeasuredRow, rows: Rows, sets: Sequence[str], comparison: Mapping) -> dict:
    """The WER of a row pooled over sets with interval and path, and its comparison with the reference row (or {});
    `rows` are all of the table."""
    by_seed, rate, estimate = row.counts_by_seed(sets), row.wer(sets), row.estimate(sets)
    several = most_seeds(rows.values()) > 1
    star = "" if several else "*" * comparison.get("star", 0)  # with several seeds a column of its own
    cells = {
        "wer": (rate, f"{rate:.2f}{star} [{estimate.low:.2f}, {estimate.high:.2f}]{_seeds(row.seeds, rows)}"),
        "wer_low": estimate.low,
        "wer_high": estimate.high,
        **_path_cells(row, sets),
    }
    if not several:
        cells |= by_seed[0].to_json()
    else:
        sums = {f"{key}_over_seeds": sum(c.to_json()[key] for c in by_seed) for key in ("sub", "del", "ins")}
        rates = [counts.wer for counts in by_seed]
        cells |= {
            **sums,
            "ref_words": by_seed[0].ref_words,
            "wer_by_seed": _list_cell(rates, map("{:.2f}".format, rates)),
        }
    return {**cells, **comparison}


def compared(spec: TableSpec, rows: Rows, sets: Sequence[str]) -> dict[str, dict]:
    """The cells that compare each row with its reference row over sets, pooled; Holm's correction is over all rows.
    Rows that have no seed in common are not compared."""
    found = {name: row.against(reference, sets) for name, row, reference in _pairs(spec, rows)}
    against = {name: comparison for name, comparison in found.items() if comparison is not None}
    adjusted = holm([comparison.p for comparison in against.values()])
    return {name: _comparison_cells(against[name], rows, p) for name, p in zip(against, adjusted, strict=True)}


def compared_by_set(spec: TableSpec, rows: Rows, sets: Sequence[str]) -> dict[str, dict]:
    """The cells that compare each row with its reference row on each set alone, stars and all.

    Holm's correction is over all cells, rows times sets: who looks for a star looks at all of them.
    """
    pairs = _pairs(spec, rows)
    found = {(name, one): row.against(reference, [one]) for name, row, reference in pairs for one in sets}
    against = {key: comparison for key, comparison in found.items() if comparison is not None}
    adjusted = holm([comparison.p for comparison in against.values()])
    cells: dict[str, dict] = {name: {} for name in rows}
    for ((name, one), comparison), p in zip(against.items(), adjusted, strict=True):
        cells[name] |= {f"{key}_{one}": value for key, value in _comparison_cells(comparison, rows, p).items()}
        if most_seeds(rows.values()) == 1:
            rate = mean_wer(comparison.ours)
            cells[name][f"wer_{one}"] = (rate, f"{rate:.2f}" + "*" * comparison.stars)
    return cells


def _seeds(seeds: Sequence[int], rows: Rows) -> str:
    """How many seeds a number is over, where not all rows of its table have the same."""
    return f" ({len(seeds)} seed{'s' * (len(seeds) > 1)})" if seeds_differ(rows.values()) else ""


def _pairs(spec: TableSpec, rows: Rows) -> list[tuple[str, MeasuredRow, MeasuredRow]]:
    """Each row that is compared, by its name, with its reference row."""
    found = [(name, row, spec.reference_of(name)) for name, row in rows.items()]
    return [(name, row, rows[reference]) for name, row, reference in found if reference is not None]


def _path_cells(row: MeasuredRow, sets: Sequence[str]) -> dict:
    paths = row.by_seed(choice.point.shown for choice in row.choices)
    cells = {"path": paths, "paths": row.by_seed(len(choice.candidates) for choice in row.choices)}
    if row.beside_dev:
        on_dev = row.on_dev(sets)
        cells["dev_path"] = "not decoded"
        if on_dev is not None:
            shown, rate, estimate = (
                row.by_seed(c.on_dev.shown for c in row.choices),
                mean_wer(on_dev),
                estimate_wer(on_dev),
            )
            interval = f" [{estimate.low:.2f}, {estimate.high:.2f}]" if len(on_dev) > 1 else ""
            cells |= {"dev_wer": rate, "dev_wer_low": estimate.low, "dev_wer_high": estimate.high}
            cells["dev_path"] = (shown, f"{shown} ({rate:.2f}{interval})")
    return cells


def _comparison_cells(comparison: Comparison, rows: Rows, adjusted_p: float) -> dict:
    estimate, (low, high) = comparison.estimate, comparison.interval
    difference = _difference(comparison.difference, estimate) + _seeds(comparison.of_seeds, rows)
    cells = {
        "star": comparison.stars,
        "difference": (comparison.difference, difference),
        "seeds_compared": ", ".join(map(str, comparison.of_seeds)),
        "difference_low": low,
        "difference_high": high,
        "units": estimate.units,
        "p_holm": (adjusted_p, shown_p(adjusted_p)),
    }
    if most_seeds(rows.values()) == 1:
        (found,) = comparison.tests
        test = found.mapsswe
        return cells | {"z": test.z, "p": (test.p, _tested(found)), "p_exact": found.exact_p, "segments": test.segments}
    cells["star"] = (comparison.stars, "* " * (comparison.stars > 0) + f"{comparison.stars}/{comparison.seeds}")
    cells["p"] = (comparison.p, shown_p(comparison.p))
    cells["p_by_seed"] = _list_cell([test.p for test in comparison.tests], map(_tested, comparison.tests))
    segments = [test.mapsswe.segments for test in comparison.tests]
    cells["segments_by_seed"] = _list_cell(segments, map(str, segments))
    return cells


def _list_cell(values: Iterable[float], texts: Iterable[str]) -> tuple[str, str]:
    """One value a seed: for CSV, and as people read them."""
    return ";".join(f"{value:.6g}" for value in values), ", ".join(texts)


def _tested(found: Significance) -> str:
    """The p of one seed's tests as a table shows it: MAPSSWE's with its mark, and the exact one where it counts."""
    test = found.mapsswe
    exact = "" if found.exact_p is None else f" (exact {shown_p(found.exact_p)})"
    mark = CONSTANT if test.constant_difference and test.mean else FEW if test.few_segments else ""
    return shown_p(test.p) + mark + exact


def _difference(difference: float, estimate: Estimate) -> str:
    mark = FEW_SPEAKERS if estimate.few_units else ""
    return f"{difference:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]{mark}"


def millions(parameters: float | None) -> str:
    """Millions of parameters as tables print them."""
    if parameters is None:
        return "not measured"
    return f"{parameters:.1f}" if parameters >= 10 else f"{parameters:.3f}"
