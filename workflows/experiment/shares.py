"""Trainings whose length is said by something else: that of another system, or the size of the training set.

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
    steps = max(1, round(share.steps * source.steps))
    values = _shortened(source, steps)
    values["least_steps"] = min(steps, max(1, round(share.steps * source.least_steps)))
    if source.passes is not None:
        values["passes"] = _rounded(share.steps * source.passes)
    warmup = min(round(share.steps * source.schedule.warmup_steps), steps - 1)
    values["schedule"]["warmup_steps"] = warmup
    values["optimiser"]["learning_rate"] = _rounded(share.learning_rate * source.optimiser.learning_rate)
    if source.schedule.kind == "noam":  # its peak is factor * width^-0.5 * warm-up^-0.5
        warmup = values["schedule"]["warmup_steps"] = max(1, warmup)
        peaks = math.sqrt(warmup / max(1, source.schedule.warmup_steps))
        values["schedule"]["noam_factor"] = _rounded(share.learning_rate * peaks * source.schedule.noam_factor)
    return values


def in_steps(training: TrainingSettings, seconds: float) -> TrainingSettings:
    """The same training with its number of steps, where it is said as passes over a training set of so many `seconds`
    of audio (padding is not counted). States are validated and kept as often as they have to be."""
    if training.passes is None:
        return training
    a_step = training.batch_seconds * training.accumulate * training.devices
    steps = round(max(training.least_steps, min(training.steps, training.passes * seconds / a_step)))
    values = {**_shortened(training, steps), "passes": None, "least_steps": 1}
    return TrainingSettings.model_validate(values)


def _shortened(training: TrainingSettings, steps: int) -> dict[str, Any]:
    """The settings of a training of so many steps, which still takes every state that it ends with."""
    kept = {"last": 1, "best": 2, "average": training.keep_states}[training.keep]
    return {
        **training.model_dump(),
        "steps": steps,
        "validate_every": min(training.validate_every, max(1, steps // kept)),
        "checkpoint_every": min(training.checkpoint_every, steps),
        "log_every": min(training.log_every, max(1, steps // 10)),
    }


def _rounded(rate: float) -> float:
    return float(f"{rate:.{DIGITS}g}")
