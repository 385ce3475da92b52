"""Where training stands: its stages and steps."""

import dataclasses
import hashlib

import torch

from asr.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training stage, resumable on its own."""

    name: str
    training: TrainingSettings
    labelled: bool = True
    """Unlabelled stages get batches without targets."""
    set: str = "train"


@dataclasses.dataclass(frozen=True)
class Step:
    """Where training stands. Everything random about a step follows from (seed, stage, index, micro_batch, rank); what
    is random about a validation from (seed, stage, micro_batch), so that validations compare."""

    stage: str
    index: int
    seed: int
    training: bool = True
    micro_batch: int = 0
    """Number of the batch within an accumulated step, or within the dev set. 0 in `after_step`."""
    rank: int = 0
    """Number of the device. 0 on the dev set and in `after_step`: what changes a module is the same on all devices."""
    steps: int | None = None
    """How many steps the stage has; None outside of a training."""
    same_layers: bool = False
    """Whether all devices run the same layers in a step, as batch norm over all of them needs."""

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose, so that one more draw here never shifts another; new for each
        micro-batch and device."""
        place = f"{self.index} {self.micro_batch} {self.rank}" if self.training else f"dev {self.micro_batch}"
        text = f"{self.seed} {self.stage} {place} {purpose}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(number)

    def layers_generator(self, purpose: str) -> torch.Generator:
        """`generator` for what decides which layers run, of layer drop, of a path, of a sub-net: new for each device
        too, unless all of them run the same."""
        return (dataclasses.replace(self, rank=0) if self.same_layers else self).generator(purpose)
