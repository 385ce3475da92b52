"""The paper's tables with our numbers, the published ones beside them, and what is known about both.

Rows stand in the paper's order; a row that the experiment does not have shows only what was published, and rows of
our own (another method, say) follow at the end.
"""

from collections.abc import Mapping

from analysis.inputs.published import published_table
from analysis.inputs.results import Results
from analysis.inputs.schemas import TableSpec
from analysis.significance.comparison import Comparison, mean_wer
from analysis.tables.cells import (
    compared,
    compared_by_set,
    identity_columns,
    pooled_columns,
    row_cells,
    set_columns,
    wer_cells,
    wer_columns,
)
from analysis.tables.content import Content
from analysis.tables.formats import Column, Table, brief
from analysis.tables.notes import notes_by_set, notes_of_methods, pooled_notes
from analysis.tables.own import own_table
from analysis.tables.rows import MeasuredRow, measure
from analysis.tables.statistics import published_row, statistics_cells, statistics_columns, statistics_notes
from common.errors import unknown

PROTOCOLS = {"fine_tuned": "full fine-tuning", "superb": "SUPERB: frozen encoder"}
"""How the WERs of Table 3 came about, by the names of the published file."""
OURS = "fine_tuned"


def build_table(results: Results, name: str, spec: TableSpec) -> Table:
    """One table of the experiment, by its `kind`."""
    builders = {"table1": _table1, "table2": _table2, "table3": _table3, "table4": _table4, "systems": own_table}
    if spec.kind not in builders:
        raise unknown("kind", spec.kind, builders, f"{results.folder / 'experiment.json'}: tables.{name}.kind")
    rows = measure(results, name, spec)
    published = published_table(spec.published) if spec.published else {}
    order = [*published, *(row for row in rows if row not in published)]
    return builders[spec.kind](Content(results, name, spec, order, rows, published))


def _table1(content: Content) -> Table:
    test_sets, rows = content.experiment.test_sets, content.rows
    columns = [
        *identity_columns(),
        *wer_columns(content.sets, rows),
        *pooled_columns(f"Sys. {content.spec.reference}", [*rows.values()]),
        Column("published_params_millions", "paper: params M"),
        *[Column(f"published_{key}", f"paper: {heading}") for key, heading in content.cells.items()],
        Column("published_wer", "paper: Avg WER %"),
        Column("published_star"),
    ]
    body, comparisons = [], compared(content.spec, rows, test_sets)
    for row in content.order:
        printed = content.published.get(row, {})
        star = "*" if printed.get("no_sig_increase_star") == "1" else ""
        average = printed.get("avg_reported")
        cells = {
            **_fallback_identity(row, printed),
            **{f"published_{key}": printed.get(key) for key in [*content.cells, "params_millions"]},
            "published_wer": (average, f"{average}{star}" if average else None),
            "published_star": printed.get("no_sig_increase_star"),
        }
        if row in rows:
            cells |= row_cells(rows[row], rows, content.sets) | wer_cells(
                rows[row], rows, test_sets, comparisons.get(row, {})
            )
        body.append(cells)
    title = content.title("Table 1: all-physical and foldable systems")
    pairs = [("wer", "published_wer", "")]
    needed = ["sys", "system", "physical_layers", "depth", "params_millions"]
    needed += ["wer", "star", "difference", "p", "published_wer", "p_holm"]
    return Table(content.name, title, brief(columns, *needed), body, pooled_notes(content), pairs)


