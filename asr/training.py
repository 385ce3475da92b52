"""One readable training loop on Lightning Fabric, for every method and backbone.

`run_stage` trains a module with an `Objective`, validates, keeps the states that the settings ask for
(`asr.checkpoints`), and can be killed at any time: it goes on from the last checkpoint in its folder. Everything random
about a step follows from (seed, step): the loop seeds torch and numpy before each step, so no generator state has to be
saved, and on CPU a resumed run is bit-identical.
"""

import contextlib
import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from asr.backbones import Batch
from asr.batches import StageData
from asr.checkpoints import Checkpoints, save_state
from asr.optimiser import make_optimiser
from asr.precision import exact_by_default, float32_products, precision_of
from asr.processes import together
from asr.schedules import factor_at
from asr.seeds import seed_step
from asr.settings import Precision, TrainingSettings
from asr.training_log import TrainingLog
from common.errors import UserError


class Objective(Protocol):
    """What is minimised: a method at one of its stages."""

    def losses(
        self, module: nn.Module, batch: Batch, index: int, micro_batch: int, rank: int, training: bool
    ) -> dict[str, Tensor]:
        """Named terms and their `total`. `micro_batch` counts the batches of a step on one device, or, when
        `training` is False, those of the dev set; `rank` counts devices, and is 0 on the dev set."""

    def after_step(self, module: nn.Module, index: int) -> None: ...

    def parameter_groups(self, module: nn.Module) -> list[dict[str, Any]]: ...

    def selection_term(self, terms: Collection[str]) -> str:
        """Of the terms of a validation the one by which states are ranked."""


def make_fabric(settings: TrainingSettings) -> Fabric:
    """Fabric on the accelerator there is, or on the CPU; several devices by DDP. Float32 products are exact from here
    on, wherever `asr.precision` is not asked for others.

    Fabric itself knows nothing of precision: its own would round a batch before features, masks and labels are made
    of it.
    """
    exact_by_default()
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    # Stochastic depth leaves whole layers without gradient in some steps.
    strategy = DDPStrategy(find_unused_parameters=True) if settings.devices > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=settings.devices, precision="32-true", strategy=strategy)
    fabric.launch()
    if fabric.world_size != settings.devices:
        raise UserError(
            f"training.devices is {settings.devices}, but {fabric.world_size} process(es) were started; under a "
            "launcher (srun, torchrun) the number of tasks must be the number of devices"
        )
    return fabric


class _Forward(nn.Module):
    """Losses as a forward pass, so that DDP sees one call: in training in the precision asked for and as parts of those
    of all processes, else in float32 and alone. Only the total has a gradient."""

    def __init__(self, module: nn.Module, objective: Objective, precision: Precision, fabric: Fabric):
        super().__init__()
        self.module = module
        self.compute = objective.losses
        self.precision = precision
        self.device, self.rank, self.processes = fabric.device, fabric.global_rank, fabric.world_size

    def forward(self, batch: Batch, index: int, micro_batch: int) -> dict[str, Tensor]:
        precision, rank, processes = ("32-true", 0, 1)
        if self.training:
            precision, rank, processes = self.precision, self.rank, self.processes
        with precision_of(precision, self.device), together(processes):
            terms = self.compute(self.module, batch, index, micro_batch, rank, self.training)
        return {name: value if name == "total" else value.detach() for name, value in terms.items()}


