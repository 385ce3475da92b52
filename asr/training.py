"""One readable training loop on Lightning Fabric, for every method and backbone.

`run_stage` trains a module with an `Objective`, validates, keeps the states that the settings ask for
(`asr.checkpoints`), and can be killed at any time: it goes on from the last checkpoint in its folder. Everything random
about a step follows from (seed, step): the loop seeds torch and numpy before each step, so no generator state has to be
saved, and on CPU a resumed run is bit-identical.
"""

import contextlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from asr.backbones import Backbone, Batch
from asr.backbones.compilation import check_compiler
from asr.batches import StageData
from asr.checkpoints import Checkpoints
from asr.finiteness import FirstNotFinite, stop_not_finite
from asr.optimiser import make_optimiser
from asr.precision import exact_by_default, float32_products, precision_of
from asr.processes import end_with_parent, launched, together
from asr.schedules import factor_at
from asr.seeds import seed_step
from asr.settings import TrainingSettings
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

    On one machine the processes are started here, unless a launcher has done so; over several machines it has to.
    Fabric itself knows nothing of precision: its own would round a batch before features, masks and labels are made
    of it. Raises `UserError` where a launcher started another number of processes than `settings.devices`.
    """
    exact_by_default()
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    # Stochastic depth leaves whole layers without gradient in some steps.
    strategy = DDPStrategy(find_unused_parameters=True) if settings.devices > 1 else "auto"
    machines, started = launched() or (1, settings.devices)
    if started != settings.devices:
        raise UserError(
            f"training.devices is {settings.devices}, but {started} process(es) were started; under a launcher (srun, "
            "torchrun) the number of tasks must be the number of devices"
        )
    asked = {"devices": started // machines, "num_nodes": machines, "precision": "32-true"}
    fabric = Fabric(accelerator=accelerator, strategy=strategy, **asked)
    fabric.launch()
    if fabric.global_rank > 0:
        end_with_parent()
    return fabric


class _Forward(nn.Module):
    """Losses as a forward pass, so that DDP sees one call: in training in the precision asked for and as parts of those
    of all processes, else in float32 and alone. Only the total has a gradient."""

    def __init__(self, module: nn.Module, objective: Objective, settings: TrainingSettings, fabric: Fabric):
        super().__init__()
        self.module = module
        self.compute = objective.losses
        self.precision, self.batch_norm = settings.precision, settings.batch_norm
        self.device, self.rank, self.processes = fabric.device, fabric.global_rank, fabric.world_size

    def forward(self, batch: Batch, index: int, micro_batch: int) -> dict[str, Tensor]:
        precision, rank, processes = ("32-true", 0, 1)
        if self.training:
            precision, rank, processes = self.precision, self.rank, self.processes
        with precision_of(precision, self.device), together(processes, self.batch_norm):
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
    compile_layers(module, settings, fabric.device)
    forward = _Forward(module, objective, settings, fabric)
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
    step = _Step(fabric, forward, optimiser, data, settings, seed, name)
    bad = FirstNotFinite(fabric)
    not_finite = folder / ("not_finite.pt" if fabric.is_global_zero else f"not_finite_{fabric.global_rank}.pt")
    batches = step.batches(start)
    with contextlib.closing(log), float32_products(settings.precision, fabric.device):
        for index in range(start, settings.steps):
            for group, rate in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor(index)
            for _, terms in step.gradients(batches, index):
                bad.see(terms["total"], index)
                log.add(terms)
            bad.see(step.clip(), index)
            optimiser.optimizer.found_inf = bad.flag()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            objective.after_step(module, index)
            done = index + 1
            validates = done == settings.steps or done % settings.validate_every == 0
            saves = done == settings.steps or done % settings.checkpoint_every == 0
            if (validates or saves or log.is_due(index)) and (first := bad.read()) is not None:
                stop_not_finite(not_finite, module, *step.again(first), first)
            log.step(index, optimiser.param_groups[0]["lr"])
            if validates:
                # Every device validates the whole (small) dev set: the same number everywhere, without communication.
                scores = validate(forward, data.dev(), index, seed, name)
                log.validated(index, scores)
                loss = scores[_selected(objective, scores)]
                if not (math.isfinite(loss) and math.isfinite(scores["total"])):
                    found = {f"dev.{term}": torch.tensor(value) for term, value in scores.items()}
                    stop_not_finite(not_finite, module, step.last, found, index)
                if fabric.is_global_zero:
                    checkpoints.offer(loss, done, module)
            if fabric.is_global_zero and saves:
                checkpoints.save(done, module, optimiser)
    fabric.barrier()  # the first process has written what all of them read now
    module.load_state_dict(checkpoints.final(fabric.device))


class _Step:
    """The gradients of a step, as a function of its number."""

    def __init__(
        self,
        fabric: Fabric,
        forward: nn.Module,
        optimiser: torch.optim.Optimizer,
        data: StageData,
        settings: TrainingSettings,
        seed: int,
        stage: str,
    ):
        self.fabric, self.forward, self.optimiser, self.data = fabric, forward, optimiser, data
        self.settings, self.seed, self.stage = settings, seed, stage
        self.last: Batch | None = None

    def batches(self, index: int) -> Iterator[Batch]:
        """This process's batches from step `index` on."""
        return self.data.train(index * self.settings.accumulate, self.fabric.global_rank, self.fabric.world_size)

    def gradients(self, batches: Iterator[Batch], index: int) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """The batches of step `index` and their terms, when their gradients were added."""
        seed_step(self.seed, self.stage, index, self.fabric.global_rank)
        self.forward.train()
        count = self.settings.accumulate
        for micro_batch in range(count):
            self.last = next(batches)
            with self.fabric.no_backward_sync(self.forward, enabled=micro_batch < count - 1):
                terms = self.forward(self.last, index, micro_batch)
                self.fabric.backward(terms["total"] / count)
            yield self.last, terms

    def clip(self) -> Tensor:
        """The gradients' norm, which is then what the settings allow."""
        most = self.settings.optimiser.clip_norm
        return self.fabric.clip_gradients(self.forward, self.optimiser, max_norm=most, error_if_nonfinite=False)

    def again(self, index: int) -> tuple[Batch, dict[str, Tensor]]:
        """Of step `index` the first batch whose loss is not finite, and its terms; where all are finite the last one,
        and the gradients' norm beside its terms."""
        self.optimiser.zero_grad(set_to_none=True)
        every = list(self.gradients(self.batches(index), index))
        batch, terms = every[-1]
        last = batch, {**terms, "gradient_norm": self.clip()}
        return next((pair for pair in every if not torch.isfinite(pair[1]["total"])), last)


