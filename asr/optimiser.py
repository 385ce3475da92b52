"""The optimiser of all trainings."""

from typing import Any

import torch

from asr.settings import OptimiserSettings


def make_optimiser(
    groups: list[dict[str, Any]], settings: OptimiserSettings, rate: float | None = None
) -> torch.optim.AdamW:
    """AdamW for parameter groups as torch takes them; `rate` replaces the settings' learning rate.

    One kernel updates all parameters. One parameter after the other, as torch does it on CPUs by default, small models
    spend a tenth of a step here.
    """
    rate = settings.learning_rate if rate is None else rate
    return torch.optim.AdamW(groups, rate, settings.betas, weight_decay=settings.weight_decay, fused=True)
