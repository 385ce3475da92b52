"""Starting from a trained system, with fewer of its layers: what any method may offer as its setting `start`.

    settings: {start: {system: w12, layers: sensitivity}}

The layers whose removal hurts least are left out first (arXiv 2505.21237, section 3): the source's sensitivity, its
word error rate with each layer left out, gives the order in which layers are dropped.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from asr.backbones import Backbone, BackboneFactory
from common.errors import UserError
from methods.contract import SystemReference, TrainedSystem


class Start(SystemReference):
    """Weights to begin with: those of `system`, of its layers a choice."""

    layers: Literal["all", "sensitivity", "first"] | list[int] = Field("all", min_length=1)
    """Which layers of the source are kept: all; as many as the backbone has, dropped in the order of the source's
    sensitivity; the first so many; or a list of numbers from 1, in ascending order."""


def build_from(backbone: BackboneFactory, start: Start | None, inputs: Mapping[str, TrainedSystem]) -> Backbone:
    """A new backbone, with random weights or with those that `start` says, read from `inputs["start"]`."""
    module = backbone.build()
    if start is not None:
        source = inputs["start"]
        if type(source.module) is not type(module):
            raise UserError(
                f"settings.start: system '{source.name}' is no {backbone.name} that a {backbone.name} could start from"
            )
        kept = kept_layers(start, source, module.layers)
        try:
            module.take_weights(source.method.plain(source.module), [layer - 1 for layer in kept])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"settings.start: the weights of '{source.name}' do not fit this backbone ({reason})"
            ) from None
    return module


def check_start(start: Start, available: int, layers: int) -> None:
    """Raise `UserError` unless a backbone of so many `layers` can keep them of a source that has `available`."""
    name = start.system
    if layers > available:
        raise UserError(f"settings.start: {layers} physical layers are asked for; '{name}' has {available}")
    if isinstance(start.layers, list):
        kept = start.layers
        if kept != sorted(set(kept)) or not 1 <= kept[0] <= kept[-1] <= available or len(kept) != layers:
            raise UserError(
                f"settings.start.layers: {kept} is not {layers} ascending numbers between 1 and {available}, "
                f"the layers of '{name}'"
            )
    elif start.layers == "all" and layers != available:
        raise UserError(
            f"settings.start: '{name}' has {available} layers, {layers} are asked for; say which are kept with "
            "settings.start.layers: sensitivity, first, or a list"
        )


def kept_layers(start: Start, source: TrainedSystem, layers: int) -> list[int]:
    """The numbers, from 1 and ascending, of the source's layers that a backbone of so many `layers` keeps.

    Raises `UserError` when the source has too few, or when its drop order is not known.
    """
    available = source.module.layers
    check_start(start, available, layers)
    if isinstance(start.layers, list):
        return list(start.layers)
    if start.layers == "sensitivity":
        if source.drop_order is None:
            raise UserError(
                f"settings.start.layers: the sensitivity of '{source.name}' has not been measured "
                "(python -m workflows.sensitivity)"
            )
        dropped = source.drop_order[: available - layers]
        return [layer for layer in range(1, available + 1) if layer not in dropped]
    return list(range(1, layers + 1))