def run_stage(
    fabric: Fabric,
    module: nn.Module,
    objective: Objective,
    data: StageData,
    settings: TrainingSettings,
    seed: int,
    folder: Path,
    fingerprint: dict[str, Any],
    name: str,
) -> None:
    """Train `module` in place; afterwards it holds the state that `settings.keep` asks for.

    `folder` keeps the checkpoint, the kept states and `log.jsonl`; `fingerprint` is what a checkpoint must agree with
    to be resumed. Raises `UserError` when a loss is not finite or the checkpoint belongs to another configuration.
    """
    forward = _Forward(module, objective, settings.precision, fabric)
    groups = objective.parameter_groups(module)
    adamw = settings.optimiser
    optimiser = make_optimiser(groups, adamw)
    base_rates = [group["lr"] for group in optimiser.param_groups]
    factor = factor_at(settings.schedule, settings.steps, adamw.learning_rate)
    forward, optimiser = fabric.setup(forward, optimiser)
    checkpoints = Checkpoints(folder, fingerprint, settings.keep, settings.keep_states)
    start = checkpoints.resume(module, optimiser)
    if fabric.is_global_zero:
        checkpoints.clean()
    fabric.barrier()
    log = TrainingLog(fabric, folder, name, settings, start)
    batches = data.train(start * settings.accumulate, fabric.global_rank, fabric.world_size)
    with contextlib.closing(log), float32_products(settings.precision, fabric.device):
        for index in range(start, settings.steps):
            for group, rate in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor(index)
            seed_step(seed, name, index, fabric.global_rank)
            forward.train()
            for micro_batch in range(settings.accumulate):
                batch = next(batches)
                with fabric.no_backward_sync(forward, enabled=micro_batch < settings.accumulate - 1):
                    terms = forward(batch, index, micro_batch)
                    if not torch.isfinite(terms["total"]):
                        _report_not_finite(folder, module, batch, terms, index)
                    fabric.backward(terms["total"] / settings.accumulate)
                log.add(terms)
            norm = fabric.clip_gradients(forward, optimiser, max_norm=adamw.clip_norm, error_if_nonfinite=False)
            if not torch.isfinite(norm):
                _report_not_finite(folder, module, batch, {**terms, "gradient_norm": norm}, index)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            objective.after_step(module, index)
            log.step(index, optimiser.param_groups[0]["lr"])
            done = index + 1
            if done == settings.steps or done % settings.validate_every == 0:
                # Every device validates the whole (small) dev set: the same number everywhere, without communication.
                scores = validate(forward, data.dev(), index, seed, name)
                log.validated(index, scores)
                loss = scores[_selected(objective, scores)]
                if not (math.isfinite(loss) and math.isfinite(scores["total"])):
                    found = {f"dev.{term}": torch.tensor(value) for term, value in scores.items()}
                    _report_not_finite(folder, module, batch, found, index)
                if fabric.is_global_zero:
                    checkpoints.offer(loss, done, module)
            if fabric.is_global_zero and (done == settings.steps or done % settings.checkpoint_every == 0):
                checkpoints.save(done, module, optimiser)
    fabric.barrier()  # the first process has written what all of them read now
    module.load_state_dict(checkpoints.final(fabric.device))


@torch.no_grad()
def validate(forward: nn.Module, batches: Iterator[Batch], index: int, seed: int, stage: str) -> dict[str, float]:
    """Mean of every term over the dev batches, weighted by their utterances. What is drawn for a batch is the same
    after every step."""
    forward.eval()
    sums: dict[str, float] = defaultdict(float)
    utterances = 0
    for number, batch in enumerate(batches):
        seed_step(seed, f"{stage} validation", number, 0)
        for term, value in forward(batch, index, number).items():
            sums[term] += float(value) * len(batch.ids)
        utterances += len(batch.ids)
    if not utterances:
        raise UserError("the dev set holds no utterance that can be used for validation")
    return {term: value / utterances for term, value in sums.items()}


def _selected(objective: Objective, scores: dict[str, float]) -> str:
    term = objective.selection_term(scores)
    if term not in scores:
        raise ValueError(f"states are to be ranked by '{term}', which is none of the losses: {', '.join(scores)}")
    return term


def _report_not_finite(folder: Path, module: nn.Module, batch: Batch, terms: dict[str, Tensor], index: int) -> None:
    """Save the weights and the batch, then stop."""
    path = folder / "not_finite.pt"
    values = {name: float(value.detach()) for name, value in terms.items()}
    state = {"step": index, "terms": values, "module": module.state_dict(), "batch": dataclasses.asdict(batch)}
    save_state(path, state)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise UserError(
        f"the loss is not finite at step {index + 1} ({shown}); utterances: {', '.join(batch.ids[:5])}"
        f"{' ...' if len(batch.ids) > 5 else ''}. Weights and batch are saved in {path}"
    )
