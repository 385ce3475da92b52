"""The contract that every method and baseline fulfils, readable in two minutes.

A method makes a backbone smaller. It lives in one file, as one subclass of `Method`, and is named in an experiment by
its module path (`methods.unfolding`); nothing registers it. The steps call it in this order:

    train      build -> for each of stages(): begin_stage, losses and after_step per step -> finish -> architecture;
               then the step estimates the statistics of batch norm again, over statistics_points
    evaluate   rebuild -> points -> encode_points (and `at` for what reads the encoder output)
    measure    parameters, stored_bytes, `at`; for what training takes rebuild, parameter_groups, losses, after_step

The module that `build` returns holds physical weights only. A point is data that the forward pass reads, never a copy
or an alias of weights, so that parameter counts, checkpoints and memory figures are honest. Defaults keep the simple
case simple: `baselines/all_physical.py` is the smallest method.
"""

import dataclasses
import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from pydantic import model_validator
from torch import Tensor, nn

from asr.backbones import Backbone, BackboneFactory, Batch, Encoded
from asr.settings import TokenizerSettings, TrainingSettings
from common.errors import UserError
from common.settings import Settings, parse
from methods.paths import Path, check_shape, format_path, run_paths
from methods.shared.names import check_method_exists


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


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training stage, resumable on its own."""

    name: str
    training: TrainingSettings
    labelled: bool = True
    """Unlabelled stages get batches without targets."""
    set: str = "train"


@dataclasses.dataclass(frozen=True)
class Step:
    """Where training stands. Everything random about a step follows from (seed, stage, index, micro_batch, rank); what
    is random about a validation from (seed, stage, micro_batch), so that validations compare."""

    stage: str
    index: int
    seed: int
    training: bool = True
    micro_batch: int = 0
    """Number of the batch within an accumulated step, or within the dev set. 0 in `after_step`."""
    rank: int = 0
    """Number of the device. 0 on the dev set and in `after_step`: what changes a module is the same on all devices."""
    steps: int | None = None
    """How many steps the stage has; None outside of a training."""

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose, so that one more draw here never shifts another; new for each
        micro-batch and device."""
        place = f"{self.index} {self.micro_batch} {self.rank}" if self.training else f"dev {self.micro_batch}"
        text = f"{self.seed} {self.stage} {place} {purpose}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(number)


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """Numbers of weights: in the checkpoint, of those not zero, and used when the point runs (a repeat counts once)."""

    stored: int
    nonzero: int
    executed: int


class Recogniser(Protocol):
    """A trained system at one point, as decoding and measuring see it."""

    def encode(self, inputs: Tensor, lengths: Tensor) -> Encoded: ...

    def ctc_log_probs(self, encoded: Encoded) -> Tensor: ...

    def scorers(self) -> dict[str, Any]: ...


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

    def check_sources(self, backbones: Mapping[str, BackboneFactory]) -> None:
        """Refuse systems that training starts from, given as role -> backbone, that do not fit: before any work too.
        Raises `UserError`."""

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
        with torch.device("meta"):
            outline = self.backbone.build()
        try:
            return self.points(outline)
        except Exception:  # whatever `points` reads of a trained module and misses in this one: not known yet
            return None

    def at(self, module: nn.Module, point: Point) -> Recogniser:
        """The whole model at a point: a narrower encoder may change what the decoder and the CTC layer read."""
        if point.path is None or not isinstance(module, Backbone):
            raise TypeError(f"{type(self).__name__} has points that are not paths and must define `at`")
        return AtPath(module, point.path)

    def encode_points(
        self, module: nn.Module, inputs: Tensor, lengths: Tensor, points: Sequence[Point]
    ) -> Iterator[tuple[Point, Encoded]]:
        """Encoder outputs of all points. Paths share every layer execution that they have in common."""
        if isinstance(module, Backbone) and all(point.path is not None for point in points):
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
        return point.depth, tuple(count > 0 for count in point.path)

    def parameters(self, module: nn.Module, point: Point) -> ParameterCount:
        """Weights stored, not zero, and executed at a point."""
        stored = sum(parameter.numel() for parameter in module.parameters())
        nonzero = sum(int(parameter.count_nonzero()) for parameter in module.parameters())
        skipped = 0
        if point.path is not None and isinstance(module, Backbone):
            unused = [module.layer_module(layer) for layer, count in enumerate(point.path) if count == 0]
            skipped = sum(parameter.numel() for layer in unused for parameter in layer.parameters())
        return ParameterCount(stored, nonzero, stored - skipped)

    def stored_bytes(self, module: nn.Module, points: Sequence[Point]) -> int:
        """Bytes of weights and buffers that must be shipped to run `points`; equal to the tensors of
        `model.safetensors`."""
        return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


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


def all_points(method: Method, module: nn.Module, further: Iterable[Path]) -> list[Point]:
    """What the method offers, and the further paths that the experiment evaluates, those already offered left out."""
    offered = method.points(module)
    known = {point.path for point in offered}
    extra = [check_shape(path, method.backbone.config.layers) for path in further]
    return offered + path_points([path for path in extra if path not in known], (), offered=False)


def load_method(name: str, where: str, packages: Sequence[str] = ()) -> type[Method]:
    """The one `Method` subclass that module `name` defines, a module of this project or of one of `packages`. Raises
    `UserError` with the closest name."""
    check_method_exists(name, where, packages)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"{where}: method '{name}' needs the package '{error.name}', which is not installed") from error
    except Exception as error:  # somebody's file: whatever is wrong with it is said as what is wrong with this method
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{where}: method '{name}' cannot be imported ({reason})") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == name
    ]
    if len(found) != 1:
        raise UserError(f"{where}: module '{name}' defines {len(found)} subclasses of Method; it must define one")
    return found[0]


def make_method(
    name: str,
    settings: dict[str, Any],
    backbone: BackboneFactory,
    inputs: Mapping[str, TrainedSystem] | None = None,
    where: str = "method",
    packages: Sequence[str] = (),
) -> Method:
    """A method with validated settings. Raises `UserError` naming `where` and the key."""
    kind = load_method(name, where, packages)
    config = parse(kind.Config, settings, f"{where}: settings")
    try:
        method = kind(config, backbone, inputs)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    method.packages = tuple(packages)
    return method
