"""All-physical training: every layer has its own weights and runs once. The trivial method, and the paper's
baseline."""

from torch import Tensor, nn

from asr.backbones import Batch
from common.settings import Settings
from methods.contract import Method, Point, Step, path_points
from methods.shared.start import Start, build_from


class AllPhysical(Method):
    """The backbone as it is, trained with its own loss and stochastic depth."""

    kind = "all-physical"

    class Config(Settings):
        start: Start | None = None
        """The trained system whose weights it begins with; None: random weights."""

    def build(self) -> nn.Module:
        return build_from(self.backbone, self.config.start, self.inputs)

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        ones = (1,) * module.layers
        drop = None
        if step.training:
            drop = module.draw_layer_drop(module.layers, step.layers_generator("layer drop"))
        state = module.run_path(ones, module.front_end(batch.inputs, batch.input_lengths), drop)
        return module.loss(module.outputs(module.finish(state), batch), batch)

    def points(self, module: nn.Module) -> list[Point]:
        ones = (1,) * module.layers
        return path_points([ones], trained=[ones])
