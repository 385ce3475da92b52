"""Compressing what another method made: base of all methods that change how a trained system's weights are held.

    f6 (methods.unfolding)  ->  f6_half (baselines.magnitude)  ->  f6_half_int4 (baselines.post_training)

Each link is a system of its own. How it is executed (its points and their ids) and how it is trained (its losses) are
the source's; what changes is how weights are held, and that is all that a derived method says: `prepare`, `after_step`
or `finish`, and `form` with `reshape` where the finished module has another shape. Stages, parameter groups and
`finish` are never the source's.

`system.json` holds the description of the source within that of the derived system, to any depth, so that `rebuild`
needs no other file.

Pruned matrices that the source stores as bitmaps are dense again before anything is done: nothing was lost, and what
stands on them prunes, quantises and trains them as it would any others.
"""

import dataclasses
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from asr.backbones import Batch, Encoded
from common.errors import UserError
from common.settings import Settings
from methods.contract import (
    Method,
    ParameterCount,
    Point,
    Recogniser,
    Step,
    SystemReference,
    TrainedSystem,
    make_method,
)
from methods.shared.bitmap import bitmaps, dense_again, dense_copy, in_storage_form, storage_form, stored_as
from methods.shared.matrices import matrices


class Derived(Method):
    """A trainable copy of the system `source`, at the source's points and with its losses."""

    class Config(Settings):
        source: SystemReference

    needs_dense: ClassVar[bool] = True
    """Whether a source whose weights are packed is refused: there is nothing left in it to prune or to pack."""
    made_by: Method
    """The method of the source, known once the module is built or rebuilt, or the experiment was checked."""
    _zeros: dict[str, Tensor] = {}
    _as_bitmaps = False
    _described: Mapping[str, Any]

    # To be said by a derived method, where it is not as here.

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module to train, from a copy of the source's; zeros in its matrices are kept by `after_step`."""
        return module

    def form(self, module: nn.Module) -> dict[str, Any]:
        """What `reshape` needs to know of a finished module, as JSON."""
        return storage_form(module)

    def reshape(self, module: nn.Module, form: dict[str, Any]) -> nn.Module:
        """A module with the source's architecture in the finished shape, ready for `load_state_dict`."""
        return in_storage_form(module, form)

    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        """Dense matrices are stored as the source stores them: as bitmaps where it has them."""
        return stored_as(module, "bitmap") if self._as_bitmaps else module

    # What is the source's.

    def check_sources(self, sources: Mapping[str, Method]) -> None:
        self.made_by = sources["source"]
        own, other = ((each.backbone.name, each.backbone.config.model_dump()) for each in (self, self.made_by))
        if own != other:
            keys = sorted(key for key in own[1].keys() | other[1].keys() if own[1].get(key) != other[1].get(key))
            raise UserError(
                f"settings.source: the backbone of '{self.config.source.system}' is another (different: "
                f"{', '.join(keys) or 'name'}); leave out `backbone` and `family`, they are the source's"
            )
        if self.needs_dense and self.made_by.packed:
            raise UserError(
                f"settings.source: the weights of '{self.config.source.system}' are packed; name a source of dense ones"
            )

    @classmethod
    def needs_in_training(cls, config: Settings) -> set[str]:
        """The source gives weights and a method; it is no teacher."""
        return super().needs_in_training(config) - {"source"}

    def build(self) -> nn.Module:
        source: TrainedSystem = self.inputs["source"]
        self.check_sources({"source": source.method})
        self.source_steps = source.steps
        self._as_bitmaps = bool(bitmaps(source.module))
        module = self.prepare(dense_copy(source))
        self.keep_zeros(module)
        return module

    def matrices_to(self, compress: str, module: nn.Module) -> dict[str, nn.Module]:
        """The matrices of the physical layers of a copy of the source, by name. Raises `UserError` where there are none
        to prune, or whatever `compress` says."""
        if not (parts := matrices(module)):
            raise UserError(f"settings.source: '{self.config.source.system}' has no physical layers to {compress}")
        return parts

    @property
    def source_has_sub_nets(self) -> bool:
        """Whether points of the source run slices or roundings of its matrices, as far as it is known."""
        return any(point.settings for point in self.made_by.expected_points() or ())

    def keep_zeros(self, module: nn.Module) -> None:
        """From here on `after_step` keeps the weights zero that are zero now."""
        zeros = {name: part.weight == 0 for name, part in matrices(module).items()}
        self._zeros = {name: found for name, found in zeros.items() if found.any()}

    @property
    def packed(self) -> bool:
        return self.packs or (hasattr(self, "made_by") and self.made_by.packed)

    @property
    def first(self) -> Method:
        """The method at the beginning of the chain, which is derived from nothing: the losses are its."""
        return self.made_by.first

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        first = self.first
        if missing := first.needs_in_training(first.config) - first.inputs.keys():
            names = ", ".join(sorted(first.needs(first.config)[role] for role in missing))
            raise UserError(f"settings.source: its losses read other systems ({names}), whose folders were not given")
        return first.losses(module, batch, dataclasses.replace(step, index=step.index + self.source_steps))

    @torch.no_grad()
    def after_step(self, module: nn.Module, step: Step) -> None:
        """Weights that were zero in what training began with, or when `keep_zeros` was called last, are zero again."""
        parts = matrices(module)
        for name, zeros in self._zeros.items():
            weight = parts[name].weight
            if zeros.device != weight.device:  # once: what is built on the host is trained on a device
                self._zeros[name] = zeros = zeros.to(weight.device)
            weight.masked_fill_(zeros, 0.0)

    def selection_term(self, terms: Collection[str]) -> str:
        return self.made_by.selection_term(terms)

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        return self.made_by.statistics_points(module, step)

    def points(self, module: nn.Module) -> list[Point]:
        return self.made_by.points(module)

    def expected_points(self) -> list[Point] | None:
        return self.made_by.expected_points() if hasattr(self, "made_by") else None

    def outline(self) -> nn.Module | None:
        """The source's, of a method that does not say how else its systems are shaped."""
        return self.made_by.outline() if type(self).reshape is Derived.reshape else None

    def costs_are_learned(self, point: Point) -> bool:
        return self.made_by.costs_are_learned(point)

    def at(self, module: nn.Module, point: Point) -> Recogniser:
        return self.made_by.at(module, point)

    def encode_points(
        self, module: nn.Module, inputs: Tensor, lengths: Tensor, points: Sequence[Point]
    ) -> Iterator[tuple[Point, Encoded]]:
        return self.made_by.encode_points(module, inputs, lengths, points)

    def output_lengths(self, module: nn.Module, lengths: list[int]) -> list[int]:
        return self.made_by.output_lengths(module, lengths)

    def cost_key(self, point: Point) -> Hashable:
        return self.made_by.cost_key(point)

    def parameters(self, module: nn.Module, point: Point) -> ParameterCount:
        return self.made_by.parameters(module, point)

    def stored_bytes(self, module: nn.Module, points: Sequence[Point]) -> int:
        return self.made_by.stored_bytes(module, points)

    def bits_a_weight(self, module: nn.Module, point: Point) -> float | None:
        return self.made_by.bits_a_weight(module, point)

    def plain(self, module: nn.Module) -> nn.Module:
        return self.made_by.plain(module)

    def architecture(self, module: nn.Module) -> dict[str, Any]:
        """How the source is rebuilt without it, and the form of the finished module."""
        if "source" in self.inputs:
            source: TrainedSystem = self.inputs["source"]
            self._described = {
                "method": type(source.method).__module__,
                "settings": source.method.config.model_dump(mode="json"),
                "architecture": source.method.architecture(source.module),
                "steps": source.steps,
            }
        return {"source": dict(self._described), "form": self.form(module)}

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        self._described = source = architecture["source"]
        if not hasattr(self, "made_by"):  # one that is known has what its losses read, a teacher, say
            self.made_by = make_method(source["method"], source["settings"], self.backbone, packages=self.packages)
        self.source_steps = source["steps"]
        return self.reshape(dense_again(self.made_by.rebuild(source["architecture"])), architecture["form"])

    def as_trained(self, module: nn.Module) -> nn.Module:
        return dense_again(module)
