"""All-in-one models (arXiv 2406.10160): nested depths, widths and precisions of one set of weights, trained at once.

    L = L_max + alpha / K sum_k L_k + alpha_kl / K sum_k KL( stopgrad(p_max) || p_k )

L_max is the backbone's loss at the full depth and width and the highest precision, k are the K others that a step
trains. A depth is the first n layers, a width the first units of the feed-forward halves, a precision the most
significant bits of one 8-bit code (`methods.shared.nested`; 32: the weights as they are). One pass through the layers
serves all depths of a width and a precision. The paper says neither sets nor weights: `docs/methods/allinone.md` says
what is published and what is ours.

    settings: {depths: [12, 8, 6], widths: [1, 0.5], bits: [32, 8, 2]}

Points are named `n12w100b32`: layers, percent of the width, bits. Where 32 is not offered, the matrices of the layers
are 8-bit codes in the file, which serves all its precisions.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from asr.backbones import Backbone, Batch, Encoded, EncoderState, LayerDrop, Outputs
from common.errors import UserError
from common.settings import Settings
from methods.contract import AtPath, Method, ParameterCount, Point, Recogniser, Step
from methods.paths import Path, run_paths
from methods.shared.divergence import KL, divergence
from methods.shared.matrices import matrices, packed_matrices
from methods.shared.narrow import left_of
from methods.shared.nested import BITS, Reconstruction, Scales, packed_codes
from methods.shared.packed import Packed
from methods.shared.start import Start, build_from
from methods.shared.subnets import FLOAT, SubNet, SubNets, without_statistics

FEW = 4
"""So many sub-nets are all trained in every step unless the settings say otherwise."""


class AllInOne(Method):
    """One model that runs at every depth, width and precision of a grid."""

    kind = "all-in-one"

    class Config(Settings):
        depths: list[int] | None = Field(None, min_length=1)
        """First so many layers; None: all, and five, four and three sixths of them."""
        widths: list[float] = Field([1.0, 0.5], min_length=1)
        """Shares of the inner units of both feed-forward halves, in whole hundredths; 1 among them."""
        bits: list[int] = Field([32, 8, 4, 2], min_length=1)
        """Bits of the weights of the layers' matrices: 32, and 1 to 8; 32 or 8 among them."""
        heads: bool = False
        """Whether a width is also a share of the attention heads."""
        scales: Scales = "channel"
        """What has a scale of its own: each output channel of a matrix, or a matrix."""
        reconstruction: Reconstruction = "centre"
        """What a code of fewer bits stands for: the centre of its bin, or, as in the author's later code, its floor."""
        sampling: Literal["all", "sandwich"] | None = None
        """Which widths and precisions a step trains, each at all depths: all, or the largest, the smallest and one
        drawn among the others (Yu and Huang, 2019); None: all where there are at most four."""
        alpha: float = Field(0.25, ge=0)
        alpha_kl: float = Field(0.1, ge=0)
        kl: KL = KL()
        start: Start | None = None
        """The trained system whose weights it begins with; None: random weights."""

        @field_validator("depths", "widths", "bits")
        @classmethod
        def _each_once(cls, values: list[float] | None) -> list[float] | None:
            if values is not None and len(set(values)) < len(values):
                raise ValueError(f"each stands once, not {values}")
            return values if values is None else sorted(values, reverse=True)

        @field_validator("widths")
        @classmethod
        def _are_shares(cls, widths: list[float]) -> list[float]:
            if widths[0] != 1 or widths[-1] <= 0:
                raise ValueError(f"{widths}: shares up to 1, 1 among them, or some units would never be trained")
            if any(abs(100 * width - round(100 * width)) > 1e-9 for width in widths):
                raise ValueError(f"{widths}: whole hundredths, by which points are named")
            return widths

        @field_validator("bits")
        @classmethod
        def _are_precisions(cls, bits: list[int]) -> list[int]:
            if wrong := [each for each in bits if each != FLOAT and not 1 <= each <= BITS]:
                raise ValueError(f"{wrong[0]} bits are not offered; possible: {FLOAT}, and 1 to {BITS}")
            if bits[0] not in (FLOAT, BITS):
                raise ValueError(f"{bits}: {FLOAT} or {BITS} must be among them: what the file holds")
            return bits

        @model_validator(mode="after")
        def _all_are_trained(self) -> "AllInOne.Config":
            if self.alpha == self.alpha_kl == 0:
                raise ValueError("alpha and alpha_kl are both 0: only the largest of all would be trained")
            return self

    def check(self) -> None:
        config, backbone = self.config, self.backbone.config
        layers = backbone.layers
        self.depths = config.depths or _sixths(layers)
        if self.depths[-1] < 1 or self.depths[0] > layers:
            raise UserError(f"settings.depths: {self.depths} are not all between 1 and the {layers} layers")
        if self.depths[0] < layers:
            raise UserError(
                f"settings.depths: the backbone has {layers} layers, of which those above {self.depths[0]} would never "
                f"be trained; add {layers}, or set backbone.layers"
            )
        kinds = {"feed-forward units": backbone.ffn} | ({"attention heads": backbone.heads} if config.heads else {})
        for kind, number in kinds.items():
            left = [left_of(width, number) for width in config.widths]
            if left[-1] < 1:
                raise UserError(f"settings.widths: {config.widths[-1]} of {number} {kind} leaves none")
        if len(set(left_of(width, backbone.ffn) for width in config.widths)) < len(config.widths):
            raise UserError(f"settings.widths: two of {config.widths} leave as many of {backbone.ffn} units")
        self.nets = SubNets(config.widths, config.bits, config.heads, config.scales, config.reconstruction)

    @property
    def packs(self) -> bool:
        """Without float masters the finished matrices are 8-bit codes."""
        return self.config.bits[0] != FLOAT

    def build(self) -> nn.Module:
        return self.nets.add_statistics(build_from(self.backbone, self.config.start, self.inputs))

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        config, deepest = self.config, self.depths[0]
        nets = self.drawn(step)
        # One draw for all sub-nets: a shallower one is then a prefix, and all are compared on the same layers.
        drop = module.draw_layer_drop(module.layers, step.layers_generator("layer drop")) if step.training else None
        state = module.front_end(batch.inputs, batch.input_lengths)
        outputs: dict[tuple[SubNet, int], Outputs] = {}
        codes: dict[str, tuple[Tensor, Tensor]] = {}
        for net in nets:
            found = self.nets.run(module, net, self._at_all_depths, state, drop, batch, codes=codes)
            outputs |= {(net, depth): each for depth, each in found.items()}
        terms = {key: module.loss(each, batch) for key, each in outputs.items()}
        largest, smallest = (nets[0], deepest), (nets[-1], self.depths[-1])
        total, named = terms[largest]["total"], {"largest": terms[largest]}
        logged: dict[str, Tensor] = {}
        if others := [key for key in outputs if key != largest]:
            logged["nested"] = torch.stack([terms[key]["total"] for key in others]).mean()
            total, named["smallest"] = total + config.alpha * logged["nested"], terms[smallest]
        if others and config.alpha_kl > 0 and config.kl.has_set_in(step):
            apart = [divergence(outputs[largest], outputs[key], module.ctc_weight, config.kl, batch) for key in others]
            logged["kl"] = torch.stack(apart).mean()
            total = total + config.alpha_kl * logged["kl"]
        logged |= {f"{which}.{name}": value for which, each in named.items() for name, value in each.items()}
        return {**logged, "total": total, "blank_fraction": terms[largest]["blank_fraction"]}

    def selection_term(self, terms: Collection[str]) -> str:
        return "largest.ctc"

    def drawn(self, step: Step) -> list[SubNet]:
        """The widths and precisions of a step, the largest first and the smallest last; on the dev set all."""
        first, *between = self.nets.all
        few = self.config.sampling == "all" or (self.config.sampling is None and len(between) < FEW)
        if few or not step.training or len(between) < 2:
            return [first, *between]
        *between, last = between
        number = int(torch.randint(len(between), (1,), generator=step.layers_generator("sub-net")))
        return [first, between[number], last]

    def _at_all_depths(
        self, module: Backbone, state: EncoderState, drop: LayerDrop | None, batch: Batch
    ) -> dict[int, Outputs]:
        ends = run_paths(
            [self._path(depth) for depth in self.depths], state, lambda layer, at: module.run_layer(layer, at, drop)
        )
        return {sum(path): module.outputs(module.finish(end), batch) for path, end in ends}

    def _path(self, depth: int) -> Path:
        """The first so many layers."""
        return (1,) * depth + (0,) * (self.backbone.config.layers - depth)

    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        if self.packs:
            for name, part in matrices(module).items():
                module.set_submodule(name, packed_codes(part, self.config.scales))
        return module

    def as_trained(self, module: nn.Module) -> nn.Module:
        for name, part in packed_matrices(module).items():
            module.set_submodule(name, part.dense())
        return module

    def architecture(self, module: nn.Module) -> dict[str, Any]:
        """Whether the matrices are packed: those of a stage are not yet."""
        return {"packed": self.packs and not matrices(module)}

    def outline(self) -> nn.Module:
        return self.backbone.outline()

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        module = self.nets.add_statistics(self.backbone.build())
        for name, part in matrices(module).items() if architecture["packed"] else ():
            module.set_submodule(name, Packed.like(part, BITS))
        return module

    def plain(self, module: nn.Module) -> nn.Module:
        return without_statistics(module)

    def points(self, module: nn.Module) -> list[Point]:
        return [
            Point(
                f"n{depth:02d}{net.id}",
                f"{depth} layers, {round(100 * net.width)} % of the width, {net.bits} bits",
                self._path(depth),
                {"width": net.width, "bits": net.bits},
                trained=True,
            )
            for net in self.nets.all
            for depth in self.depths
        ]

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        """The deepest of each width and precision: what shallower ones run is part of it."""
        return [point for point in self.points(module) if point.depth == self.depths[0]]

    def at(self, module: nn.Module, point: Point) -> Recogniser:
        net = self._net(point)
        plain = net == self.nets.all[0]
        return AtPath(module, point.path) if plain else AtSubNet(module, point.path, self.nets, net)

    def encode_points(
        self, module: nn.Module, inputs: Tensor, lengths: Tensor, points: Sequence[Point]
    ) -> Iterator[tuple[Point, Encoded]]:
        """The front end runs once, and once for each width and precision what its paths have in common."""
        state = module.front_end(inputs, lengths)
        codes: dict[str, tuple[Tensor, Tensor]] = {}
        for net in dict.fromkeys(map(self._net, points)):
            by_path = {point.path: point for point in points if self._net(point) == net}
            for path, encoded in self.nets.run(module, net, _encode_paths, by_path, state, codes=codes):
                yield by_path[path], encoded

    def parameters(self, module: nn.Module, point: Point) -> ParameterCount:
        count = super().parameters(module, point)
        spared = self.nets.spared(module, self._net(point), _layers([point]))
        return dataclasses.replace(count, executed=count.executed - spared)

    def stored_bytes(self, module: nn.Module, points: Sequence[Point]) -> int:
        """Those of a file with the layers, units and bits that `points` need; for all points the file as it is."""
        if {point.id for point in self.points(module)} <= {point.id for point in points}:
            return super().stored_bytes(module, points)
        return self.nets.stored_bytes(module, list(map(self._net, points)), _layers(points))

    def bits_a_weight(self, module: nn.Module, point: Point) -> float | None:
        found, weights = self.nets.matrix_bytes(module, [self._net(point)], _layers([point]))
        return 8 * found / weights

    def _net(self, point: Point) -> SubNet:
        """The width and precision of a point; of a further path those of the module as it is."""
        return SubNet(**point.settings) if point.settings else self.nets.all[0]


