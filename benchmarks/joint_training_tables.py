"""What `benchmarks.joint_training` found, as rows and as Markdown."""

import math
from typing import Any

from benchmarks.comparison import Row, counted

ABOUT_MEMORY = """
A seed saves weights, gradients and the optimiser's state, but its two passes keep more activations than the baseline's
one: the last column says from which batch on it takes more memory. With `checkpoint_layers: true` each layer's forward
pass runs twice, and only its input is kept.
"""


def time_rows(times: dict[str, Any], seconds: float, where: str) -> list[Row]:
    """Time in layers as the number of executions lets expect it over what was measured."""
    rows = []
    for row in times["seeds"]:
        found, expected = row["layer_ratio"], row["expected_ratio"]
        ratios = [expected / found[key] for key in ("median", "max", "min")]
        work = f"forward and backward, {times['batch']} x {seconds:g} s, {where}, {times['clock']}"
        name = f"layers of a joint step {row['system']}, wav2vec2"
        against = f"{row['executed_by_baseline']} executions of a 12-layer step"
        measure = f"of the speed that {row['executed']} executions let expect"
        rows.append(Row(name, against, *ratios, found["repeats"], work, measure=measure))
    return rows


def memory_rows(memory: dict[str, Any], seconds: float) -> list[Row]:
    """Peak memory of a step against that of the first system, the baseline."""
    baseline = memory["systems"][0]
    rows = []
    for row in memory["systems"][1:]:
        ours, theirs = row["peak_bytes"][-1] / 1e9, baseline["peak_bytes"][-1] / 1e9
        shown = ", layers checkpointed" if row["checkpoint_layers"] else ""
        work = f"peak of a step with AdamW, {memory['batches'][-1]} x {seconds:g} s"
        name = f"memory of a training step, wav2vec2 {row['system']}{shown}"
        rows.append(counted(name, "12 layers", theirs / ours, work, ours=ours, theirs=theirs, unit="GB"))
    return rows


def time_table(times: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| system | executed layers | expected | time in layers, baseline = 1 | off | whole step, baseline = 1 |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for row in times["seeds"]:
        verdict = "" if row["within_tolerance"] else " (too slow)"
        cells = (
            row["system"],
            row["executed"],
            f"{row['expected_ratio']:.3f}",
            _ratio(row["layer_ratio"]),
            f"{100 * row['above_expected']:+.1f} %{verdict}",
            _ratio(row["step_ratio"]),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})"


def memory_table(memory: dict[str, Any], seconds: float) -> str:
    """Markdown; `seconds` of audio in an utterance."""
    sizes = [f"peak GB, {batch} x {seconds:g} s" for batch in memory["batches"]]
    heads = [
        "system",
        "layers checkpointed",
        "params M",
        *sizes,
        "kept for backward, MB a second",
        "more than the baseline",
    ]
    lines = [f"| {' | '.join(heads)} |", f"|:--|:--|{'--:|' * (len(heads) - 3)}:--|"]
    for row in memory["systems"]:
        cells = (
            row["system"],
            "yes" if row["checkpoint_layers"] else "no",
            f"{row['parameters'] / 1e6:.2f}",
            *(f"{peak / 1e9:.2f}" for peak in row["peak_bytes"]),
            f"{row['kept_bytes_per_utterance'] / seconds / 1e6:.1f}",
            _crossing(row),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _crossing(row: dict[str, Any]) -> str:
    if "more_than_baseline_from_utterances" not in row:
        return ""
    utterances = row["more_than_baseline_from_utterances"]
    return "never" if utterances is None else f"from {max(1, math.ceil(utterances))} utterances"
