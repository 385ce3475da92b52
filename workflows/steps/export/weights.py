"""How a system holds its weights: all as the backbone has them, or some matrices packed, or as bitmaps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr.backbones import Backbone, BackboneFactory
from asr.portable.bitmap import place_bitmaps
from asr.portable.packed import place_packed
from methods.shared.bitmap import Bitmap
from methods.shared.matrices import packed_matrices, stored_bits
from methods.shared.packed import Packed


def packed_forms(module: nn.Module) -> dict[str, dict[str, int | None]]:
    """The form of each packed matrix, by name; one of a subclass may unpack otherwise and is none."""
    return {name: part.form for name, part in module.named_modules() if type(part) is Packed}


def bitmap_forms(module: nn.Module) -> dict[str, int]:
    """How many values each bitmap has, by name."""
    return {name: part.kept for name, part in module.named_modules() if type(part) is Bitmap}


def is_backbone(module: nn.Module, backbone: BackboneFactory) -> bool:
    """Whether a module has the backbone's weights in its shapes and types, packed matrices and bitmaps aside."""
    with torch.device("meta"):
        expected = backbone.build()
        matrices = {name for name, part in expected.named_modules() if isinstance(part, nn.Linear | nn.Conv1d)}
        place_packed(expected, {name: form for name, form in packed_forms(module).items() if name in matrices})
        place_bitmaps(expected, {name: kept for name, kept in bitmap_forms(module).items() if name in matrices})
    return _shapes(expected.state_dict()) == _shapes(module.state_dict())


def dense(module: Backbone, backbone: BackboneFactory) -> Backbone:
    """The same system with the values of packed weights in float32, and with the zeros of bitmaps; the module itself
    where all is dense."""
    names = [*packed_forms(module), *bitmap_forms(module)]
    if not names:
        return module
    state = module.state_dict()
    for name in names:
        part = module.get_submodule(name)
        for buffer, _ in part.named_buffers():
            del state[f"{name}.{buffer}"]
        state[f"{name}.weight"] = part.weight
    made = backbone.build()
    made.load_state_dict(state)
    return made.eval().requires_grad_(False)


def packed_alike(module: nn.Module) -> dict[str, list[Packed]]:
    """The packed matrices by how they are held, in words, those of the fewest bits a weight first."""
    found: dict[str, list[Packed]] = {}
    for part in packed_matrices(module).values():
        found.setdefault(_held(part), []).append(part)
    return dict(sorted(found.items(), key=lambda item: bits_a_weight(item[1])))


def _held(part: Packed) -> str:
    """`4 bits`, say, or `4 bits, 2 of 4 weights with their positions`."""
    number = "float32" if part.bits is None else f"{part.bits} bits"
    return number if part.m is None else f"{number}, {part.n} of {part.m} weights with their positions"


def bits_a_weight(parts: Sequence[Packed | Bitmap]) -> float:
    """Of the weights of several packed matrices in the file: codes, padding, scales, positions, or bits and values."""
    return sum(map(stored_bits, parts)) / sum(part.outputs * part.inputs for part in parts)


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
