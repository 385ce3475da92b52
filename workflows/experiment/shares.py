"""The training of a system that stands on another, said as a share of that other one's.

So a file without sizes can say it, and the same comparison is made at every size.
"""

import math
from typing import Any

from asr.settings import TrainingSettings
from workflows.experiment.entries import ShareOfSource

DIGITS = 12
"""Of rates: a fifth of 0.003 is written as 0.0006."""


def share_of(source: TrainingSettings, share: ShareOfSource) -> dict[str, Any]:
    """The training settings of the source, shortened: steps and warm-up by the share of steps, and the highest learning
    rate by the share of rates. States are validated and kept as often as the source's, and at least as often as the
    average that training ends with takes them; everything else is the source's."""
    values = source.model_dump()
    steps = max(1, round(share.steps * source.steps))
    warmup = min(round(share.steps * source.schedule.warmup_steps), steps - 1)
    kept = {"last": 1, "best": 2, "average": source.keep_states}[source.keep]
    values["steps"] = steps
    values["validate_every"] = min(source.validate_every, max(1, steps // kept))
    values["checkpoint_every"] = min(source.checkpoint_every, steps)
    values["log_every"] = min(source.log_every, max(1, steps // 10))
    values["schedule"]["warmup_steps"] = warmup
    values["optimiser"]["learning_rate"] = _rounded(share.learning_rate * source.optimiser.learning_rate)
    if source.schedule.kind == "noam":  # its peak is factor * width^-0.5 * warm-up^-0.5
        warmup = values["schedule"]["warmup_steps"] = max(1, warmup)
        peaks = math.sqrt(warmup / max(1, source.schedule.warmup_steps))
        values["schedule"]["noam_factor"] = _rounded(share.learning_rate * peaks * source.schedule.noam_factor)
    return values


def _rounded(rate: float) -> float:
    return float(f"{rate:.{DIGITS}g}")
