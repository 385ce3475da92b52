"""Some of the physical layers of a module: what their tensors are called, and what a file without the others holds."""

from collections.abc import Collection, Iterable

from asr.backbones import Backbone
from methods.contract import Point


def prefixes(module: Backbone, layers: Collection[int]) -> tuple[str, ...]:
    """What the names of everything in these layers, numbered from 0, begin with."""
    names = {id(part): name for name, part in module.named_modules()}
    return tuple(f"{names[id(module.layer_module(layer))]}." for layer in layers)


def bytes_without_idle_layers(module: Backbone, points: Iterable[Point]) -> int:
    """Bytes of weights and buffers but for the layers that no path of `points` runs; of all where a point is no path,
    or there is none."""
    paths = [point.path for point in points]
    known = bool(paths) and None not in paths
    idle = [layer for layer in range(module.layers) if known and not any(path[layer] for path in paths)]
    left_out = prefixes(module, idle)
    return sum(tensor.nbytes for name, tensor in module.state_dict().items() if not name.startswith(left_out))
