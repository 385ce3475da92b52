"""The regulariser of methods that train one set of weights at several points: what the largest says, taught to others.

L_Reg = KL( stopgrad(p_teacher) || p_student )          (arXiv 2505.21237, Eq. 4)
"""

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

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
    parts = {"ctc": (teacher.ctc_logits, student.ctc_logits, teacher.lengths)}
    if teacher.decoder_logits is not None:
        parts["decoder"] = (teacher.decoder_logits, student.decoder_logits, batch.target_lengths + 1)
    chosen = [name for name in kl.distributions if name in parts]
    weights = {"ctc": ctc_weight, "decoder": 1 - ctc_weight} if len(chosen) > 1 else dict.fromkeys(chosen, 1.0)
    total = 0.0
    for name in chosen:
        true, found, lengths = parts[name]
        with no_autocast(true.device):
            true, found = torch.log_softmax(true.detach().float(), -1), torch.log_softmax(found.float(), -1)
            apart = F.kl_div(found, true, reduction="none", log_target=True).sum(-1)
        value = torch.where(before_the_end(lengths, true.size(1), true.device), apart, 0.0).sum()
        total = total + weights[name] * _reduced(value, kl, lengths)
    return total


def _reduced(value: Tensor, kl: KL, lengths: Tensor) -> Tensor:
    """A sum over a batch, in which utterances have `lengths` (batch,) positions, as `kl.reduction` says."""
    if kl.reduction == "sum":
        return sum_of_all(value)
    count = len(lengths) if kl.reduction == "batch" else int(lengths.sum())
    return mean_of_all(value / max(1, count), count)
