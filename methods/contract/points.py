"""Operating points: the ways to execute a trained system, what runs at one, and what it costs in weights."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from asr.backbones import Backbone, Encoded
from methods.paths import Path, format_path


@dataclasses.dataclass(frozen=True)
class Point:
    """One way to execute a trained system: a path, or for other methods `settings` (a width, a precision)."""

    id: str
    label: str
    path: Path | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    offered: bool = True
    """False for further paths that the experiment evaluates beside what the method offers."""
    trained: bool = False
    """Whether a training loss was taken at this very point."""

    @property
    def depth(self) -> int | None:
        """Logical depth: layer executions."""
        return None if self.path is None else sum(self.path)

    @property
    def is_path(self) -> bool:
        """Whether a path is all there is to it, so that it is one of those that stand for its depth."""
        return self.path is not None and not self.settings


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """Numbers of weights: in the checkpoint, of those not zero, and used when the point runs (a repeat counts once)."""

    stored: int
    nonzero: int
    executed: int


@runtime_checkable
class HoldsWeights(Protocol):
    """A module that holds weights otherwise than as parameters: packed, say, in buffers."""

    def weight_count(self) -> tuple[int, int]:
        """Weights that it holds, and those of them that are not zero; its parameters aside."""


def number_of_weights(module: nn.Module) -> int:
    """Weights that a module holds, as parameters or otherwise; of an outline too, in which none can be looked at."""
    held = sum(part.weight_count()[0] for part in module.modules() if isinstance(part, HoldsWeights))
    return held + sum(parameter.numel() for parameter in module.parameters())


def count_weights(module: nn.Module) -> tuple[int, int]:
    """Weights that a module holds, as parameters or otherwise, and those that are not zero."""
    counts = [(parameter.numel(), int(parameter.count_nonzero())) for parameter in module.parameters()]
    counts += [part.weight_count() for part in module.modules() if isinstance(part, HoldsWeights)]
    return sum(held for held, _ in counts), sum(nonzero for _, nonzero in counts)


class Recogniser(Protocol):
    """A trained system at one point, as decoding and measuring see it."""

    def encode(self, inputs: Tensor, lengths: Tensor) -> Encoded: ...

    def ctc_log_probs(self, encoded: Encoded) -> Tensor: ...

    def scorers(self) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class AtPath:
    """A backbone at one path, as a `Recogniser`."""

    backbone: Backbone
    path: Path

    def encode(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        return self.backbone.encode(inputs, lengths, self.path)

    def ctc_log_probs(self, encoded: Encoded) -> Tensor:
        return self.backbone.ctc_log_probs(encoded)

    def scorers(self) -> dict[str, Any]:
        return self.backbone.scorers()


def path_points(paths: Iterable[Path], trained: Iterable[Path], offered: bool = True) -> list[Point]:
    """Points for paths. Ids are plain: the depth and a number within it (`d08_03`; `x08_00` for further paths)."""
    trained = set(trained)
    numbers: dict[int, int] = {}
    points = []
    for path in paths:
        depth = sum(path)
        number = numbers[depth] = numbers.get(depth, -1) + 1
        name = f"{'d' if offered else 'x'}{depth:02d}_{number:02d}"
        points.append(Point(name, format_path(path), path, offered=offered, trained=path in trained))
    return points
