"""The matrices of a model's physical layers: what pruning and quantising work on."""

from typing import Any

from torch import Tensor, nn

from asr.backbones import Backbone
from methods.contract.points import HoldsWeights
from methods.shared.packed import Packed


def matrices(module: nn.Module) -> dict[str, nn.Linear | nn.Conv1d]:
    """Linear maps and convolutions of width 1 inside the physical layers, by their names in `module`; what holds its
    weights packed is none. Empty for a module that is no backbone."""
    if not isinstance(module, Backbone):
        return {}
    inside = {id(part) for layer in range(module.layers) for part in module.layer_module(layer).modules()}
    return {name: part for name, part in module.named_modules() if id(part) in inside and is_matrix(part)}


def bits_a_weight(module: nn.Module) -> float | None:
    """Bits on disk for each weight of the matrices of the physical layers, held in whatever way: scales, codebooks and
    padding included, biases not. None where there are no such matrices, or one that does not say what it holds."""
    if not isinstance(module, Backbone):
        return None
    layers = [module.layer_module(layer) for layer in range(module.layers)]
    parts = [part for layer in layers for part in layer.modules()]
    if any(_is_unknown(part) for part in parts):
        return None
    holders = [part for part in parts if isinstance(part, HoldsWeights) or is_matrix(part)]
    weights = sum(part.weight_count()[0] if isinstance(part, HoldsWeights) else part.weight.numel() for part in holders)
    return sum(map(stored_bits, holders)) / weights if weights else None


def matrix_counts(module: nn.Module) -> list[dict[str, Any]]:
    """Of each matrix of the physical layers, held in whatever way: its name, its layer, numbered from 1, how many
    weights it has, and how many of them are not zero; biases aside. Empty for a module that is no backbone."""
    if not isinstance(module, Backbone):
        return []
    layers = range(module.layers)
    layer_of = {id(part): layer + 1 for layer in layers for part in module.layer_module(layer).modules()}
    found = []
    for name, part in module.named_modules():
        if id(part) in layer_of and (isinstance(part, HoldsWeights) or is_matrix(part)):
            held = part.weight_count() if isinstance(part, HoldsWeights) else _dense_count(part.weight)
            found.append({"name": name, "layer": layer_of[id(part)], "weights": held[0], "nonzero": held[1]})
    return found


def _dense_count(weight: Tensor) -> tuple[int, int]:
    return weight.numel(), int(weight.count_nonzero())


def stored_bits(part: nn.Module) -> int:
    """Of one matrix in the file: everything that it holds itself but its bias."""
    tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
    return 8 * sum(tensor.nbytes for name, tensor in tensors if name != "bias")


def _is_unknown(part: nn.Module) -> bool:
    """Whether a module has codes, and does not say for how many weights."""
    codes = [each for each in part.buffers(recurse=False) if each.dim() > 1 and not each.is_floating_point()]
    return bool(codes) and not isinstance(part, HoldsWeights)


def is_matrix(part: nn.Module) -> bool:
    """Whether a module is a matrix product and a bias."""
    if isinstance(part, nn.Conv1d):
        return part.kernel_size == (1,) and part.stride == (1,) and part.groups == 1
    return isinstance(part, nn.Linear)


def output_matrices(module: nn.Module) -> dict[str, nn.Linear]:
    """Linear maps behind the encoder by their names in `module`: those of the decoder and the CTC layer."""
    if not isinstance(module, Backbone):
        return {}
    outputs = {id(part) for output in module.output_modules() for part in output.modules()}
    return {name: part for name, part in module.named_modules() if id(part) in outputs and isinstance(part, nn.Linear)}


def packed_matrices(module: nn.Module) -> dict[str, Packed]:
    """What holds its weights packed, by name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, Packed)}
