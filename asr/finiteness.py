"""Whether a training is still finite, without asking its device after every step.

A flag on the device keeps the number of the first step whose loss or whose gradients' norm was not finite. AdamW's
kernel reads it there, and changes nothing from that step on; the host reads it when it has to know anyway: for the log,
a validation, a checkpoint. What the step looked like is then computed again, for its batches and draws follow from seed
and step alone.
"""

import dataclasses
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.backbones import Batch
from asr.checkpoints import save_state
from common.errors import UserError

NEVER = 2**62
"""A number of no step."""


class FirstNotFinite:
    """The first step that was not finite, in any process."""

    def __init__(self, fabric: Fabric):
        self.fabric = fabric
        self.step = torch.full((), NEVER, device=fabric.device)

    def see(self, value: Tensor, index: int) -> None:
        """`value`, a number on the device, belongs to step `index`."""
        self.step = torch.where(torch.isfinite(value.detach()), self.step, self.step.clamp(max=index))

    def flag(self) -> Tensor:
        """1 on the device when a step was not finite, else 0: what torch's fused optimisers call `found_inf`."""
        return (self.step < NEVER).float()

    def read(self) -> int | None:
        """The step, or None. Waits for the device."""
        step = int(self.fabric.all_reduce(self.step, reduce_op="min"))
        return None if step == NEVER else step


def stop_not_finite(path: Path, module: nn.Module, batch: Batch, terms: dict[str, Tensor], index: int) -> None:
    """Save weights and batch to `path`, then raise `UserError`."""
    values = {name: float(value.detach()) for name, value in terms.items()}
    state = {"step": index, "terms": values, "module": module.state_dict(), "batch": dataclasses.asdict(batch)}
    save_state(path, state)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise UserError(
        f"the loss is not finite at step {index + 1} ({shown}); utterances: {', '.join(batch.ids[:5])}"
        f"{' ...' if len(batch.ids) > 5 else ''}. Weights and batch are saved in {path}"
    )
