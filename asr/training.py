"""One readable training loop on Lightning Fabric, for every method and backbone.

`run_stage` trains a module with an `Objective`, validates, keeps the best states, averages them, and can be killed at
any time: it goes on from the last checkpoint in its folder. Everything random about a step follows from (seed, step):
the loop seeds torch and numpy before each step, so no generator state has to be saved, and on CPU a resumed run is
bit-identical.
"""

import contextlib
import dataclasses
import json
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from asr.backbones import Batch
from asr.schedules import factor_at
from asr.settings import TrainingSettings
from common.errors import UserError
from common.files import appending, replacing


class Objective(Protocol):
    """What is minimised: a method at one of its stages."""

    def losses(self, module: nn.Module, batch: Batch, index: int, training: bool) -> dict[str, Tensor]: ...

    def after_step(self, module: nn.Module, index: int) -> None: ...

    def parameter_groups(self, module: nn.Module) -> list[dict[str, Any]]: ...


@dataclasses.dataclass(frozen=True)
class StageData:
    """`train(start, rank, world)` yields batches from batch number `start` on; `dev()` yields the validation
    batches."""

    train: Callable[[int, int, int], Iterator[Batch]]
    dev: Callable[[], Iterator[Batch]]


def make_fabric(settings: TrainingSettings) -> Fabric:
    """Fabric on the accelerator there is, or on CPU in float32; several devices by DDP."""
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    precision = settings.precision if accelerator == "cuda" else "32-true"
    # Stochastic depth leaves whole layers without gradient in some steps.
    strategy = DDPStrategy(find_unused_parameters=True) if settings.devices > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=settings.devices, precision=precision, strategy=strategy)
    fabric.launch()
    if fabric.world_size != settings.devices:
        raise UserError(
            f"training.devices is {settings.devices}, but {fabric.world_size} process(es) were started; under a "
            "launcher (srun, torchrun) the number of tasks must be the number of devices"
        )
    return fabric


class _Forward(nn.Module):
    """Losses as a forward pass, so that DDP and autocast see one call."""

    def __init__(self, module: nn.Module, objective: Objective):
        super().__init__()
        self.module = module
        self.compute = objective.losses

    def forward(self, batch: Batch, index: int) -> dict[str, Tensor]:
        return self.compute(self.module, batch, index, self.training)


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
    """Train `module` in place; afterwards it holds the average of the best validated states.

    `folder` keeps the checkpoint, the best states and `log.jsonl`; `fingerprint` is what a checkpoint must agree with
    to be resumed. Raises `UserError` when a loss is not finite or the checkpoint belongs to another configuration.
    """
    forward = _Forward(module, objective)
    groups = objective.parameter_groups(module)
    adamw = settings.optimiser
    optimiser = torch.optim.AdamW(groups, lr=adamw.learning_rate, betas=adamw.betas, weight_decay=adamw.weight_decay)
    base_rates = [group["lr"] for group in optimiser.param_groups]
    factor = factor_at(settings.schedule, settings.steps, adamw.learning_rate)
    forward, optimiser = fabric.setup(forward, optimiser)
    keeper = _Keeper(folder, settings.keep_best)
    start = _resume(folder / "checkpoint.pt", module, optimiser, keeper, fingerprint)
    if start == 0 and fabric.is_global_zero:
        keeper.clear()
    fabric.barrier()
    log = _Log(fabric, folder, name, settings, start)
    batches = data.train(start * settings.accumulate, fabric.global_rank, fabric.world_size)
    with contextlib.closing(log):
        for index in range(start, settings.steps):
            for group, rate in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor(index)
            seed_step(seed, name, index, fabric.global_rank)
            forward.train()
            for part in range(settings.accumulate):
                batch = next(batches)
                with fabric.no_backward_sync(forward, enabled=part < settings.accumulate - 1):
                    terms = forward(batch, index)
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
            last = index + 1 == settings.steps
            if last or (index + 1) % settings.validate_every == 0:
                # Every device validates the whole (small) dev set: the same number everywhere, without communication.
                scores = validate(forward, data.dev(), index)
                log.validated(index, scores)
                if not math.isfinite(scores["total"]):
                    _report_not_finite(
                        folder, module, batch, {f"dev.{k}": torch.tensor(v) for k, v in scores.items()}, index
                    )
                if fabric.is_global_zero:
                    keeper.offer(scores["total"], index + 1, module)
            if fabric.is_global_zero and not last and (index + 1) % settings.checkpoint_every == 0:
                _save_checkpoint(folder / "checkpoint.pt", module, optimiser, keeper, fingerprint, index + 1)
    # Only rank 0 knows which states are the best; its files are complete once the others have waited for it.
    keeper.best = fabric.broadcast(keeper.best)
    module.load_state_dict(keeper.average(fabric.device))


def seed_step(seed: int, stage: str, index: int, rank: int) -> None:
    """Seed dropout, masks and warps of one step on one device (transformers draws its masks with numpy)."""
    number = random.Random(f"{seed} {stage} {index} {rank}").getrandbits(48)
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


@torch.no_grad()
def validate(forward: nn.Module, batches: Iterator[Batch], index: int) -> dict[str, float]:
    """Mean of every term over the dev batches, weighted by their utterances."""
    forward.eval()
    sums: dict[str, float] = defaultdict(float)
    utterances = 0
    for batch in batches:
        for term, value in forward(batch, index).items():
            sums[term] += float(value) * len(batch.ids)
        utterances += len(batch.ids)
    if not utterances:
        raise UserError("the dev set holds no utterance that can be used for validation")
    return {term: value / utterances for term, value in sums.items()}


