"""What each system of the tables costs to store and to run, as measured with nothing else running on the machine."""

from collections.abc import Iterable, Mapping

from analysis.inputs.results import Results
from analysis.inputs.schemas import PointCosts
from analysis.tables.formats import Column, Table, brief
from analysis.tables.rows import measure, point_costs

NEEDED = ["system", "depth", "parameters_stored", "stored_bytes", "macs", "real_time_factor", "peak_memory_bytes"]
NEEDED += ["wer", "training_peak_memory_bytes", "training_seconds"]
COLUMNS = [
    Column("system", "system", numeric=False),
    Column("depth", "depth"),
    Column("path", "path", numeric=False),
    Column("parameters_stored", "stored parameters"),
    Column("parameters_executed", "executed parameters"),
    Column("stored_bytes", "stored kB"),
    Column("macs", "GMACs"),
    Column("real_time_factor", "real-time factor"),
    Column("peak_memory_bytes", "peak memory MB"),
    Column("training_peak_memory_bytes", "training memory MB"),
    Column("training_step_seconds", "training step s"),
    Column("training_seconds", "training s"),
    Column("wer", "WER %"),
    *[Column(key) for key in ("wer_low", "wer_high")],
]


def cost_table(results: Results) -> Table:
    """One line for each point that stands in a table, first seed, once. Points without measured costs show none."""
    rows, named, audio_seconds = {}, [], set()
    measured_on: dict[str, dict[str, None]] = {}
    counted_alone: dict[str, None] = {}
    for name, spec in results.experiment.tables.items():
        for row in measure(results, name, spec).values():
            point = row.first.point
            named.append(point.depth is not None and not point.settings)
            costs = point_costs(results, row.first)
            rows.setdefault((point.system, point.id), _cells(point, costs, row))
            if costs:
                measured = results.costs(point.system, point.seed)
                measured_on.setdefault(measured.machine, {})[point.system] = None
                audio_seconds.add(measured.audio_seconds)
                if costs.real_time_factor is None:
                    counted_alone[point.system] = None
    notes = [
        (
            "MACs are half the FLOPs, counted with eager attention. Real-time factor: processing time by audio time, "
            "median of at least 5 repeats after warm-up. 1 kB = 1000 bytes, 1 MB = 1 000 000 bytes."
        ),
        (
            "Memory: what the model and its inputs need at most, to recognise one utterance, or for a training step on "
            "the largest batch. Training step: on a batch of median size, measured alone; training: all steps of the "
            "system's own stages at that rate (before a pass sets in, at that of a step without it), without reading "
            "data, validation and the systems it starts from."
        ),
        (
            f"Measured on: {machines(measured_on) or 'nothing was measured'}; "
            f"seconds of audio: {', '.join(f'{s:g}' for s in sorted(audio_seconds)) or '–'}."
        ),
    ]
    if counted_alone:
        notes.append(
            "Times and memory are measured of a system's first seed, which is not among those shown of "
            f"{', '.join(counted_alone)}: counted alone."
        )
    systems = {system for system, _ in rows}
    if several := [number for number in results.numbers_of_seeds(systems) if number > 1]:
        notes.append(
            f"{' or '.join(map(str, several))} seeds: paths and costs are those of seed {results.first_seeds(systems)}"
            "; a WER is the mean over seeds of what stands for the row, with its 95 % interval over seeds and "
            f"{results.experiment.resampled}."
        )
    notes += results.experiment.family_notes(system for system, _ in rows)
    title = f"Costs of the points in the tables ({results.experiment.name})"
    unnamed = not all(named)  # only its label tells such a point from others
    needed = ["system", "path", *NEEDED[1:]] if unnamed else NEEDED
    return Table("costs", title, brief(COLUMNS, *needed), [*rows.values()], notes)


def machines(measured_on: Mapping[str, Iterable[str]]) -> str:
    """On what which systems were measured: of several machines, each with its systems."""
    if len(measured_on) < 2:
        return "".join(measured_on)
    each = "; ".join(f"{machine} ({', '.join(systems)})" for machine, systems in sorted(measured_on.items()))
    return f"{each}; times of one machine are not to be compared with those of another"


def _cells(point, costs: PointCosts | None, row) -> dict:
    cells = {"system": point.system, "depth": point.depth, "path": point.shown}
    wer, interval = row.wer(), row.estimate()
    several = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.seeds > 1 else ""
    cells |= {"wer": (wer, f"{wer:.2f}{several}"), "wer_low": interval.low, "wer_high": interval.high}
    if not costs:
        return {**cells, "parameters_stored": (None, "not measured")}
    return {
        **cells,
        "parameters_stored": (costs.parameters_stored, f"{costs.parameters_stored:,}"),
        "parameters_executed": (costs.parameters_executed, f"{costs.parameters_executed:,}"),
        "stored_bytes": (costs.stored_bytes, f"{costs.stored_bytes / 1e3:,.0f}"),
        "macs": (costs.macs, f"{costs.macs / 1e9:.3f}"),
        **_measured_cells(costs),
    }


def _measured_cells(costs: PointCosts) -> dict:
    """What recognition and training took; nothing where that was not measured."""
    cells = {}
    if costs.real_time_factor is not None:
        real_time = costs.real_time_factor.median
        cells["real_time_factor"] = (real_time, f"{real_time:.4f}")
    if costs.peak_memory_bytes is not None:
        cells["peak_memory_bytes"] = (costs.peak_memory_bytes, f"{costs.peak_memory_bytes / 1e6:,.0f}")
    if costs.training_peak_memory_bytes is not None:
        peak = costs.training_peak_memory_bytes
        cells["training_peak_memory_bytes"] = (peak, f"{peak / 1e6:,.0f}")
    if costs.training_step_seconds is not None:
        step = costs.training_step_seconds.median
        cells["training_step_seconds"] = (step, f"{step:.3f}")
    if costs.training_seconds is not None:
        cells["training_seconds"] = (costs.training_seconds, f"{costs.training_seconds:,.0f}")
    return cells
