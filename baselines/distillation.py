"""Distillation into fewer layers: a student learns from transcripts and from a trained system of more layers.

    settings: {teacher: {system: w12}, start: {system: w12, layers: sensitivity}}
    settings: {teacher: {system: w12}, start: {system: w12, layers: sensitivity}, foldable: {depth: 12}}

    L = L_task + a KL( stopgrad(p_teacher) || p_student ) + b D,     a = kl_weight, b = hidden_weight

The KL term is that of `methods.unfolding`, with the teacher in the place of the deep pass. D compares hidden states:
execution i of the student's n with execution round(i N / n) of the teacher's N, each state normalised over its units,
the squared differences averaged over units, real frames and the student's executions. The teacher is in evaluation
mode, hears the speech without augmentation, and is no part of what is saved.

`foldable` makes the student a seed that runs at many depths, as `methods.unfolding` has them: its deep pass learns as
above, and its seed pass adds alpha_p L_P + alpha_kl KL(target || p_seed), the target being the teacher, the deep pass
(Eq. 4 of arXiv 2505.21237), or each of them. That paper has no teacher outside of the seed.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from asr.backbones import Backbone, Batch, EncoderState, LayerDrop, Outputs
from asr.precision import no_autocast
from asr.processes import mean_of_all
from common.errors import UserError
from common.settings import Settings
from methods.contract import Method, Point, Step, SystemReference, path_points
from methods.paths import Path
from methods.shared.divergence import KL, divergence
from methods.shared.start import Start, build_from
from methods.unfolding import Unfolding

LENGTHS = range(100, 30000, 997)
"""Of utterances, in frames or samples, of which teacher and student must leave as many frames."""


class Foldable(Settings):
    """The depths of a foldable student, and what its seed pass learns; where not said, as in `methods.unfolding`."""

    depth: int = Field(12, gt=0)
    last: int | None = Field(None, gt=0)
    training_path: str | list[int] | None = None
    alpha_p: float = Field(0.25, ge=0)
    alpha_kl: float = Field(0.1, ge=0)
    deep_from: float = Field(0.0, ge=0, lt=1)
    """Before this share of the steps the seed trains alone, on transcripts."""
    target: Literal["teacher", "deep", "both"] = "teacher"
    """Whose distribution the seed's KL term reads. both: the sum of the two terms."""

    @model_validator(mode="after")
    def _a_seed_that_trains_alone_has_a_loss(self) -> "Foldable":
        if self.deep_from and self.alpha_p == 0:
            raise ValueError("deep_from: until the deep pass sets in the seed trains alone, and alpha_p is 0")
        return self


@dataclasses.dataclass(frozen=True)
class Observed:
    """One pass of a model: the state after each layer execution, and what the losses read."""

    states: list[EncoderState]
    outputs: Outputs


