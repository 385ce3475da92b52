"""Narrower layers within a layer: the first so many inner units of its feed-forward halves, and attention heads.

The width between layers stays, so that front end, norms, decoder and CTC layer serve all widths. What is narrowed is
named by the parameter, with the dimension and how much of it is left; whoever runs it makes views (`with_weights`).
"""

import contextlib
from collections.abc import Iterator

from torch import nn

from asr.backbones import Backbone
from methods.shared.views import Viewed

FEED_FORWARD = (("w_1", "w_2"), ("intermediate_dense", "output_dense"))
"""First and second linear map of a feed-forward module, as ESPnet and transformers call them."""
ATTENTION = (
    ("linear_q", "linear_k", "linear_v", "linear_pos", "linear_out"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
)
"""Linear maps of an attention module, the last one back to the width of the layer."""
OF_HEADS = ("pos_bias_u", "pos_bias_v")
"""Parameters of ESPnet's attention that have a row for each head."""

Narrowed = dict[str, tuple[int, int, int]]
"""Parameter name -> dimension, 0, and how much of it is left: what `Tensor.narrow` takes."""


def left_of(share: float, units: int) -> int:
    """How many of the units a share is."""
    return round(share * units)


def narrowed(module: Backbone, share: float, heads: bool) -> Narrowed:
    """What is left of the parameters of all layers at a share of the inner units and, with `heads`, of the heads."""
    found: Narrowed = {}
    for name, part in parts_of_layers(module).items() if share < 1 else ():
        for first, second in FEED_FORWARD:
            if hasattr(part, first) and hasattr(part, second):
                units = left_of(share, _outputs(getattr(part, first)))
                found |= _rows(part, name, first, units) | {f"{name}.{second}.weight": (1, 0, units)}
        for *inner, outer in ATTENTION if heads else ():
            if hasattr(part, inner[0]) and hasattr(part, outer):
                number = _heads(part)
                left = left_of(share, number)
                units = left * (_outputs(getattr(part, inner[0])) // number)
                for each in inner:
                    found |= _rows(part, name, each, units)
                found |= {f"{name}.{each}": (0, 0, left) for each in OF_HEADS if hasattr(part, each)}
                found |= {f"{name}.{outer}.weight": (1, 0, units)}
    return found


@contextlib.contextmanager
def fewer_heads(module: Backbone, share: float) -> Iterator[None]:
    """Inside, attention modules that count their heads themselves, as ESPnet's do, count a share of them."""
    counting = [part for part in parts_of_layers(module).values() if hasattr(part, "linear_q")]
    before = [part.h for part in counting]
    try:
        for part in counting:
            part.h = left_of(share, part.h)
        yield
    finally:
        for part, heads in zip(counting, before, strict=True):
            part.h = heads


def parts_of_layers(module: Backbone) -> dict[str, nn.Module]:
    """All modules inside the physical layers by their names in `module`."""
    inside = {id(part) for layer in range(module.layers) for part in module.layer_module(layer).modules()}
    return {name: part for name, part in module.named_modules() if id(part) in inside}


def _rows(part: nn.Module, name: str, linear: str, units: int) -> Narrowed:
    rows = {f"{name}.{linear}.weight": (0, 0, units)}
    return rows if getattr(part, linear).bias is None else rows | {f"{name}.{linear}.bias": (0, 0, units)}


def _outputs(part: nn.Module) -> int:
    return part.outputs if isinstance(part, Viewed) else part.out_features


def _heads(part: nn.Module) -> int:
    return part.h if hasattr(part, "h") else part.num_heads
