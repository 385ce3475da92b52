"""Self-pinching gates (arXiv 2505.22608): one threshold for each matrix, learned together with its weights, in one
stage.

    settings: {source: {system: f6}, target: 0.65}

A weight below its matrix' threshold counts as zero; the loss is the source's own, at all its trained points, with the
masked weights, and moves weights and thresholds (`methods.shared.gates` has the equations). A Lagrangian leads the
sparsity to the target:

    L + |L| (lambda d + penalty d^2 / 2),    d = wanted sparsity - sparsity,    lambda <- lambda + rate d

where the wanted sparsity rises along a line to the target. |L| is a number here, so that lambda means the same for
losses that are summed and for those that are averaged. `finish` multiplies all thresholds by one factor, at which
exactly the target is met, sets what is below them to zero, and takes the gates away: what is left is a plain module.

`target` is the share of all parameters of the encoder that goes, front end included, as the paper counts; all of it is
taken from the matrices of the physical layers. docs/methods/selfpinching.md says what is published and what is ours.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.backbones import Batch
from methods.contract import Method, Stage, Step
from methods.shared.bitmap import Storage, in_storage_form, storage_form, stored_as
from methods.shared.derived import Derived
from methods.shared.gates import NAME, SMALLEST_THRESHOLD, gates_of, start_gates, with_gates
from methods.shared.matrices import matrices
from methods.shared.pruning import check_target, gone_at, highest, masked, prune, pruned_weights
from methods.shared.views import with_weights

LARGEST_STEP = 0.125
"""Of a threshold, in deviations: the learning rate of thresholds is no larger, however short a stage is."""


class SelfPinching(Derived):
    """The source with thresholds that are trained with its weights, and gone in the end."""

    kind = "pruned"

    class Config(Derived.Config):
        target: float = Field(0.65, ge=0, lt=1)
        """Share of all parameters of the encoder that becomes zero."""
        temperature: float = Field(0.1, gt=0)
        """tau, in squared deviations of a matrix: how soft the mask is that gives the gradients."""
        threshold: float = Field(0.1, ge=SMALLEST_THRESHOLD)
        """Where thresholds begin, in deviations of their matrix."""
        threshold_rate: float = Field(6.0, gt=0)
        """Learning rate of the thresholds times the steps of the stage; the schedule is that of the weights."""
        ramp: float = Field(0.3, ge=0, le=1)
        """Share of the steps in which the wanted sparsity rises to the target."""
        penalty: float = Field(200.0, ge=0)
        """Weight of the squared distance from the wanted sparsity, in units of the source's loss."""
        multiplier_rate: float = Field(100.0, ge=0)
        """How fast lambda follows the distance, times the steps of the stage."""
        storage: Storage = "bitmap"
        """How the file holds the matrices: a bit for each weight and those that are not zero, or all as they are."""

    _final: tuple[int, Mapping[str, Tensor]] | None = None
    """The masks at the target after a step, for all batches of a validation."""

    def check_sources(self, sources: Mapping[str, Method]) -> None:
        super().check_sources(sources)
        check_target(self.backbone, self.config.target)

    def prepare(self, module: nn.Module) -> nn.Module:
        self.matrices_to("prune", module)
        gone = gone_at(module, self.config.target)
        module = with_gates(module)
        start_gates(module, self.config.threshold, gone)
        return module

    def parameter_groups(self, module: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """The thresholds with a rate of their own. Weight decay would pinch off weights for nothing: neither the gated
        matrices nor the thresholds have any."""
        gates = gates_of(module)
        if gates is None:
            return super().parameter_groups(module, stage)
        gated = {id(part.weight) for part in matrices(module).values()}
        trained = [each for each in module.parameters() if each.requires_grad and each is not gates.theta]
        return [
            {"params": [each for each in trained if id(each) not in gated]},
            {"params": [each for each in trained if id(each) in gated], "weight_decay": 0.0},
            {
                "params": [gates.theta],
                "weight_decay": 0.0,
                "lr": min(self.config.threshold_rate / stage.training.steps, LARGEST_STEP),
            },
        ]

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        """The source's, with what the thresholds leave; on the dev set with what the target leaves, so that states
        from before and after it is reached compare."""
        gates, source = gates_of(module), super().losses
        if gates is None:
            return source(module, batch, step)
        if not step.training:
            return with_weights(module, masked(module, self._masks_at_target(module, step)), source, batch, step)
        views, sparsity = gates.pinched(module, self.config.temperature)
        terms = with_weights(module, views, source, batch, step)
        lag = self._wanted(module, step) - sparsity
        pull = gates.multiplier * lag + self.config.penalty / 2 * lag.square()
        total = terms["total"] + terms["total"].detach().abs() * pull
        return {**terms, "total": total, "sparsity": sparsity.detach(), "pull": pull.detach()}

    @torch.no_grad()
    def after_step(self, module: nn.Module, step: Step) -> None:
        super().after_step(module, step)
        self._final = None
        if gates := gates_of(module):
            gates.theta.clamp_(min=SMALLEST_THRESHOLD)
            rate = self.config.multiplier_rate / (step.steps or 1)
            gates.multiplier += rate * (self._wanted(module, step) - gates.sparsity(module))

    def _wanted(self, module: nn.Module, step: Step) -> Tensor:
        """The sparsity of the matrices that this step aims at: along a line from the first one to the target."""
        gates = gates_of(module)
        target = gates.gone / pruned_weights(module)
        rising = self.config.ramp * (step.steps or 0)
        done = min(1.0, (step.index + 1) / rising) if rising else 1.0
        return gates.at_start + (target - gates.at_start) * done

    def _masks_at_target(self, module: nn.Module, step: Step | None = None) -> Mapping[str, Tensor]:
        """What is left when one factor on all thresholds brings the matrices to the target, to the weight."""
        if step is not None and self._final is not None and self._final[0] == step.index:
            return self._final[1]
        gates = gates_of(module)
        masks = highest(gates.scores(module), pruned_weights(module) - int(gates.gone))
        self._final = None if step is None else (step.index, masks)
        return masks

    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        prune(module, self._masks_at_target(module))
        delattr(module, NAME)
        return stored_as(module, self.config.storage)

    def form(self, module: nn.Module) -> dict[str, Any]:
        return {"gated": gates_of(module) is not None, **storage_form(module)}

    def outline(self) -> nn.Module | None:
        return self.made_by.outline()

    def reshape(self, module: nn.Module, form: dict[str, Any]) -> nn.Module:
        return with_gates(module) if form["gated"] else in_storage_form(module, form)

    def as_trained(self, module: nn.Module) -> nn.Module:
        """With gates, as they were in the beginning: they are part of what a step takes."""
        return self.prepare(super().as_trained(module))
