"""What `benchmarks.joint_training` found, as Markdown."""

import math
from typing import Any


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
