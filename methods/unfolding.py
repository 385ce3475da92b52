"""Unfolding a few structures for the many (arXiv 2505.21237): one seed of physical layers, trained to run at many
depths.

    L = alpha_f L_F(N_f) + alpha_p L_P(n_p) + alpha_kl L_Reg          (Eq. 4; the paper has alpha_f = 1)
    L_Reg = KL( stopgrad(p_deep) || p_seed )

L_F is the backbone's loss at the deepest path, L_P at the seed (every physical layer once). Depths between are never
trained; `points` offers every path of every depth that the unfolding rule allows. The ablations are settings: only L_P
(alpha_f 0, alpha_p 1, alpha_kl 0), only L_F (alpha_p 0, alpha_kl 0), both (alpha_kl 0).
"""

import math
from collections.abc import Collection

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from asr.backbones import Backbone, Batch, EncoderState, LayerDrop
from asr.paths import parse_path
from common.errors import UserError
from common.settings import Settings
from methods.contract import Method, Point, Stage, Step, path_points
from methods.paths import Path, check_rule, enumerate_paths, format_path, offered_paths
from methods.shared.divergence import KL, divergence
from methods.shared.start import Start, build_from


class Unfolding(Method):
    """Joint training of a seed and its deepest unfolding."""

    kind = "foldable"

    class Config(Settings):
        depth: int = Field(12, gt=0)
        """N_f, the deepest logical depth."""
        last: int | None = Field(None, gt=0)
        """Only the last so many layers may be repeated; None: all."""
        alpha_f: float = Field(1.0, ge=0)
        alpha_p: float = Field(0.25, ge=0)
        alpha_kl: float = Field(0.1, ge=0)
        kl: KL = KL()
        deep_from: float = Field(0.0, ge=0, lt=1)
        """The deep pass, and with it the regulariser, sets in after this share of the steps; the seed trains alone
        before."""
        training_path: str | list[int] | None = None
        """The deepest path that is trained: counts, `random` (drawn at each step), or None where there is only one."""
        share_prefix: bool = False
        """Run everything up to the first repeat once for both passes: with one dropout mask and one draw of layer drop,
        at the deep pass's rate. Without it each pass draws its own, as the paper's code does, and layers are shared
        only where nothing in them is random."""
        start: Start | None = None
        """The trained system whose weights it begins with; None: random weights."""

        @model_validator(mode="after")
        def _something_is_trained(self) -> "Unfolding.Config":
            if self.alpha_f == self.alpha_p == 0:
                raise ValueError("alpha_f and alpha_p are both 0: nothing would be trained")
            if self.deep_from and self.alpha_p == 0:
                raise ValueError("deep_from: until the deep pass sets in the seed trains alone, and alpha_p is 0")
            return self

        def deep_has_set_in(self, step: Step) -> bool:
            """On the dev set from the start, as for the regulariser."""
            return not step.training or step.index >= self.deep_from * (step.steps or 0)

    def check(self) -> None:
        physical = self.backbone.config.layers
        config = self.config
        if config.last is not None and config.last > physical:
            raise UserError(f"settings.last: {config.last} is more than the {physical} physical layers")
        if config.depth < physical:
            raise UserError(
                f"settings.depth: {config.depth} is below the {physical} physical layers of the backbone; "
                f"possible depths: {physical} or more"
            )
        choices = enumerate_paths(physical, config.depth, config.last)
        if config.training_path == "random":
            self.training_paths = choices
        elif config.training_path is not None:
            path = check_rule(parse_path(config.training_path), physical, config.last)
            if sum(path) != config.depth:
                raise UserError(
                    f"settings.training_path: '{format_path(path)}' has depth {sum(path)}, not {config.depth}"
                )
            self.training_paths = [path]
        elif len(choices) == 1:
            self.training_paths = choices
        else:
            raise UserError(
                f"settings.training_path: {len(choices)} paths lead from {physical} layers to depth {config.depth}; "
                f"name one ('{format_path(choices[0])}'), or 'random', or restrict them with settings.last"
            )

    def build(self) -> nn.Module:
        return build_from(self.backbone, self.config.start, self.inputs)

    def deepest_path(self, step: Step) -> Path:
        """The path of the deep pass at this step."""
        if len(self.training_paths) == 1 or not step.training:
            return self.training_paths[0]  # on the dev set always the same one, so that validations compare
        number = torch.randint(len(self.training_paths), (1,), generator=step.layers_generator("path"))
        return self.training_paths[int(number)]

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        config = self.config
        with_deep = config.deep_has_set_in(step)
        with_kl = with_deep and config.alpha_kl > 0 and config.kl.has_set_in(step)
        deep_state, seed_state = self._both_passes(module, batch, step, with_deep, with_kl)
        terms, total, outputs = {}, 0.0, {}
        for name, weight, state in (("deep", config.alpha_f, deep_state), ("seed", config.alpha_p, seed_state)):
            if state is None:
                continue
            outputs[name] = module.outputs(module.finish(state), batch)
            if weight:
                parts = module.loss(outputs[name], batch)
                total = total + weight * parts.pop("total")
                terms |= {f"{name}.{term}": value for term, value in parts.items()}
        if with_kl:
            terms["kl"] = divergence(outputs["deep"], outputs["seed"], module.ctc_weight, config.kl, batch)
            total = total + config.alpha_kl * terms["kl"]
        blank = [value for name, value in terms.items() if name.endswith("blank_fraction")]
        return {"total": total, **terms, "blank_fraction": torch.stack(blank).max()}

    def changes_at(self, stage: Stage) -> list[int]:
        """Where a pass sets in: the deep one, or with the regulariser one that no other term reads."""
        config, steps = self.config, stage.training.steps
        deep = math.ceil(config.deep_from * steps)
        found = {deep} if config.alpha_f else set()
        if config.alpha_kl and not (config.alpha_f and config.alpha_p):
            found.add(max(deep, config.kl.start_step))
        return sorted(step for step in found if 0 < step < steps)

    def selection_term(self, terms: Collection[str]) -> str:
        return "deep.ctc" if self.config.alpha_f else "seed.ctc"

    def _both_passes(
        self, module: Backbone, batch: Batch, step: Step, with_deep: bool, with_kl: bool
    ) -> tuple[EncoderState | None, EncoderState | None]:
        """States after the last layer of the deep and the seed pass; None for a pass that no term reads.

        The front end, SpecAugment and dropout in it included, runs once. So does everything up to the first repeat
        where nothing in the layers is random, and where the setting says so: what runs once has the deep pass's draws.
        """
        config = self.config
        deep = self.deepest_path(step)
        seed = (1,) * module.layers
        deep_drop, seed_drop = self.draw_layer_drops(module, sum(deep), step)
        state = module.front_end(batch.inputs, batch.input_lengths)
        if config.alpha_p == 0 and not with_kl:
            return module.run_path(deep, state, deep_drop), None
        if not with_deep or (config.alpha_f == 0 and not with_kl):
            return None, module.run_path(seed, state, seed_drop)
        random = deep_drop is not None or (module.training and module.dropout_in_layers)
        if random and not config.share_prefix:
            return module.run_path(deep, state, deep_drop), module.run_path(seed, state, seed_drop)
        first = next((layer for layer, count in enumerate(deep) if count > 1), len(deep) - 1)
        state = module.run_path(seed[: first + 1], state, deep_drop)
        rest = deep[:first] + (deep[first] - 1,) + deep[first + 1 :]
        return (
            module.run_path(rest, state, deep_drop, first_layer=first),
            module.run_path(seed, state, seed_drop, first_layer=first + 1),
        )

    def draw_layer_drops(self, module: Backbone, depth: int, step: Step) -> tuple[LayerDrop | None, LayerDrop | None]:
        """Which executions the deep pass of so many, and the seed pass, skip: drawn independently; None: none."""
        if not step.training:
            return None, None
        deep = module.draw_layer_drop(depth, step.layers_generator("layer drop"))
        return deep, module.draw_layer_drop(module.layers, step.layers_generator("layer drop of the seed"))

    def points(self, module: nn.Module) -> list[Point]:
        physical, config = self.backbone.config.layers, self.config
        trained = list(self.training_paths) if config.alpha_f else []
        trained += [(1,) * physical] if config.alpha_p else []
        return path_points(offered_paths(physical, config.depth, config.last), trained)

    def statistics_points(self, module: nn.Module, step: Step) -> list[Point]:
        """The trained points; of random deep paths one, drawn a batch as it is drawn a step in training."""
        seed, deep = (1,) * self.backbone.config.layers, self.deepest_path(step)
        return [point for point in super().statistics_points(module, step) if point.path in (seed, deep)]