def compile_layers(module: nn.Module, settings: TrainingSettings, device: torch.device) -> None:
    """Let the backbones in `module` compile their layers, or not, as the settings say. Raises `UserError` where they
    cannot."""
    compiles = settings.compile == "blocks"
    if compiles:
        check_compiler(device)
    for part in module.modules():
        if isinstance(part, Backbone):
            part.compiles_layers = compiles


@torch.no_grad()
def validate(forward: nn.Module, batches: Iterator[Batch], index: int, seed: int, stage: str) -> dict[str, float]:
    """Mean of every term over the dev batches, weighted by their utterances. What is drawn for a batch is the same
    after every step."""
    forward.eval()
    sums: dict[str, Tensor] = defaultdict(float)
    utterances = 0
    for number, batch in enumerate(batches):
        seed_step(seed, f"{stage} validation", number, 0)
        for term, value in forward(batch, index, number).items():
            sums[term] += value.double() * len(batch.ids)
        utterances += len(batch.ids)
    if not utterances:
        raise UserError("the dev set holds no utterance that can be used for validation")
    return {term: float(value) / utterances for term, value in sums.items()}


def _selected(objective: Objective, scores: dict[str, float]) -> str:
    term = objective.selection_term(scores)
    if term not in scores:
        raise ValueError(f"states are to be ranked by '{term}', which is none of the losses: {', '.join(scores)}")
    return term
