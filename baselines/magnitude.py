"""Magnitude pruning: the smallest weights of the matrices of the physical layers become zero, and training goes on.

    settings: {source: {system: f6}, sparsity: 0.5}                        half of each matrix, at once
    settings: {source: {system: f6}, target: 0.65, scope: global}          65 % of all parameters of the encoder
    settings: {source: {system: f6}, sparsity: 0.75, schedule: gradual}
    settings: {source: {system: f6}, n: 2, m: 4}                           2 of every 4 adjacent inputs stay

Training has the source's own losses, at all its trained points. How long and at which rate is said by the system's
`training`; after pruning a fifth of the source's steps and of its rate is usual. What goes is exact: so many weights,
of equal magnitudes the last ones first, and zeros of the source before all others.

- `once`: before the first step; what is zero stays zero.
- `gradual` (Zhu and Gupta, 2017): s_t = s (1 - (1 - t/T)^3), over the first `until` of the steps; zeros stay zero.
- `parp` (Lai et al., 2021): pruned before the first step, then everything is trained, zeros too; the smallest weights
  are set to zero again every so many steps, and in the end.

States are judged on the dev set as they would be if training ended there, pruned to the end.
docs/methods/magnitude.md says which variant is whose.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from asr.backbones import Batch
from methods.contract import Method, Step
from methods.shared.bitmap import Storage, stored_as
from methods.shared.derived import Derived
from methods.shared.matrices import matrices
from methods.shared.nm import check_rows, keep_largest
from methods.shared.pruning import (
    check_target,
    deviation,
    gone_at,
    highest,
    masked,
    prune,
    pruned_weights,
    shares_of,
)
from methods.shared.views import with_weights

OF_SCHEDULE = {"once": {}, "gradual": {"every": 0.01, "until": 0.7}, "parp": {"every": 0.1}}
"""Defaults of what only some schedules have."""


class Magnitude(Derived):
    """The source without its smallest weights, trained on."""

    kind = "pruned"

    class Config(Derived.Config):
        sparsity: float | None = Field(None, ge=0, lt=1)
        """Share of the weights of the matrices that become zero; 0.5 where neither `target` nor `n` says how many."""
        target: float | None = Field(None, ge=0, lt=1)
        """Instead: share of all parameters of the encoder, as `methods.selfpinching` has it."""
        n: int | None = Field(None, gt=0)
        m: int | None = Field(None, gt=1)
        """Instead: of every `m` adjacent inputs of an output `n` weights stay."""
        scope: Literal["uniform", "global", "random"] = "uniform"
        """uniform: the same share of each matrix. global: the smallest of all, in deviations of their matrix. random:
        the same share of each matrix, whichever weights; what the criterion adds is the difference from it."""
        schedule: Literal["once", "gradual", "parp"] = "once"
        every: float | None = Field(None, gt=0, le=1)
        """Share of the steps between two prunings: 0.01 for `gradual`, 0.1 for `parp`, whose weights need some steps
        to come back."""
        until: float | None = Field(None, gt=0, le=1)
        """Share of the steps after which `gradual` is done: 0.7."""
        storage: Storage = "dense"
        """How the file holds the matrices: all weights as they are, or a bit for each and those that are not zero."""

        @model_validator(mode="before")
        @classmethod
        def _defaults(cls, data: Any) -> Any:
            if isinstance(data, dict):
                if all(data.get(key) is None for key in ("sparsity", "target", "n", "m")):
                    data = {**data, "sparsity": 0.5}
                said = {key: value for key, value in data.items() if value is not None}
                data = {**data, **OF_SCHEDULE.get(str(said.get("schedule")), {}), **said}
            return data

        @model_validator(mode="after")
        def _goes_together(self) -> "Magnitude.Config":
            said = [key for key in ("sparsity", "target", "n") if getattr(self, key) is not None]
            if (self.n is None) != (self.m is None):
                raise ValueError("n and m go together: of every m adjacent inputs n weights stay")
            if len(said) > 1:
                raise ValueError(f"{' and '.join(said)} both say how many weights go; one of them is enough")
            if self.n is not None and self.n >= self.m:
                raise ValueError(f"n: {self.n} of every {self.m} weights are no fewer than there are; n is below m")
            if self.n is not None and (self.scope != "uniform" or self.schedule == "gradual"):
                raise ValueError("n and m choose within each group, at once or with `schedule: parp`; leave out scope")
            if self.scope == "random" and self.schedule != "once":
                raise ValueError(f"scope: random weights go once; `schedule: {self.schedule}` chooses again")
            for key in ("every", "until"):
                if getattr(self, key) is not None and key not in OF_SCHEDULE[self.schedule]:
                    raise ValueError(f"{key}: means nothing with `schedule: {self.schedule}`; leave it out")
            return self

    _final: tuple[int, Mapping[str, Tensor]] | None = None
    """The masks at the end's sparsity after a step, for all batches of a validation."""
    _began = False
    """Whether this process has seen the weights with which its training begins, or goes on."""

    def check_sources(self, sources: Mapping[str, Method]) -> None:
        super().check_sources(sources)
        if self.config.target is not None:
            check_target(self.backbone, self.config.target)
        if self.config.m is not None:
            check_rows(matrices(self.backbone.outline()), self.config.m)

    def prepare(self, module: nn.Module) -> nn.Module:
        self.matrices_to("prune", module)
        if self.config.schedule == "once":
            prune(module, self.masks(module))
        return module

    def build(self) -> nn.Module:
        module = super().build()  # the zeros that it has now are kept: `parp` keeps those of the source alone
        if self.config.schedule == "parp":
            prune(module, self.masks(module))
        return module

    def masks(self, module: nn.Module, done: float = 1.0) -> dict[str, Tensor]:
        """What stays of each matrix when the share `done` of what goes in the end is gone."""
        config, parts = self.config, matrices(module)
        if config.n is not None:
            return {name: keep_largest(part.weight, config.n, config.m) for name, part in parts.items()}
        if config.scope == "global":
            gone = self._gone(module) * done
            scores = {name: part.weight.detach().abs() / deviation(part.weight) for name, part in parts.items()}
            return highest(scores, pruned_weights(module) - round(gone))
        if config.scope == "random":
            scores = {name: torch.rand_like(part.weight) + (part.weight != 0) for name, part in parts.items()}
        else:
            scores = {name: part.weight.detach().abs() for name, part in parts.items()}
        gone = self._gone_of_each(module)
        return {
            name: highest({name: score}, score.numel() - round(gone[name] * done))[name]
            for name, score in scores.items()
        }

    def _gone(self, module: nn.Module) -> int:
        """Of all matrices together."""
        if self.config.target is not None:
            return gone_at(module, self.config.target)
        return round(self.config.sparsity * pruned_weights(module))

    def _gone_of_each(self, module: nn.Module) -> dict[str, int]:
        if self.config.target is not None:
            return shares_of(module, self._gone(module))
        return {name: round(self.config.sparsity * part.weight.numel()) for name, part in matrices(module).items()}

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        if self.config.schedule != "once" and not step.training:
            if self._final is None or self._final[0] != step.index:
                self._final = step.index, self.masks(module)
            return with_weights(module, masked(module, self._final[1]), super().losses, batch, step)
        if self.config.schedule == "gradual" and not self._began:
            self._began = True
            self.keep_zeros(module)  # those of a checkpoint, where training goes on
        return super().losses(module, batch, step)

    @torch.no_grad()
    def after_step(self, module: nn.Module, step: Step) -> None:
        super().after_step(module, step)
        self._final = None
        if self.config.schedule == "once" or not (done := self._due(step)):
            return
        prune(module, self.masks(module, done))
        if self.config.schedule == "gradual":
            self.keep_zeros(module)

    def _due(self, step: Step) -> float:
        """The share of what goes in the end that is to be gone after this step; 0 where nothing is pruned after it."""
        if step.steps is None:
            return 1.0
        number, apart = step.index + 1, max(1, round(self.config.every * step.steps))
        if self.config.schedule == "parp":
            return float(number % apart == 0)
        last = max(1, round(self.config.until * step.steps))
        if number > last or (number % apart and number != last):
            return 0.0
        return 1 - (1 - number / last) ** 3

    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        if self.config.schedule != "once":
            prune(module, self.masks(module))
        return stored_as(module, self.config.storage)


def largest(weight: Tensor, sparsity: float) -> Tensor:
    """A mask of what is left of a matrix when the share `sparsity` of its weights, those of smallest magnitude, goes:
    exactly so many, of equal magnitudes the last ones first."""
    return highest({"": weight.detach().abs()}, weight.numel() - round(sparsity * weight.numel()))[""]
