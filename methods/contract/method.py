"""What every method and baseline is: one subclass of `Method`."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor, nn

from asr.backbones import Backbone, BackboneFactory, Batch, Encoded
from asr.settings import TokenizerSettings, TrainingSettings
from common.errors import UserError
from common.settings import Settings
from methods.contract.points import AtPath, ParameterCount, Point, Recogniser, count_weights, path_points
from methods.contract.training import Stage, Step
from methods.paths import Path, check_shape, run_paths


class SystemReference(Settings):
    """A setting that names another system of the experiment, written `{system: a12}`: an edge of the workflow."""

    system: str

    @model_validator(mode="before")
    @classmethod
    def _is_a_mapping(cls, data: Any) -> Any:
        if isinstance(data, str):
            raise ValueError(f"write {{system: {data}}}, which makes '{data}' a system that is trained first")
        return data


@dataclasses.dataclass(frozen=True)
class TrainedSystem:
    """A finished system that another method starts from: the module in evaluation mode and the method that made it."""

    name: str
    module: nn.Module
    method: "Method"
    drop_order: tuple[int, ...] | None = None
    """Its layers, numbered from 1, in the order in which they are dropped: the removal that hurts least first. None
    where that was not measured."""
    running_statistics: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Those of its batch norms as training left them, by their names in the state dict; empty where there are none."""
    steps: int = 0
    """Steps of its last training stage, and of those that what it was derived from had before."""


