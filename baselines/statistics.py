"""A trained system with other batch-norm statistics: what part of its errors is normalisation?

    settings: {source: {system: a8}, use: running}
    settings: {source: {system: a8}, use: path, path: "1 1 1 1 2 2 2 2"}

Nothing is trained. Weights, and buffers other than those of batch norm, are the source's. `running`: the statistics as
training left them. `path`: estimated again at that one path. Either way they are the same at all points, of which
only those in question are offered, and decoded: the path, or for `running` the trained ones. `points: all` offers what
the source does. Family and backbone are those of the source.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import model_validator
from torch import Tensor, nn

from asr.backbones import BackboneFactory, Batch, Encoded
from asr.batch_norm import set_statistics
from asr.paths import parse_path
from asr.settings import TrainingSettings
from common.errors import UserError
from common.settings import Settings
from methods.contract import Method, ParameterCount, Point, Recogniser, Stage, Step, SystemReference, make_method
from methods.paths import Path, check_shape, format_path


class Statistics(Method):
    """The source as it is, with the statistics that `use` names."""

    kind = "other statistics"
    backbones = ("conformer",)  # the one that has batch norm
    chooses_statistics = True

    class Config(Settings):
        source: SystemReference
        use: Literal["running", "path"] = "running"
        path: str | list[int] | None = None
        """For `use: path`, the path over which the statistics are estimated."""
        points: Literal["asked", "all"] = "asked"
        """What is offered: the path, or for `use: running` the points that were trained; or all of the source's too."""

        @model_validator(mode="after")
        def _a_path_where_it_is_used(self) -> "Statistics.Config":
            if self.use == "path" and self.path is None:
                raise ValueError("use: path needs the path over which the statistics are estimated (settings.path)")
            if self.use == "running" and self.path is not None:
                raise ValueError("path: goes with use: path; running statistics belong to no path")
            return self

    def check(self) -> None:
        self.path: Path | None = None
        if self.config.path is not None:
            try:
                self.path = check_shape(parse_path(self.config.path), self.backbone.config.layers)
            except UserError as error:
                raise UserError(f"settings.path: {error}") from None

    def check_sources(self, backbones: Mapping[str, BackboneFactory]) -> None:
        own, other = ((each.name, each.config.model_dump()) for each in (self.backbone, backbones["source"]))
        if own != other:
            keys = sorted(key for key in own[1].keys() | other[1].keys() if own[1].get(key) != other[1].get(key))
            raise UserError(
                f"settings.source: the backbone of '{self.config.source.system}' is another (different: "
                f"{', '.join(keys) or 'name'}); give this system the same backbone"
            )

    def build(self) -> nn.Module:
        source = self.inputs["source"]
        self.check_sources({"source": source.method.backbone})
        self.made_by = source.method
        module = self.made_by.rebuild(self.made_by.architecture(source.module))
        module.load_state_dict(source.module.state_dict())
        if self.path is not None and any(point.path is None for point in self.made_by.points(module)):
            raise UserError(f"settings.path: the points of '{source.name}' are no paths")
        if source.running_statistics:
            set_statistics(module, source.running_statistics)
        elif self.config.use == "running":
            raise UserError(
                f"settings.use: no running statistics stand beside '{source.name}' "
                "(running_statistics.safetensors); train it again"
            )
        return module

    def stages(self, training: TrainingSettings) -> list[Stage]:
        return []

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        raise RuntimeError("nothing is trained")

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        return [point for point in self.points(module) if self.path is not None and point.path == self.path]

    def architecture(self, module: nn.Module) -> dict[str, Any]:
        """How the source is rebuilt without it."""
        settings = self.made_by.config.model_dump(mode="json")
        architecture = self.made_by.architecture(module)
        return {"method": type(self.made_by).__module__, "settings": settings, "architecture": architecture}

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        made_by, settings = architecture["method"], architecture["settings"]
        self.made_by = make_method(made_by, settings, self.backbone, packages=self.packages)
        return self.made_by.rebuild(architecture["architecture"])

    def points(self, module: nn.Module) -> list[Point]:
        """Those that are asked about, or all of the source's, and the path where it is another."""
        points = self.made_by.points(module)
        wanted = points
        if self.config.points == "asked":
            wanted = [point for point in points if self._asked(point)]
        if self.path is not None and self.path not in [point.path for point in points]:
            depth = sum(self.path)
            number = sum(point.depth == depth for point in points)
            wanted = [*wanted, Point(f"d{depth:02d}_{number:02d}", format_path(self.path), self.path)]
        return wanted or points

    def _asked(self, point: Point) -> bool:
        return point.trained if self.path is None else point.path == self.path

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
