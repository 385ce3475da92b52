"""What an export is made from: a trained system, the data it was trained on, and what was found out about it."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import nn

from analysis.inputs import schemas
from analysis.inputs.results import Results
from asr.backbones import Backbone
from asr.backbones.speech_encoder import SpeechEncoder
from asr.features import Normaliser
from asr.paths import parse_path
from asr.settings import FeatureSettings
from asr.tokenizer import Tokenizer
from common.errors import UserError
from common.files import read_json, sha256
from common.settings import parse
from methods.contract import AtPath, Method, Point
from methods.paths import Path as Counts
from methods.paths import format_path
from methods.shared.derived import Derived
from workflows.steps.export.weights import dense, is_backbone
from workflows.systems import load_system

EXPORTED = ("conformer", "wav2vec2", "hubert")
"""Backbones that there are classes for in `asr.exported.huggingface`."""


@dataclasses.dataclass(frozen=True)
class ExportedSystem:
    """Everything that the exported files are written from."""

    name: str
    seed: int
    module: Backbone
    method: Method
    tokenizer: Tokenizer
    features: FeatureSettings
    normaliser: Normaliser | None
    """None for waveforms, which are normalised utterance by utterance."""
    corpus: dict[str, Any]
    provenance: dict[str, Any]
    ancestors: dict[str, dict[str, Any]]
    """The systems whose weights it began with, the nearest first, each with its configuration."""
    evaluation: "Evaluation | None"
    """None where it was not evaluated."""
    offered: list[Point]
    chosen: dict[int, Point]
    """The point that stands for each depth."""

    @property
    def reads_waveforms(self) -> bool:
        return isinstance(self.module, SpeechEncoder)

    @property
    def sampling_rate(self) -> int:
        return self.corpus["sampling_rate"]

    @cached_property
    def dense(self) -> Backbone:
        """The module with no weights packed, for formats that have no packed ones."""
        return dense(self.module, self.method.backbone)

    @property
    def chain(self) -> list[tuple[str, Method]]:
        """The methods that made it, each with the name of its system: the first is derived from nothing."""
        links, name, method = [], self.name, self.method
        while isinstance(method, Derived):
            links.append((name, method))
            name, method = method.config.source.system, method.made_by
        return [(name, method), *reversed(links)]

    @property
    def default_depth(self) -> int:
        """The deepest that was trained; the deepest of all where none was."""
        return max(point.depth for point in trained_of(self.offered))

    def paths(self, depth: int) -> list[Counts]:
        """The allowed paths of a depth."""
        return [point.path for point in self.offered if point.depth == depth]

    def find(self, wanted: str, option: str) -> Counts:
        """The path that an option names by its depth or by its counts. Raises `UserError` naming the possible ones."""
        path = parse_path(wanted)
        depth = path[0] if len(path) == 1 else sum(path)
        if depth not in self.chosen:
            depths = ", ".join(map(str, self.chosen))
            raise UserError(f"{option} {wanted}: '{self.name}' does not run at depth {depth}; possible: {depths}")
        if len(path) == 1:
            return self.chosen[depth].path
        if path not in self.paths(depth):
            allowed = ", ".join(repr(format_path(each)) for each in self.paths(depth))
            raise UserError(f"{option} '{wanted}': not a path of '{self.name}'; at depth {depth}: {allowed}")
        return path


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an experiment found out about one of its systems."""

    results: Results
    system: str
    seed: int

    @property
    def decode(self) -> str | None:
        """The decode that the exported model makes too: the first greedy one, else the first; None where nothing was
        decoded."""
        decoded = list(self.results.points(self.system, self.seed).decodes)
        kinds = self.results.experiment.decodes
        greedy = [name for name in decoded if kinds.get(name, {}).get("kind") == "greedy"]
        return next(iter([*greedy, *decoded]), None)

    def scored(self, point: Point) -> schemas.Point | None:
        """The evaluated point of the same path, and of the same settings where there are any."""
        points = self.results.points(self.system, self.seed).points
        wanted = (point.path, tuple(sorted(point.settings.items())))
        return next((each for each in points if (each.path, each.settings) == wanted), None)

    def chosen_on_dev(self, candidates: Sequence[Point]) -> Point | None:
        """The candidate that the evaluation found to have the median errors on the development set, by the exported
        model's decode or else by another: one may have decoded the depths of tables alone. None where none chose."""
        found = self.results.points(self.system, self.seed)
        decodes = sorted(found.decodes, key=lambda name: name != self.decode)
        choices = [choice for name in decodes for choice in found.decodes[name].choices]
        chosen = next((choice.on_dev for choice in choices if choice.depth == candidates[0].depth), None)
        path = next((point.path for point in found.points if point.id == chosen), None)
        return next((point for point in candidates if point.path == path), None)