class Distillation(Method):
    """A student of fewer layers, of the teacher's width."""

    kind = "distilled"

    class Config(Settings):
        teacher: SystemReference
        """It teaches at its deepest trained path."""
        start: Start | None = None
        """The trained system whose weights the student begins with; None: random weights."""
        kl_weight: float = Field(0.1, ge=0)
        hidden_weight: float = Field(1.0, ge=0)
        kl: KL = KL()
        """Distributions, reduction and first step of all KL terms."""
        foldable: Foldable | None = None
        """None: the student runs each of its layers once."""

    def check(self) -> None:
        self.folding: Unfolding | None = None
        if (foldable := self.config.foldable) is not None:
            settings = Unfolding.Config(**foldable.model_dump(exclude={"target"}), kl=self.config.kl)
            try:
                self.folding = Unfolding(settings, self.backbone)
            except UserError as error:
                raise UserError(str(error).replace("settings.", "settings.foldable.")) from None

    def check_sources(self, sources: Mapping[str, Method]) -> None:
        teacher, name = sources["teacher"], self.config.teacher.system
        points = teacher.expected_points()
        if points is not None and not _taught_at(points):
            reason = "does not run along paths alone" if points else "recognises nothing before it is fine-tuned"
            raise UserError(f"settings.teacher: '{name}' {reason}")
        own, other = self.backbone, teacher.backbone
        if own.name != other.name:
            raise UserError(f"settings.teacher: '{name}' is a {other.name}, and does not teach a {own.name}")
        if self.config.hidden_weight and own.config.width != other.config.width:
            raise UserError(
                f"settings.hidden_weight: layers of width {own.config.width} have no distance from those of '{name}', "
                f"of width {other.config.width}; set it to 0"
            )

    def build(self) -> nn.Module:
        teacher = self.inputs["teacher"]
        self.check_sources({"teacher": teacher.method})
        module = build_from(self.backbone, self.config.start, self.inputs)
        if teacher.method.backbone.vocabulary != self.backbone.vocabulary:
            raise UserError(f"settings.teacher: '{teacher.name}' has another vocabulary")
        if module.output_lengths(LENGTHS) != teacher.method.output_lengths(teacher.module, LENGTHS):
            raise UserError(f"settings.teacher: '{teacher.name}' leaves other frames of an utterance")
        return module

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        config, folding = self.config, self.folding
        if folding is not None and not folding.config.deep_has_set_in(step):
            return folding.losses(module, batch, step)  # the seed alone
        teacher = self._teacher(batch)
        path = (1,) * module.layers if folding is None else folding.deepest_path(step)
        drop, seed_drop = self._layer_drops(module, sum(path), step)
        front = module.front_end(batch.inputs, batch.input_lengths)
        deep = observe(module, path, front, batch, drop)
        terms = self._taught(module, teacher, deep, batch, step)
        if folding is None:
            return terms
        total, blank = terms.pop("total"), terms.pop("blank_fraction")
        terms = {f"deep.{name}": value for name, value in terms.items()}
        if config.foldable.alpha_p or (config.foldable.alpha_kl and self.config.kl.has_set_in(step)):
            seed = observe(module, (1,) * module.layers, front, batch, seed_drop)
            found = self._of_seed(module, teacher, deep, seed, batch, step)
            total, blank = total + found.pop("total"), torch.maximum(blank, found.pop("blank_fraction"))
            terms |= {f"seed.{name}": value for name, value in found.items()}
        return {"total": total, **terms, "blank_fraction": blank}

    def _taught(
        self, module: Backbone, teacher: Observed, student: Observed, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        """The loss of a pass that learns from transcripts and teacher."""
        config = self.config
        terms = module.loss(student.outputs, batch)
        total = terms.pop("total")
        if config.kl_weight and self.config.kl.has_set_in(step):
            terms["kl"] = divergence(teacher.outputs, student.outputs, module.ctc_weight, config.kl, batch)
            total = total + config.kl_weight * terms["kl"]
        if config.hidden_weight:
            terms["hidden"] = hidden_distance(teacher.states, student.states)
            total = total + config.hidden_weight * terms["hidden"]
        return {"total": total, **terms}

    def _of_seed(
        self, module: Backbone, teacher: Observed, deep: Observed, seed: Observed, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        """alpha_p L_P + alpha_kl KL(target || p_seed)."""
        foldable = self.config.foldable
        terms = module.loss(seed.outputs, batch)
        total = foldable.alpha_p * terms.pop("total")
        if foldable.alpha_kl and self.config.kl.has_set_in(step):
            targets = {"teacher": [teacher], "deep": [deep], "both": [teacher, deep]}[foldable.target]
            found = [
                divergence(target.outputs, seed.outputs, module.ctc_weight, self.config.kl, batch) for target in targets
            ]
            terms["kl"] = torch.stack(found).sum()
            total = total + foldable.alpha_kl * terms["kl"]
        return {"total": total, **terms}

    @torch.no_grad()
    def _teacher(self, batch: Batch) -> Observed:
        system = self.inputs["teacher"]
        paths = _taught_at(system.method.points(system.module))
        deepest = max([point for point in paths if point.trained] or paths, key=lambda point: point.depth)
        front = system.module.front_end(batch.inputs, batch.input_lengths)
        return observe(system.module, deepest.path, front, batch)

    def _layer_drops(self, module: Backbone, depth: int, step: Step) -> tuple[LayerDrop | None, LayerDrop | None]:
        if self.folding is not None:
            return self.folding.draw_layer_drops(module, depth, step)
        return (module.draw_layer_drop(depth, step.layers_generator("layer drop")) if step.training else None), None

    def selection_term(self, terms: Collection[str]) -> str:
        return "ctc" if self.folding is None else "deep.ctc"

    def points(self, module: nn.Module) -> list[Point]:
        if self.folding is not None:
            return self.folding.points(module)
        ones = (1,) * self.backbone.config.layers
        return path_points([ones], trained=[ones])

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        if self.folding is not None:
            return self.folding.statistics_points(module, step)
        return super().statistics_points(module, step)


def _taught_at(points: Sequence[Point]) -> list[Point]:
    """Points at which a teacher may run: paths, and nothing else about them."""
    return [point for point in points if point.is_path]


def observe(module: Backbone, path: Path, front: EncoderState, batch: Batch, drop: LayerDrop | None = None) -> Observed:
    """Run `path` from the state `front` and keep the state after each layer execution."""
    states = []
    for layer, count in enumerate(path):
        for _ in range(count):
            states.append(module.run_layer(layer, states[-1] if states else front, drop))
    return Observed(states, module.outputs(module.finish(states[-1]), batch))


def matching(execution: int, student: int, teacher: int) -> int:
    """Which of the teacher's executions the student's `execution` learns from, of so many of each, numbered from 1:
    execution * teacher / student, rounded half up, at least the first."""
    return max(1, (2 * execution * teacher + student) // (2 * student))


def hidden_distance(teacher: Sequence[EncoderState], student: Sequence[EncoderState]) -> Tensor:
    """D: mean squared difference of normalised hidden states. Padded frames do not count.

    All states are normalised over their units, without an affine map: the layers of `pre_norm` encoders put out a
    residual stream that grows from layer to layer, and would be compared by its size.
    """
    valid, frames = student[0].valid, int(student[0].lengths.sum())
    distances = []
    for number, state in enumerate(student, start=1):
        target = teacher[matching(number, len(student), len(teacher)) - 1].x.detach()
        with no_autocast(valid.device):
            found, wanted = (F.layer_norm(x.float(), x.shape[-1:]) for x in (state.x, target))
            apart = (found - wanted).square().mean(-1)
            distances.append(torch.where(valid, apart, 0.0).sum() / max(1, frames))
    return mean_of_all(torch.stack(distances).mean(), frames)
