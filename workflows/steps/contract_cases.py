"""What the contract is checked on: a method with its settings on a small backbone, with sources of random weights."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr.backbones import BackboneFactory, Batch
from asr.batch_norm import statistics_of
from asr.settings import TrainingSettings
from methods.contract import Method, Stage, Step, SystemReference, TrainedSystem, load_method, make_method
from workflows.steps.training_step import without_layer_drop
from workflows.systems import save_system

WAVE = {
    "layers": 3,
    "width": 32,
    "heads": 4,
    "ffn": 48,
    "conv_dim": [16, 16, 16],
    "conv_kernel": [8, 3, 3],
    "conv_stride": [4, 2, 2],
    "positional_kernel": 16,
    "positional_groups": 4,
    "mask_time_length": 2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "layer_drop": 0.0,
}
SMALL = {
    "conformer": {
        "layers": 4,
        "input_dim": 20,
        "width": 32,
        "heads": 2,
        "ffn": 48,
        "kernel": 7,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "decoder_ffn": 32,
        "dropout": 0.0,
        "layer_drop": 0.0,
        "spec_augment": None,
    },
    "wav2vec2": WAVE,
    "hubert": WAVE,
}
"""Backbones with nothing random: passes can be compared."""
VOCABULARY = {"conformer": 12, "wav2vec2": 32, "hubert": 32}
LENGTHS = {"conformer": (90, 61, 40), "wav2vec2": (900, 500, 731), "hubert": (900, 500, 731)}
"""Frames of features, samples of waveforms."""
TARGETS = ((5, 6, 7), (7, 8), (9,))
TRAINING = TrainingSettings(steps=4, schedule={"kind": "linear", "warmup_steps": 1})


class BrokenContract(AssertionError):
    """What a method does that the contract forbids, or does not do that it asks for."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A method with its settings on a small backbone."""

    name: str
    backbone: BackboneFactory
    settings: Mapping[str, Any]
    packages: Sequence[str] = ()
    source: tuple[str, Mapping[str, Any]] = ("baselines.all_physical", {})
    """Method and settings of the systems that it starts from."""

    def sources(self) -> dict[str, TrainedSystem]:
        """A system with random weights for every one that the method starts from, frozen as it is in training."""
        torch.manual_seed(0)
        kind = load_method(self.name, self.name, self.packages)
        roles = kind.needs(kind.Config.model_validate(self.settings))
        method = make_method(*self.source, self.backbone)
        trained = {role: method.build().eval().requires_grad_(False) for role in roles}
        return {
            role: TrainedSystem(name, trained[role], method, running_statistics=statistics_of(trained[role]))
            for role, name in roles.items()
        }

    def method(self, sources: Mapping[str, TrainedSystem] | None = None) -> Method:
        return make_method(self.name, dict(self.settings), self.backbone, sources, self.name, self.packages)

    def batch(self, seed: int = 1, labelled: bool = True) -> Batch:
        """Three utterances of noise."""
        generator = torch.Generator().manual_seed(seed)
        name = self.backbone.name
        lengths = LENGTHS[name]
        shape = (max(lengths), SMALL[name]["input_dim"]) if name == "conformer" else (max(lengths),)
        inputs = torch.randn(len(lengths), *shape, generator=generator)
        for row, length in zip(inputs, lengths, strict=True):
            row[length:] = 0
        ids = tuple(f"s-{number}" for number in range(len(lengths)))
        if not labelled:
            return Batch(ids, inputs, torch.tensor(lengths))
        tokens = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in TARGETS], True, -1)
        return Batch(ids, inputs, torch.tensor(lengths), tokens, torch.tensor([len(row) for row in TARGETS]))

    def batches(self, labelled: bool = True) -> Iterator[Batch]:
        return iter([self.batch(1, labelled), self.batch(3, labelled)])


def case(name: str, backbone: str, settings: Mapping[str, Any] | None = None, packages: Sequence[str] = ()) -> Case:
    """A method by its module path, with its least settings: a reference to a system where it requires one."""
    fields = load_method(name, name, packages).Config.model_fields
    references = {
        key: {"system": "source"}
        for key, field in fields.items()
        if field.is_required() and refers_to_system(field.annotation)
    }
    factory = BackboneFactory(backbone, SMALL[backbone], VOCABULARY[backbone])
    return Case(name, factory, {**references, **(settings or {})}, tuple(packages))


def refers_to_system(annotation: Any) -> bool:
    kinds = [annotation, *typing.get_args(annotation)]
    return any(isinstance(kind, type) and issubclass(kind, SystemReference) for kind in kinds)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise BrokenContract(message)


def in_stages(case: Case, method: Method, labelled_only: bool = False) -> Iterator[tuple[Stage, nn.Module]]:
    """Build, then for each stage: begin it, give it to the caller, and take one optimiser step, in which every layer
    runs: a draw would decide which of them gradients reach."""
    torch.manual_seed(0)
    module = method.build()
    for stage in method.stages(TRAINING):
        module = method.begin_stage(module, stage, case.batches(stage.labelled))
        without_layer_drop(module.train())
        yield stage, module
        groups = method.parameter_groups(module, stage)
        if not any(group["params"] for group in groups):
            continue
        step, optimiser = Step(stage.name, 0, 7), torch.optim.AdamW(groups, lr=1e-3)
        optimiser.zero_grad()
        method.losses(module, case.batch(labelled=stage.labelled), step)["total"].backward()
        optimiser.step()
        method.after_step(module, step)
        optimiser.zero_grad()
    yield Stage("finished", TRAINING), method.finish(module.eval(), case.batches()).eval()


def finished(case: Case) -> tuple[Method, nn.Module]:
    """The method and its module after one step of every stage."""
    method = case.method(case.sources())
    *_, (_, module) = in_stages(case, method)
    return method, module


def save(case: Case, method: Method, module: nn.Module, folder: Path) -> None:
    settings = method.config.model_dump(mode="json")
    names = {"name": "x", "seed": 0, "method": case.name, "settings": settings}
    save_system(folder, module, method, {**names, "vocabulary": case.backbone.vocabulary})