def read_system(folder: Path, data: Path | None, packages: Sequence[str] = ()) -> ExportedSystem:
    """Read a system and what belongs to it. Raises `UserError` for one that cannot be exported."""
    folder = folder.resolve()
    system = load_system(folder, packages=packages)
    description = read_json(folder / "system.json")
    module = system.method.plain(system.module)
    offered = _exported_points(system.method, module)
    _check_exportable(folder, description, system.method, module, offered)
    provenance = read_json(folder / "provenance.json")
    configuration = provenance["configuration"]
    features = parse(FeatureSettings, configuration["features"], str(folder / "provenance.json"))
    prepared = data or folder.parents[2] / "data" / configuration["corpus"]["name"]
    prepared = _find_data(prepared, folder, configuration.get("data", {}), description["vocabulary"])
    corpus = next(path for path in (prepared / "corpus.json", prepared.parent / "corpus.json") if path.is_file())
    evaluation = _find_evaluation(folder, system.name, description["seed"])
    return ExportedSystem(
        name=system.name,
        seed=description["seed"],
        module=module,
        method=system.method,
        tokenizer=Tokenizer.load(prepared / "tokenizer.json"),
        features=features,
        normaliser=None if isinstance(module, SpeechEncoder) else Normaliser.load(prepared / "cmvn.json"),
        corpus=read_json(corpus),
        provenance=provenance,
        ancestors=find_ancestors(folder, configuration),
        evaluation=evaluation,
        offered=offered,
        chosen=choose_points(offered, evaluation),
    )


def find_ancestors(folder: Path, configuration: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The systems that a system's settings name, theirs, and so on, as far as they stand beside it."""
    found: dict[str, dict[str, Any]] = {}
    references = [value for value in configuration["settings"].values() if isinstance(value, dict)]
    for name in [reference["system"] for reference in references if "system" in reference]:
        provenance = folder.parents[1] / name / folder.name / "provenance.json"
        if provenance.is_file():
            earlier = read_json(provenance)["configuration"]
            found |= {name: earlier, **find_ancestors(provenance.parent, earlier)}
    return found


def trained_of(points: Sequence[Point]) -> list[Point]:
    """Those at which a training loss was taken; all where there was none at any."""
    return [point for point in points if point.trained] or list(points)


def choose_points(offered: Sequence[Point], evaluation: Evaluation | None) -> dict[int, Point]:
    """The point that stands for each depth: the one that was trained; of several, or where none was, the one with the
    median errors on the development set, by the rule of the tables; where that was not decoded, the first in path
    order."""
    chosen = {}
    ordered = sorted(offered, key=lambda point: (point.depth, point.path))
    for depth, group in groupby(ordered, key=lambda point: point.depth):
        candidates = trained_of(list(group))
        chosen[depth] = candidates[0]
        if len(candidates) > 1 and evaluation is not None:
            chosen[depth] = evaluation.chosen_on_dev(candidates) or candidates[0]
    return chosen


def _exported_points(method: Method, module: nn.Module) -> list[Point]:
    """Of what is offered the paths of the module as it is; all where there are none."""
    offered = [point for point in method.points(module) if point.offered]
    paths = [point for point in offered if point.path is not None]
    return [point for point in paths if isinstance(method.at(module, point), AtPath)] or offered


def _check_exportable(
    folder: Path, description: dict[str, Any], method: Method, module: nn.Module, offered: list[Point]
) -> None:
    """Raises `UserError` unless the system is one of our backbones as it is, run along paths."""
    name = f"{folder}: system '{description['name']}'"
    if not offered:
        raise UserError(
            f"{name} has no operating points: it recognises nothing before it is fine-tuned; export a system that "
            "starts from it"
        )
    if others := [point.label for point in offered if point.path is None]:
        labels = ", ".join(others[:3])
        raise UserError(
            f"{name}: the points of {description['method']} are no paths ({labels}); only systems that run at depths "
            "can be exported"
        )
    plain = isinstance(module, Backbone) and method.backbone.name in EXPORTED
    if not plain or any(not isinstance(method.at(module, point), AtPath) for point in offered):
        raise UserError(
            f"{name}: {description['method']} runs another model than the plain backbone; see docs/export.md"
        )
    if not is_backbone(module, method.backbone):
        raise UserError(
            f"{name}: {description['method']} left weights of another shape or type than the backbone's, not packed as "
            "`methods.shared.packed` does it; there is no class that could load them elsewhere; see docs/export.md"
        )


def _find_data(prepared: Path, folder: Path, hashes: dict[str, str], vocabulary: int) -> Path:
    """The folder with the tokenizer that the system was trained with: `prepared`, or a folder in it (a family's)."""
    wanted = next((value for key, value in hashes.items() if key.endswith("tokenizer.json")), None)
    found = [path.parent for path in (prepared / "tokenizer.json", *sorted(prepared.glob("*/tokenizer.json")))]
    found = [each for each in found if (each / "tokenizer.json").is_file()]
    for each in found:
        tokenizer = each / "tokenizer.json"
        if wanted is None and len(Tokenizer.load(tokenizer)) == vocabulary:
            return each
        if wanted is not None and sha256(tokenizer) == wanted:
            return each
    if found:
        raise UserError(
            f"{prepared}: no tokenizer.json there is the one that {folder} was trained with; name the folder of its "
            "data with --data, or train the system again"
        )
    raise UserError(
        f"{prepared}: no prepared data (tokenizer.json) there; name the folder that {folder} was trained on with --data"
    )


def _find_evaluation(folder: Path, system: str, seed: int) -> Evaluation | None:
    """What the experiment that the system stands in says of it."""
    root = folder.parents[2]
    if not (root / "experiment.json").is_file() or not (folder / "eval" / "points.json").is_file():
        return None
    results = Results(root)
    return Evaluation(results, system, seed) if results.system_folder(system, seed).resolve() == folder else None
