"""Pruned matrices on disk: a bit for each weight, and those that are not zero in float32. How they run stands in
`asr.portable.bitmap`.

With a share s of zeros a weight takes (1 - s) * 32 + 1 bits; below s = 1/32 that is more than a dense one. Nothing is
lost, so whatever prunes, quantises or trains further gets the dense matrices back (`dense_again`).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from asr.portable.bitmap import BitmapMatrix, place_bitmaps
from methods.contract import TrainedSystem
from methods.shared.matrices import matrices
from methods.shared.views import Viewed

Storage = Literal["dense", "bitmap"]
"""How the file holds pruned matrices."""


class Bitmap(Viewed, BitmapMatrix):
    """One that is made of a dense matrix, turned back into it, and counted."""

    @classmethod
    @torch.no_grad()
    def of(cls, part: nn.Linear | nn.Conv1d) -> "Bitmap":
        """The weights of a dense one that are not zero; its bias as it is."""
        held = part.weight != 0
        made = cls.like(part, int(held.sum())).to(part.weight.device)
        made.bitmap.copy_(pack_bits(held.flatten()))
        made.values.copy_(part.weight[held])
        if made.bias is not None:
            made.bias.copy_(part.bias)
        return made

    def weight_count(self) -> tuple[int, int]:
        """Weights that are held, and those that are not zero, biases aside: those are parameters."""
        return self.outputs * self.inputs, int(self.values.count_nonzero())


def pack_bits(held: Tensor) -> Tensor:
    """Booleans (number,) as bytes, the last one filled up; `unpack_bits` is the inverse."""
    filled = torch.nn.functional.pad(held, (0, -len(held) % 8)).view(-1, 8).to(torch.uint8)
    places = torch.arange(8, dtype=torch.uint8, device=held.device)
    return (filled << places).sum(1, dtype=torch.uint8)


def stored_as(module: nn.Module, storage: Storage) -> nn.Module:
    """The module with its matrices held in this way, in place."""
    for name, part in matrices(module).items() if storage == "bitmap" else ():
        module.set_submodule(name, Bitmap.of(part))
    return module


def dense_again(module: nn.Module) -> nn.Module:
    """The module with dense matrices in the place of bitmaps, in place; of the values nothing changes."""
    for name, part in bitmaps(module).items():
        module.set_submodule(name, part.dense())
    return module


def dense_copy(system: TrainedSystem) -> nn.Module:
    """A copy of a trained system's module, trainable, with dense matrices in the place of bitmaps."""
    module = system.method.rebuild(system.method.architecture(system.module))
    module.load_state_dict(system.module.state_dict())
    return dense_again(module)


def bitmaps(module: nn.Module) -> dict[str, Bitmap]:
    """What is held as a bitmap, by name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, Bitmap)}


def storage_form(module: nn.Module) -> dict[str, Any]:
    """What `in_storage_form` needs to know, as JSON: how many values each bitmap has; nothing of a dense module."""
    kept = {name: part.kept for name, part in bitmaps(module).items()}
    return {"kept": kept} if kept else {}


def in_storage_form(module: nn.Module, form: dict[str, Any]) -> nn.Module:
    """A module of dense matrices with empty bitmaps where `form` says so, in place."""
    place_bitmaps(module, form.get("kept", {}), Bitmap)
    return module