@dataclasses.dataclass(frozen=True)
class AtSubNet:
    """A model at a path of a sub-net, as a `Recogniser`. Decoder and CTC layer are the same for all."""

    backbone: Backbone
    path: Path
    nets: SubNets
    net: SubNet

    def encode(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        layers = [layer for layer, count in enumerate(self.path) if count]
        return self.nets.run(self.backbone, self.net, Backbone.encode, inputs, lengths, self.path, layers=layers)

    def ctc_log_probs(self, encoded: Encoded) -> Tensor:
        return self.backbone.ctc_log_probs(encoded)

    def scorers(self) -> dict[str, Any]:
        return self.backbone.scorers()


def _encode_paths(module: Backbone, paths: Iterable[Path], state: EncoderState) -> list[tuple[Path, Encoded]]:
    return [(path, module.finish(end)) for path, end in run_paths(paths, state, module.run_layer)]


def _layers(points: Iterable[Point]) -> list[int]:
    """The layers, from 0, that run at any of the points."""
    return sorted({layer for point in points for layer, count in enumerate(point.path) if count})


def _sixths(layers: int) -> list[int]:
    """All layers, and five, four and three sixths of them, where these are others: 12, 10, 8, 6 of 12."""
    return sorted({max(1, round(layers * share / 6)) for share in (6, 5, 4, 3)}, reverse=True)
