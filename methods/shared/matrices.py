"""The matrices of a model's physical layers: what pruning and quantising work on."""

from torch import nn

from asr.backbones import Backbone
from methods.shared.packed import Packed


def matrices(module: nn.Module) -> dict[str, nn.Linear | nn.Conv1d]:
    """Linear maps and convolutions of width 1 inside the physical layers, by their names in `module`; what holds its
    weights packed is none. Empty for a module that is no backbone."""
    if not isinstance(module, Backbone):
        return {}
    inside = {id(part) for layer in range(module.layers) for part in module.layer_module(layer).modules()}
    return {name: part for name, part in module.named_modules() if id(part) in inside and is_matrix(part)}


def bits_a_weight(module: nn.Module) -> float | None:
    """Bits on disk for each weight of the matrices of the physical layers, packed or not, scales and padding included,
    biases not; None where there are no such matrices."""
    if not isinstance(module, Backbone):
        return None
    weights = bits = 0
    for layer in range(module.layers):
        for part in module.layer_module(layer).modules():
            if isinstance(part, Packed):
                weights, bits = weights + part.outputs * part.inputs, bits + part.packed_bits()
            elif is_matrix(part):
                weights, bits = weights + part.weight.numel(), bits + 8 * part.weight.nbytes
    return bits / weights if weights else None


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
