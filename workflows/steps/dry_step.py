"""A training step before there are data or weights: how long it takes, and how much memory.

The real module with random weights, the method's own losses, noise of `measure.audio_seconds` an utterance. A GPU takes
a batch as large as the settings say. A processor takes some of its utterances, and what they take is scaled up: time
and activations grow with their number. Activations are counted as the bytes that the backward pass keeps.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asr.backbones import Batch
from asr.optimiser import make_optimiser
from asr.precision import float32_products, precision_of
from asr.seeds import seed_step
from methods.contract import Method, Stage, Step
from workflows.experiment import Experiment
from workflows.steps.heard import Noise, utterances_of
from workflows.steps.times import timed
from workflows.steps.training_step import without_layer_drop

UTTERANCES_ON_CPU = 2
REPEATS = 2
"""Steps that are timed, after one that is not."""


class StepCost(NamedTuple):
    """Of one optimiser step, and what its device holds at most; `of` says how many of how many utterances ran."""

    seconds: float
    memory_bytes: int
    of: tuple[int, int]


def steppable(method: Method) -> bool:
    """Whether a step can be taken without another system: it trains a backbone as it is built, and its losses read no
    other. Where its weights would start from is no matter."""
    return type(method).rebuild is Method.rebuild and not method.needs_in_training(method.config)


def dry_step(experiment: Experiment, system: str, method: Method, device: torch.device) -> StepCost:
    """The cost of a step of a system's last stage."""
    torch.set_num_threads(experiment.threads)
    stage, seconds = method.stages(experiment.training_of(system))[-1], experiment.measure.audio_seconds
    whole = utterances_of(stage.training, seconds)
    taken = whole if device.type == "cuda" else min(whole, UTTERANCES_ON_CPU)
    module = method.backbone.build().to(device).train()
    without_layer_drop(module)
    batch = Noise(experiment, system).batch(taken, seconds, method.backbone.vocabulary, stage.labelled).to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    passes, update, kept = parts_of_a_step(method, module, stage, batch, device)
    passed, updated = times(passes, update, device)
    each = whole / taken
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
    else:
        memory = weights_in_training(module) + round(kept() * each)
    return StepCost(stage.training.accumulate * passed * each + updated, memory, (taken, whole))


def parts_of_a_step(
    method: Method, module: nn.Module, stage: Stage, batch: Batch, device: torch.device
) -> tuple[Callable[[], None], Callable[[], None], Callable[[], int]]:
    """Both passes over a batch, the update of the weights, and how many bytes the last passes kept in between."""
    training = stage.training
    optimiser = make_optimiser(method.parameter_groups(module, stage), training.optimiser, rate=1e-6)
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    last = Step(stage.name, training.steps - 1, seed=0, steps=training.steps)
    kept: dict[int, int] = {}

    def passes() -> None:
        seed_step(0, "preflight", 0, 0)
        kept.clear()
        with float32_products(training.precision, device):
            with precision_of(training.precision, device), counting(kept, module):
                total = method.losses(module, batch, last)["total"]
            total.backward()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(trained, training.optimiser.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return passes, update, lambda: sum(kept.values())


@contextlib.contextmanager
def counting(kept: dict[int, int], module: nn.Module) -> Iterator[None]:
    """Note what is kept for the backward pass, each piece of memory once, weights apart: address -> bytes."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield


def times(passes: Callable[[], None], update: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds of the passes and of the update, the least of some repeats."""
    found = [(timed(passes, device), timed(update, device)) for _ in range(1 + REPEATS)]
    return min(each[0] for each in found[1:]), min(each[1] for each in found[1:])


def weights_in_training(module: nn.Module) -> int:
    """Bytes of weights, and for those that are trained of gradients and AdamW's two averages."""
    return sum(
        (4 if parameter.requires_grad else 1) * parameter.numel() * parameter.element_size()
        for parameter in module.parameters()
    )
