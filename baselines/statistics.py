"""A trained system with other batch-norm statistics: what part of its errors is normalisation?

    settings: {source: {system: a8}, use: running}
    settings: {source: {system: a8}, use: path, path: "1 1 1 1 2 2 2 2"}
    settings: {source: {system: a8}, use: execution, path: "1 1 1 1 2 2 2 2"}
    settings: {source: {system: f6}, use: execution}

Nothing is trained. Weights, and buffers other than those of batch norm, are the source's. `running`: the statistics as
training left them. `path`: estimated again at that one path. Either way they are the same at all points. `execution`:
estimated again at that path, or at the points that were trained, and kept apart for the first, the second and each
further execution of a layer, over all trained passes that have it (in training each pass is normalised by itself).
Only the points in question are offered, and decoded: the path, or else the trained ones. `points: all` offers what the
source does.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import model_validator
from torch import Tensor, nn

from asr.backbones import Encoded
from asr.batch_norm import set_statistics
from asr.paths import parse_path
from asr.settings import TrainingSettings
from common.errors import UserError
from methods.contract import Point, Recogniser, Stage, Step
from methods.paths import Path, check_shape, format_path
from methods.shared.derived import Derived
from methods.shared.executions import AtExecutions, executions_kept, keep_by_execution


class Statistics(Derived):
    """The source as it is, with the statistics that `use` names."""

    kind = "other statistics"
    needs_dense = False
    backbones = ("conformer",)  # the one that has batch norm
    chooses_statistics = True

    class Config(Derived.Config):
        use: Literal["running", "path", "execution"] = "running"
        path: str | list[int] | None = None
        """For `use: path`, the path over which the statistics are estimated; for `use: execution` too, where it is not
        over the points that were trained."""
        points: Literal["asked", "all"] = "asked"
        """What is offered: the path, or without one the points that were trained; or all of the source's too."""

        @model_validator(mode="after")
        def _a_path_where_it_is_used(self) -> "Statistics.Config":
            if self.use == "path" and self.path is None:
                raise ValueError("use: path needs the path over which the statistics are estimated (settings.path)")
            if self.use == "running" and self.path is not None:
                raise ValueError("path: goes with use: path or execution; running statistics belong to no path")
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
        by_execution = self.config.use == "execution"
        if (by_execution or self.path is not None) and not all(point.is_path for point in self.made_by.points(module)):
            key = "path" if self.path is not None else "use"
            raise UserError(f"settings.{key}: the points of '{source.name}' are no paths")
        if source.running_statistics:
            set_statistics(module, source.running_statistics)
        elif self.config.use == "running":
            raise UserError(
                f"settings.use: no running statistics stand beside '{source.name}' "
                "(running_statistics.safetensors); train it again"
            )
        return keep_by_execution(module, self._executions(module)) if by_execution else module

    def form(self, module: nn.Module) -> dict[str, Any]:
        executions = {"executions": executions_kept(module)} if self.config.use == "execution" else {}
        return super().form(module) | executions

    def reshape(self, module: nn.Module, form: dict[str, Any]) -> nn.Module:
        module = super().reshape(module, form)
        return keep_by_execution(module, form["executions"]) if "executions" in form else module

    def outline(self) -> nn.Module | None:
        """The source's: statistics are no weights."""
        return self.made_by.outline()

    def at(self, module: nn.Module, point: Point) -> Recogniser:
        return AtExecutions(module, point.path) if self.config.use == "execution" else super().at(module, point)

    def encode_points(
        self, module: nn.Module, inputs: Tensor, lengths: Tensor, points: Sequence[Point]
    ) -> Iterator[tuple[Point, Encoded]]:
        if self.config.use != "execution":
            return super().encode_points(module, inputs, lengths, points)
        return ((point, self.at(module, point).encode(inputs, lengths)) for point in points)

    def stages(self, training: TrainingSettings) -> list[Stage]:
        return []

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        if self.config.use == "running":
            return []
        return super().statistics_points(module, step) if self.path is None else self._of_path(self.points(module))

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

    def _of_path(self, points: list[Point]) -> list[Point]:
        return [point for point in points if point.path == self.path]

    def _executions(self, module: nn.Module) -> list[int]:
        """How often each layer runs at most, at the points over which statistics are estimated."""
        points = self.points(module)
        wanted = [point for point in points if point.trained] or points if self.path is None else self._of_path(points)
        return [max(counts) for counts in zip(*(point.path for point in wanted), strict=True)]
