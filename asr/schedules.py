"""Learning-rate schedules as factors of the optimiser's learning rate, by optimiser step (counted from 0)."""

import math
from collections.abc import Callable

from asr.settings import ScheduleSettings


def factor_at(schedule: ScheduleSettings, steps: int, learning_rate: float) -> Callable[[int], float]:
    """Return step -> factor of `learning_rate`.

    noam    factor * width^-0.5 * min(n^-0.5, n * warmup^-1.5), n = step + 1 (Vaswani et al., 2017; ESPnet's recipes)
    cosine  linear warm-up, then half a cosine from 1 to `final_ratio` at the last step
    linear  linear warm-up, then a line from 1 to `final_ratio` at the last step
    """
    warmup = schedule.warmup_steps

    def noam(step: int) -> float:
        n = step + 1
        ramp = n * warmup**-1.5 if warmup else n**-0.5
        return schedule.noam_factor * schedule.noam_width**-0.5 * min(n**-0.5, ramp) / learning_rate

    def decaying(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        remaining = 0.5 * (1 + math.cos(math.pi * progress)) if schedule.kind == "cosine" else 1 - progress
        return schedule.final_ratio + (1 - schedule.final_ratio) * remaining

    return noam if schedule.kind == "noam" else decaying