def _table2(content: Content) -> Table:
    test_sets, rows, reference = content.experiment.test_sets, content.rows, f"Sys. {content.spec.reference}"
    corrected = (len(rows) - 1) * len(content.sets) > 1
    columns = [
        *identity_columns(),
        *set_columns(content.sets, reference, corrected, rows),
        *pooled_columns(reference, [*rows.values()]),
        Column("published_params_millions", "paper: params M"),
        *[Column(f"published_{key}", f"paper: {heading} WER %") for key, heading in content.cells.items()],
        *[Column(f"published_star_{key}") for key in content.cells],
    ]
    cells_compared = compared_by_set(content.spec, rows, content.sets)
    pooled_compared = compared(content.spec, rows, test_sets)
    body = []
    for row in content.order:
        printed = content.published.get(row, {})
        cells = _fallback_identity(row, printed) | {"published_params_millions": printed.get("params_millions")}
        starred = printed.get("no_sig_increase_star_cells", "").split(";")
        for key in content.cells if printed else []:
            cells[f"published_{key}"] = (printed[key], printed[key] + "*" * (key in starred))
            cells[f"published_star_{key}"] = int(key in starred)
        if row in rows:
            cells |= row_cells(rows[row], rows, content.sets) | cells_compared[row]
            cells |= wer_cells(rows[row], rows, test_sets, pooled_compared.get(row, {}))
        body.append(cells)
    title = content.title("Table 2: all-physical and foldable speech foundation models")
    pairs = [(f"wer_{name}", f"published_{name}", name) for name in content.sets if name in content.cells]
    return Table(content.name, title, brief(columns, *_needed_by_set(content)), body, notes_by_set(content), pairs)


def _needed_by_set(content: Content) -> list[str]:
    """The keys of Table 2 in the order of need: two sets, what the paper has of two, and how they differ pooled."""
    first, rest = content.sets[:2], content.sets[2:]
    needed = ["sys", "system", "depth", *(key for name in first for key in (f"wer_{name}", f"star_{name}"))]
    needed += [f"published_{key}" for key in [*content.cells][:2]]
    needed += ["difference", "params_millions", "physical_layers"]
    return [*needed, *(key for name in rest for key in (f"wer_{name}", f"star_{name}")), "wer", "p"]


def _table3(content: Content) -> Table:
    rows, test_set = content.rows, content.sets[0]
    compares = {"star", "difference", "p", "segments", "p_by_seed", "segments_by_seed"}
    left_out = compares if len(rows) == 1 else set()
    columns = [
        Column("method", "method", numeric=False),
        Column("system", "system", numeric=False),
        Column("protocol", "protocol of the WER", numeric=False),
        Column("models_in_memory", "models in memory when training", numeric=False),
        Column("depth_range", "supported depths", numeric=False),
        Column("supported_depths", "number of depths"),
        Column("train_hours", "training data h"),
        Column("params_millions", "params M"),
        Column("set"),
        *[
            column
            for column in pooled_columns(content.spec.reference, [*rows.values()], of=test_set)
            if column.key not in left_out
        ],
        Column("published_params_millions", "paper: params M"),
        Column("published_wer", "paper: test-clean WER %"),
    ]
    body, comparisons = [], compared(content.spec, rows, [test_set])
    for row in content.order:
        printed = content.published.get(row, {})
        cells = {
            "method": row,
            "protocol": _protocol(row in rows, printed.get("protocol")),
            "models_in_memory": printed.get("models_in_memory_when_training"),
            "depth_range": printed.get("supported_depth_range"),
            "supported_depths": printed.get("n_supported_depths"),
            "train_hours": printed.get("train_hours"),
            "published_params_millions": printed.get("params_millions"),
            "published_wer": printed.get("wer_test_clean"),
        }
        if row in rows:
            cells |= row_cells(rows[row], rows, []) | _training_cells(content, rows[row]) | {"set": test_set}
            cells |= wer_cells(rows[row], rows, [test_set], comparisons.get(row, {}))
        body.append(cells)
    title = content.title("Table 3: compressed speech foundation models")
    needed = ["method", "system", "params_millions", "wer", "star", "difference"]
    needed += ["published_params_millions", "published_wer", "depth_range", "protocol", "models_in_memory"]
    return Table(content.name, title, brief(columns, *needed), body, notes_of_methods(content, test_set))