class Method(ABC):
    """Base of all methods. `self.config` holds the settings, `self.backbone` builds uncompressed models, and
    `self.inputs` holds, while training, the trained systems that `needs` names (role -> system)."""

    class Config(Settings):
        """Settings under `settings:` of a system; unknown keys are refused."""

    kind: ClassVar[str] = "compressed"
    backbones: ClassVar[tuple[str, ...] | None] = None
    """Names of the backbones that it works on; None: any."""
    chooses_statistics: ClassVar[bool] = False
    """True where the method's own settings say which statistics batch norm has, whatever the experiment says."""
    packages: tuple[str, ...] = ()
    """Packages beside this project that it may have come from, and that the systems it rebuilds may come from."""
    packs: ClassVar[bool] = False
    """True where the finished weights of the physical layers are packed, so that nothing prunes or packs them after."""
    source_steps: int = 0
    """Steps that the weights it begins with were trained for with its own losses, known once the module is built: what
    losses schedule by step goes on from there."""
    recognises: ClassVar[bool] = True
    """False for a method whose systems recognise nothing until others fine-tune them: they have no points."""

    def __init__(self, config: Settings, backbone: BackboneFactory, inputs: Mapping[str, TrainedSystem] | None = None):
        self.config = config
        self.backbone = backbone
        self.inputs = dict(inputs or {})
        if self.backbones is not None and backbone.name not in self.backbones:
            raise UserError(f"this method works on {' and '.join(self.backbones)}, not on {backbone.name}")
        self.check()

    def check(self) -> None:
        """Refuse settings that do not fit the backbone, before any work. Raises `UserError`."""

    def check_sources(self, sources: Mapping[str, "Method"]) -> None:
        """Refuse systems that training starts from, given as role -> the method that makes them, that do not fit:
        before any work too. Raises `UserError`."""

    def check_experiment(self, tokenizer: TokenizerSettings) -> None:
        """Refuse an experiment's tokenizer, or files that the settings name, that do not fit: before any work too, but
        never when a trained system is loaded. Asks no network. Raises `UserError`."""

    @classmethod
    def needs(cls, config: Settings) -> dict[str, str]:
        """Other systems that training starts from, role -> name: by default every setting that is a
        `SystemReference`."""
        values = {name: getattr(config, name) for name in type(config).model_fields}
        return {name: value.system for name, value in values.items() if isinstance(value, SystemReference)}

    @classmethod
    def needs_in_training(cls, config: Settings) -> set[str]:
        """Of the roles that `needs` names, those that the losses read, a teacher for one: by default all but `start`,
        whose weights are only copied."""
        return set(cls.needs(config)) - {"start"}

    @property
    def packed(self) -> bool:
        """Whether finished weights are packed, by this method or by what it is derived from."""
        return self.packs

    @property
    def first(self) -> "Method":
        """The method whose losses it trains with: its own, or those of what it is derived from."""
        return self

    def build(self) -> nn.Module:
        """The module to train, with random weights or weights taken from `self.inputs`."""
        return self.backbone.build()

    def stages(self, training: TrainingSettings) -> list[Stage]:
        """The training stages; none for a method that only converts. `training` is what the experiment asks for."""
        return [Stage("train", training)]

    def begin_stage(self, module: nn.Module, stage: Stage, batches: Iterable[Batch]) -> nn.Module:
        """Called once before a stage; may return a module of another shape (prune, then distil again). `batches` are
        training batches of the stage in a fixed order, read as far as they are needed (to cluster features, say)."""
        return module

    def parameter_groups(self, module: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """Optimiser groups of a stage, as torch takes them (`lr` and `weight_decay` may differ)."""
        return [{"params": [parameter for parameter in module.parameters() if parameter.requires_grad]}]

    @abstractmethod
    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Named terms and their `total`, each logged, in float32: with `precision: bf16-mixed` this runs under
        autocast, and a loss of its own brings its logits to float32 (`asr.precision.no_autocast`). `step.training` is
        False on the dev set."""

    def changes_at(self, stage: Stage) -> list[int]:
        """Steps of a stage, in order, from which on a step computes more or less than before, as where a pass sets in:
        its time is measured on either side."""
        return []

    def selection_term(self, terms: Collection[str]) -> str:
        """Of the terms that the dev set gave the one by which states are ranked, where they are: it must mean the same
        for all systems that are compared, as the deepest trained path's CTC loss does and a `total` does not."""
        return "ctc" if "ctc" in terms else "total"

    def after_step(self, module: nn.Module, step: Step) -> None:
        """After each optimiser step: masks, dual variables."""

    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        """Once between training and use: remove gates, fold scales, quantise. May return another architecture. The
        statistics of batch norm are not its business."""
        return module

    def as_trained(self, module: nn.Module) -> nn.Module:
        """A finished module, rebuilt and with its weights, in the form that the last stage trains, in place or another:
        on it the time and the memory of a training step are measured. By default the finished form itself."""
        return module

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        """The points over which the statistics of batch norm are estimated again after `finish`, asked once a batch:
        by default those that were trained, or all where none says so. None at all: the statistics stay as they are."""
        points = self.points(module)
        return [point for point in points if point.trained] or points

    def architecture(self, module: nn.Module) -> dict[str, Any]:
        """What `rebuild` needs beside the configuration, as JSON: shapes that training or `finish` changed."""
        return {}

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        """A module of the given architecture, ready for `load_state_dict`; without `self.inputs`."""
        return self.backbone.build()

    @abstractmethod
    def points(self, module: nn.Module) -> list[Point]:
        """All operating points that the method offers."""

    def expected_points(self) -> list[Point] | None:
        """The points that a trained system will have, before anything is trained, so that an experiment which asks for
        others is refused early; None where only training tells. By default `points` is asked of the backbone without
        weights: a method whose points depend on nothing else need not define this."""
        if not self.recognises:
            return []
        try:
            return self.points(self.backbone.outline())
        except Exception:  # whatever `points` reads of a trained module and misses in this one: not known yet
            return None

    def outline(self) -> nn.Module | None:
        """A finished system's shapes without its weights (torch's meta device), before anything is trained: as many
        weights as `parameters` will say are stored, dense ones in the place of packed ones. None: count them on
        `untrained`. By default the backbone's, of a method that does not say how else its systems are rebuilt."""
        return self.backbone.outline() if type(self).rebuild is Method.rebuild else None

    def untrained(self) -> nn.Module:
        """What `build` gives, without a file or a network: on it costs are counted before anything is trained."""
        return self.build()

    def costs_are_learned(self, point: Point) -> bool:
        """Whether what a point executes follows from the trained weights: how far an utterance has to go, say, or how
        large a rank is. Then costs of random weights say nothing of it."""
        return False

    def at(self, module: nn.Module, point: Point) -> Recogniser:
        """The whole model at a point: a narrower encoder may change what the decoder and the CTC layer read."""
        if point.path is None or not isinstance(module, Backbone):
            raise TypeError(f"{type(self).__name__} has points that are not paths and must define `at`")
        return AtPath(module, point.path)

    def encode_points(
        self, module: nn.Module, inputs: Tensor, lengths: Tensor, points: Sequence[Point]
    ) -> Iterator[tuple[Point, Encoded]]:
        """Encoder outputs of all points. Paths share every layer execution that they have in common."""
        if isinstance(module, Backbone) and all(point.is_path for point in points):
            by_path = {point.path: point for point in points}
            state = module.front_end(inputs, lengths)
            for path, end in run_paths(by_path, state, module.run_layer):
                yield by_path[path], module.finish(end)
        else:
            for point in points:
                yield point, self.at(module, point).encode(inputs, lengths)

    def output_lengths(self, module: nn.Module, lengths: list[int]) -> list[int]:
        """Encoder frames that inputs of these lengths (in frames) leave."""
        return module.output_lengths(lengths)

    def cost_key(self, point: Point) -> Hashable:
        """Points with equal keys cost the same and are measured once."""
        if point.path is None:
            return point.id
        # The layers of a backbone have one shape: only how many executions there are, and of which layers, matters.
        return point.depth, tuple(count > 0 for count in point.path), tuple(sorted(point.settings.items()))

    def parameters(self, module: nn.Module, point: Point) -> ParameterCount:
        """Weights stored, not zero, and executed at a point."""
        stored, nonzero = count_weights(module)
        skipped = 0
        if point.path is not None and isinstance(module, Backbone):
            unused = [module.layer_module(layer) for layer, count in enumerate(point.path) if count == 0]
            skipped = sum(count_weights(layer)[0] for layer in unused)
        return ParameterCount(stored, nonzero, stored - skipped)

    def stored_bytes(self, module: nn.Module, points: Sequence[Point]) -> int:
        """Bytes of weights and buffers that must be shipped to run `points`; equal to the tensors of
        `model.safetensors`."""
        return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())

    def bits_a_weight(self, module: nn.Module, point: Point) -> float | None:
        """Bits on disk, scales included, for each weight of the layers' matrices that `point` needs; None: those in
        which the module holds them."""
        return None

    def plain(self, module: nn.Module) -> nn.Module:
        """A finished module without what only points with settings need: what is exported."""
        return module


def all_points(method: Method, module: nn.Module, further: Iterable[Path]) -> list[Point]:
    """What the method offers, and the further paths that the experiment evaluates, those already offered left out."""
    offered = method.points(module)
    known = {point.path for point in offered}
    extra = [check_shape(path, method.backbone.config.layers) for path in further]
    return offered + path_points([path for path in extra if path not in known], (), offered=False)
