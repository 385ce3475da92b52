"""Layer drop, pruned at use: one system trained with layers left out at random, run with fewer of them afterwards.

    settings: {rate: 0.2, depths: [9, 6, 3]}

Fan et al., Reducing Transformer Depth on Demand with Structured Dropout (2020): in training every layer is left out
with probability `rate`, at every depth of the stack alike and without rescaling; nothing is fine-tuned after layers are
taken out. A point for each depth asked for is a path of ones and zeros. Their rule of thumb for the rate is the share
of layers that shall go, between 0.1 and 0.5.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from asr.backbones import Backbone, Batch, LayerDrop
from common.errors import UserError
from common.settings import Settings
from methods.contract import Method, Point, Step, path_points
from methods.paths import Path
from methods.shared.layers import bytes_without_idle_layers
from methods.shared.start import Start, build_from

Choice = Literal["spread", "first"]


class LayerDropped(Method):
    """All layers, trained with uniform layer drop, and fewer of them at use."""

    kind = "layer drop"

    class Config(Settings):
        rate: float = Field(0.2, ge=0, lt=1)
        """Probability that a layer is left out, in the place of the backbone's `layer_drop`."""
        depths: list[int] | None = Field(None, min_length=1)
        """How many layers are kept, a point each beside that of all layers; None: every number from half of them on."""
        keep: list[Choice] = Field(["spread"], min_length=1)
        """Which are kept. spread: those that go lie as far from each other as they can, at half the depth every other
        one. first: the last ones go."""
        start: Start | None = None
        """The trained system whose weights it begins with; None: random weights."""

    def check(self) -> None:
        layers = self.backbone.config.layers
        asked = self.config.depths
        self.depths = list(range(layers, (layers - 1) // 2, -1)) if asked is None else asked
        for depth in self.depths:
            if not 1 <= depth <= layers or self.depths.count(depth) > 1:
                raise UserError(
                    f"settings.depths: {self.depths} are not different numbers from 1 to {layers}, the physical layers"
                )

    def build(self) -> nn.Module:
        return self._at_rate(build_from(self.backbone, self.config.start, self.inputs))

    def outline(self) -> nn.Module:
        return self.backbone.outline()

    def rebuild(self, architecture: dict) -> nn.Module:
        return self._at_rate(self.backbone.build())

    def _at_rate(self, module: Backbone) -> Backbone:
        module.layer_drop = self.config.rate
        return module

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        drop = None
        if step.training and module.layer_drop:
            drop = LayerDrop.draw(module.layer_drop, module.layers, step.layers_generator("layer drop"), kind="uniform")
        state = module.front_end(batch.inputs, batch.input_lengths)
        state = module.run_path((1,) * module.layers, state, drop)
        return module.loss(module.outputs(module.finish(state), batch), batch)

    def points(self, module: nn.Module) -> list[Point]:
        layers = self.backbone.config.layers
        ones = (1,) * layers
        paths = [kept_path(layers, depth, choice) for depth in self.depths for choice in self.config.keep]
        return path_points(dict.fromkeys([ones, *paths]), trained=[ones])

    def stored_bytes(self, module: nn.Module, points: Sequence[Point]) -> int:
        """Layers that none of the points runs need not be shipped."""
        return bytes_without_idle_layers(module, points)

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        """All of them: training ran each layer behind whatever was left of those before it, never at one path alone."""
        return self.points(module)


def kept_path(layers: int, depth: int, choice: Choice) -> Path:
    """The path that runs `depth` of so many layers once each.

    spread: of the g layers that go number k is layer floor(k layers / g), counted from 1: where that is whole the
    layers whose number it divides, as Fan et al. have it.
    """
    gone = layers - depth
    if choice == "first":
        return (1,) * depth + (0,) * gone
    dropped = {number * layers // gone for number in range(1, gone + 1)}
    return tuple(int(layer not in dropped) for layer in range(1, layers + 1))