def _protocol(measured: bool, published: str | None) -> str | None:
    """How the WERs of a row came about: ours, the published one, both where they differ."""
    if measured and published not in (None, OURS):
        return f"ours: {PROTOCOLS[OURS]}; paper: {PROTOCOLS[published]}"
    return PROTOCOLS[OURS] if measured else PROTOCOLS.get(published or "")


def _training_cells(content: Content, row: MeasuredRow) -> dict:
    """What a system of ours needs for its training, and the depths it can then be run at."""
    depths, seconds = row.depths, content.results.corpus.get("sets", {}).get("train", {}).get("seconds")
    whole = f"{depths[0]}~{depths[-1]}" if len(depths) > 1 else "".join(map(str, depths))
    return {
        "models_in_memory": _models_in_memory(content.results, row),
        "depth_range": whole,
        "supported_depths": len(depths) or None,
        "train_hours": None if seconds is None else (seconds / 3600, f"{seconds / 3600:.3g}"),
    }


def _models_in_memory(results: Results, row: MeasuredRow) -> str:
    """`3-layer model`, and what else a method holds while it trains: `+ teacher w12 (12 layers)`."""

    def layers(system: str) -> int | None:
        """None for a system that was trained for others alone."""
        seed, known = row.first.point.seed, system in results.experiment.systems
        return results.points(system, seed).physical_layers if known and seed in results.seeds_of(system) else None

    own = f"{row.physical_layers}-layer model" if row.physical_layers else "one model"
    helpers = results.experiment.systems[row.row.system].helpers
    return " + ".join(
        [own, *(f"{role} {name}" + (f" ({n} layers)" if (n := layers(name)) else "") for role, name in helpers.items())]
    )


def _table4(content: Content) -> Table:
    test_sets, rows = content.experiment.test_sets, content.rows
    columns = [
        *identity_columns(),
        Column("training_loss", "training loss", numeric=False),
        Column("how", "how it is run", numeric=False),
        *statistics_columns(rows.values()),
        *pooled_columns(f"Sys. {content.spec.reference}", [*rows.values()]),
        Column("relative_increase_pct", "relative increase %"),
        Column("published_wer", "paper: WER %"),
        Column("published_relative_increase_pct", "paper: relative increase %"),
    ]
    body, comparisons = [], compared(content.spec, rows, test_sets)
    for row in content.order:
        printed = content.published.get(row, {})
        same = content.published.get(published_row(row, content.published) or row, {})
        cells = {
            **_fallback_identity(row, printed),
            "training_loss": same.get("training_loss"),
            "how": same.get("how"),
            "published_wer": printed.get("avg_wer"),
            "published_relative_increase_pct": printed.get("relative_increase_pct_reported"),
        }
        if row in rows:
            cells |= row_cells(rows[row], rows, []) | wer_cells(rows[row], rows, test_sets, comparisons.get(row, {}))
            cells |= statistics_cells(rows[row])
            cells |= _relative_increase(rows[row].against(rows[content.spec.reference], test_sets))
        body.append(cells)
    title = content.title("Table 4: training losses, and depths that were not trained")
    pairs = [("wer", "published_wer", "")]
    notes = [*statistics_notes(rows, content.published), *pooled_notes(content)]
    needed = ["sys", "system", "depth", "how", "batch_norm_statistics", "wer", "star", "difference"]
    needed += ["relative_increase_pct", "published_relative_increase_pct", "p", "published_wer"]
    return Table(content.name, title, brief(columns, *needed), body, notes, pairs)


def _relative_increase(found: Comparison | None) -> dict:
    """By how much a row's errors exceed those of its reference row, over the seeds that both have."""
    base = mean_wer(found.theirs) if found else 0.0
    if not found or not base:
        return {}
    increase = 100.0 * found.difference / base
    return {"relative_increase_pct": (increase, f"{increase:+.1f}")}


def _fallback_identity(row: str, printed: Mapping[str, str]) -> dict:
    """What a row is called even where we have nothing to show for it."""
    return {
        "sys": row,
        "system": printed.get("group"),
        "physical_layers": printed.get("physical_layers"),
        "depth": printed.get("inference_depth"),
    }
