"""The regulariser of methods that train one set of weights at several points: what the largest says, taught to others.

L_Reg = KL( stopgrad(p_teacher) || p_student )          (arXiv 2505.21237, Eq. 4)
"""

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from asr.backbones import Batch, Outputs
from asr.portable.masks import before_the_end
from asr.precision import no_autocast
from asr.processes import mean_of_all, sum_of_all
from common.settings import Settings
from methods.contract import Step


class KL(Settings):
    """The regulariser. The paper states neither distributions nor reduction; its alpha only means something with
    them."""

    distributions: list[Literal["ctc", "decoder"]] = Field(["ctc", "decoder"], min_length=1)
    """Both are mixed with the backbone's lambda as the losses are; one alone counts fully."""
    reduction: Literal["batch", "sum", "mean"] = "batch"
    """Summed over positions and classes, then: divided by the batch size, left, or divided by the number of
    positions."""
    start_step: int = Field(0, ge=0)
    """The term sets in at this step: 0, or after the all-blank plateau of short runs."""

    @field_validator("distributions")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError(f"each distribution counts once, not {names}")
        return names

    def has_set_in(self, step: Step) -> bool:
        """On the dev set from the start: states from before and after the term sets in are to be compared."""
        return not step.training or step.index >= self.start_step


def divergence(teacher: Outputs, student: Outputs, ctc_weight: float, kl: KL, batch: Batch) -> Tensor:
    """L_Reg = KL(stopgrad(p_teacher) || p_student), padded frames and tokens left out; no gradient reaches the
    teacher."""
    device = teacher.ctc_logits.device
    frames = before_the_end(teacher.lengths, teacher.ctc_logits.size(1), device)
    parts = {"ctc": (teacher.ctc_logits, student.ctc_logits, frames)}
    if teacher.decoder_logits is not None:
        valid = before_the_end(batch.target_lengths + 1, teacher.decoder_logits.size(1), device)
        parts["decoder"] = (teacher.decoder_logits, student.decoder_logits, valid)
    chosen = [name for name in kl.distributions if name in parts]
    weights = {"ctc": ctc_weight, "decoder": 1 - ctc_weight} if len(chosen) > 1 else dict.fromkeys(chosen, 1.0)
    total = 0.0
    for name in chosen:
        true, found, valid = parts[name]
        with no_autocast(true.device):
            true = torch.log_softmax(true.detach().float(), -1)[valid]
            found = torch.log_softmax(found.float(), -1)[valid]
            value = torch.nn.functional.kl_div(found, true, reduction="sum", log_target=True)
        total = total + weights[name] * _reduced(value, kl, valid)
    return total


def _reduced(value: Tensor, kl: KL, valid: Tensor) -> Tensor:
    """A sum over the valid positions (batch, positions) of a batch, as `kl.reduction` says."""
    if kl.reduction == "sum":
        return sum_of_all(value)
    count = len(valid) if kl.reduction == "batch" else int(valid.sum())
    return mean_of_all(value / max(1, count), count)