class _Keeper:
    """The best validated states, on disk; ties go to the earlier step."""

    def __init__(self, folder: Path, count: int):
        self.folder = folder
        self.count = count
        self.best: list[tuple[float, int]] = []

    def path(self, step: int) -> Path:
        return self.folder / f"best-{step}.pt"

    def clear(self) -> None:
        """Forget the states of a run that was killed before its first checkpoint."""
        for path in self.folder.glob("best-*.pt"):
            path.unlink()

    def offer(self, loss: float, step: int, module: nn.Module) -> None:
        self.best = sorted([*self.best, (loss, step)])
        if (loss, step) in self.best[: self.count]:
            save_state(self.path(step), module.state_dict())
        for _, dropped in self.best[self.count :]:
            self.path(dropped).unlink(missing_ok=True)
        self.best = self.best[: self.count]

    def average(self, device: torch.device) -> dict[str, Tensor]:
        """Floating-point tensors averaged in float64, others from the best state (ESPnet's rule)."""
        paths = [self.path(step) for _, step in self.best]
        states = [torch.load(path, map_location=device, weights_only=True) for path in paths]
        averaged = dict(states[0])
        for name, value in averaged.items():
            if value.is_floating_point() and len(states) > 1:
                averaged[name] = torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        return averaged


def _save_checkpoint(
    path: Path, module: nn.Module, optimiser: Any, keeper: _Keeper, fingerprint: dict[str, Any], step: int
) -> None:
    state = {
        "step": step,
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "best": keeper.best,
        "fingerprint": json.dumps(fingerprint, sort_keys=True),
    }
    save_state(path, state)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """`torch.save`, whole or not at all; through a file of Python's, whose errors say so when the disk is full."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def _resume(path: Path, module: nn.Module, optimiser: Any, keeper: _Keeper, fingerprint: dict[str, Any]) -> int:
    """Load the checkpoint if there is one; return the number of steps that are done."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_fingerprint(json.loads(state["fingerprint"]), fingerprint, path)
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    keeper.best = [tuple(entry) for entry in state["best"]]
    return state["step"]


def check_fingerprint(found: dict[str, Any], expected: dict[str, Any], path: Path) -> None:
    """Raise `UserError` naming the keys in which a saved configuration differs from today's."""
    expected = json.loads(json.dumps(expected))
    keys = sorted(set(_flatten(found).items()) ^ set(_flatten(expected).items()))
    if keys:
        names = ", ".join(sorted({key for key, _ in keys}))
        raise UserError(
            f"{path}: this checkpoint belongs to another configuration (different: {names}); "
            f"undo the change to resume it, or delete {path.parent} to train anew"
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        flat: dict[str, str] = {}
        for key, inner in value.items():
            flat |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: json.dumps(value)}


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


class _Log:
    """JSONL and TensorBoard, a progress bar on a terminal, plain lines elsewhere; and the all-blank alarm."""

    def __init__(self, fabric: Fabric, folder: Path, stage: str, settings: TrainingSettings, start: int):
        self.settings, self.stage, self.active = settings, stage, fabric.is_global_zero
        self.fabric = fabric
        self.sums: dict[str, float] = defaultdict(float)
        self.count = 0
        self.began = time.monotonic()
        self.earlier = 0.0
        self.bar = self.board = None
        if not self.active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        kept = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in kept if (row := json.loads(line))["stage"] != stage or row["step"] <= start]
        self.path.write_text("".join(line + "\n" for line in kept))
        self.earlier = json.loads(kept[-1])["seconds"] if start and kept else 0.0
        if settings.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            with appending(folder / "tensorboard"):
                self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
        if sys.stderr.isatty():
            from rich.progress import Progress

            self.bar = Progress(transient=True)
            self.task = self.bar.add_task(stage, total=settings.steps, completed=start)
            self.bar.start()

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self.sums[name] += value.detach()
        self.count += 1

    def step(self, index: int, rate: float) -> None:
        if self.bar:
            self.bar.update(self.task, completed=index + 1)
        if (index + 1) % self.settings.log_every and index + 1 != self.settings.steps:
            return
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.sums, self.count = defaultdict(float), 0
        if "blank_fraction" in means:  # of all devices, so that all of them stop or none
            means["blank_fraction"] = float(self.fabric.all_reduce(torch.tensor(means["blank_fraction"])))
        self._write(index, {"learning_rate": rate, **means})
        # Past a quarter of the steps the plateau has to be over (the trials' rule of thumb).
        if means.get("blank_fraction", 0.0) > 0.995 and index + 1 >= self.settings.steps / 4:
            message = (
                f"stage {self.stage}: after {index + 1} of {self.settings.steps} steps the output is still all blank: "
                "the model is on the plateau of CTC training (smaller branch_scale or learning rate, or more steps)"
            )
            if self.settings.all_blank == "stop":
                raise UserError(message)
            if self.active:
                print(f"warning: {message}", file=sys.stderr, flush=True)

    def validated(self, index: int, scores: dict[str, float]) -> None:
        self._write(index, {f"dev.{name}": value for name, value in scores.items()})

    def _write(self, index: int, values: dict[str, float]) -> None:
        if not self.active:
            return
        row = {
            "stage": self.stage,
            "step": index + 1,
            "seconds": round(self.earlier + time.monotonic() - self.began, 2),
            **values,
        }
        with appending(self.path), self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.board:
            with appending(self.path.with_name("tensorboard")):
                for name, value in values.items():
                    self.board.add_scalar(f"{self.stage}/{name}", value, index + 1)
        if not self.bar:
            shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"{self.stage} {index + 1}/{self.settings.steps} {shown}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
        if self.board:
            self.board.close()
