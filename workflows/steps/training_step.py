"""One optimiser step of a trained system's stages, as the training loop takes it, to be measured.

The module is rebuilt as training left it: what the built module or the last stage froze stays frozen. Layer drop is
off: it would let a draw decide how many layers are measured. Steps are those at the end of a stage, when every term of
the loss counts.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from asr.backbones import Backbone, Batch
from asr.optimiser import make_optimiser
from asr.precision import float32_products, precision_of
from asr.seeds import seed_step
from asr.settings import TrainingSettings
from asr.training import compile_layers
from methods.contract import Method, Stage, Step, TrainedSystem
from workflows.systems import load_trainable

LEARNING_RATE = 1e-6
"""The weights are to stay as they are, however often a step is taken."""
PARTS_AT_MOST = 2
"""Batches of one step that decide its memory: from the second on there are gradients beside the activations."""


def measurable_stages(system: TrainedSystem, training: TrainingSettings) -> list[Stage]:
    """The stages of a system's `training`; none where nothing is trained, or where the losses, its own or those of
    what it is derived from, read another system, which measuring does not have."""
    if any(method.needs_in_training(method.config) for method in (system.method, system.method.first)):
        return []
    return system.method.stages(training)


def alike_steps(method: Method, stage: Stage) -> list[tuple[int, int]]:
    """The last of each run of steps that compute alike, and how many these are."""
    ends = [*method.changes_at(stage), stage.training.steps]
    return [(end - 1, end - start) for start, end in itertools.pairwise([0, *ends])]


def training_step(
    folder: Path,
    stage: Stage,
    batch: Batch,
    parts: int,
    device: torch.device,
    packages: Sequence[str] = (),
    index: int | None = None,
) -> Callable[[], None]:
    """A step of `parts` accumulated batches: forwards, backwards, clipping, AdamW; the last one of the stage, or that
    of number `index`. Takes the memory of a training: weights, and from the first call on AdamW's state."""
    system = load_trainable(folder, device, packages)
    method, module, training = system.method, system.module.train(), stage.training
    without_layer_drop(module)
    compile_layers(module, training, device)
    batch, adamw = batch.to(device), training.optimiser
    groups = method.parameter_groups(module, stage)
    optimiser = make_optimiser(groups, adamw, LEARNING_RATE)
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    index = training.steps - 1 if index is None else index
    place = Step(stage.name, index, seed=0, steps=training.steps)

    def step() -> None:
        seed_step(0, "measure", 0, 0)
        for _ in range(parts):
            with float32_products(training.precision, device):
                with precision_of(training.precision, device):
                    total = method.losses(module, batch, place)["total"]
                (total / parts).backward()
            del total
        torch.nn.utils.clip_grad_norm_(trained, adamw.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        method.after_step(module, place)

    return step


def without_layer_drop(module: nn.Module) -> None:
    """Every execution of a layer runs."""
    for part in module.modules():
        if isinstance(part, Backbone):
            part.layer_drop = 0.0
