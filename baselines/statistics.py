"""A trained system with other batch-norm statistics: what part of its errors is normalisation?

    settings: {source: {system: a8}, use: running}
    settings: {source: {system: a8}, use: path, path: "1 1 1 1 2 2 2 2"}

Nothing is trained. Weights, and buffers other than those of batch norm, are the source's. `running`: the statistics as
training left them. `path`: estimated again at that one path. Either way they are the same at all points, of which
only those in question are offered, and decoded: the path, or for `running` the trained ones. `points: all` offers what
the source does.
"""

from typing import Literal

from pydantic import model_validator
from torch import nn

from asr.batch_norm import set_statistics
from asr.paths import parse_path
from asr.settings import TrainingSettings
from common.errors import UserError
from methods.contract import Point, Stage, Step
from methods.paths import Path, check_shape, format_path
from methods.shared.derived import Derived


class Statistics(Derived):
    """The source as it is, with the statistics that `use` names."""

    kind = "other statistics"
    needs_dense = False
    backbones = ("conformer",)  # the one that has batch norm
    chooses_statistics = True

    class Config(Derived.Config):
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

    def prepare(self, module: nn.Module) -> nn.Module:
        source = self.inputs["source"]
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

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        return [point for point in self.points(module) if self.path is not None and point.path == self.path]

    def points(self, module: nn.Module) -> list[Point]:
        """Those that are asked about, or all of the source's, and the path where it is another."""
        return self._chosen(super().points(module))

    def expected_points(self) -> list[Point] | None:
        expected = super().expected_points()
        return None if expected is None else self._chosen(expected)

    def _chosen(self, points: list[Point]) -> list[Point]:
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
