"""A published speech foundation model as it is: weights from the Hugging Face hub, or from a local folder.

    settings: {source: facebook/wav2vec2-base-100h, revision: 9c1fef36b62a428a658e5b022ef9f21b38f47e0b}
    settings: {source: models/wav2vec2-base-100h}

Nothing is trained. Other systems start from it: fine-tuned, with fewer layers, foldable. wav2vec2-base-100h has a CTC
layer and is a recogniser; hubert-base-ls960 has none and is not, until it is fine-tuned. See docs/foundation_models.md.
"""

import copy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from asr.backbones import Batch
from asr.backbones.hub import COMMIT, check_model, fetch, find, load_weights, weights_of
from asr.settings import TokenizerSettings, TrainingSettings
from common.errors import UserError
from common.files import sha256
from common.settings import Settings
from methods.contract import Method, Point, Stage, Step, path_points

UNREAD = {"ctc_layer": "trained", "sha256": {}}
"""The origin of a model of which nothing was read: it counts as a recogniser."""


class Foundation(Method):
    """The backbone with the weights of a published model. The backbone's settings say its shape, so that a system is
    evaluated where the model is not."""

    kind = "foundation model"
    backbones = ("wav2vec2", "hubert")

    class Config(Settings):
        source: str
        """A model of the hub, `organisation/name`, or a folder with the same files."""
        revision: str | None = None
        """For a model of the hub: the commit, 40 hexadecimal digits."""

    def check(self) -> None:
        revision = self.config.revision
        if revision is not None and not COMMIT.fullmatch(revision):
            raise UserError(
                f"settings.revision: '{revision}' is not the 40 digits of a commit; a branch or a tag can come to mean "
                "other weights, and then nobody knows which ones gave the results"
            )

    def check_experiment(self, tokenizer: TokenizerSettings) -> None:
        if tokenizer.units != "letter" or tokenizer.letters is not None:
            raise UserError(
                "published models go with the 32 letters of wav2vec2-base-100h; set tokenizer: {units: letter}, "
                "without a list of its own"
            )
        folder = find(self.config.source, self.config.revision)
        if folder is not None:
            self._check_model(folder)

    def build(self) -> nn.Module:
        folder = fetch(self.config.source, self.config.revision)
        module = self.backbone.build()
        trained = load_weights(module, folder)
        files = {path.name: sha256(path) for path in (folder / "config.json", weights_of(folder))}
        module.origin = {"ctc_layer": "trained" if trained else "random", "sha256": files}
        return module

    def outline(self) -> nn.Module:
        module = copy.copy(self.backbone.outline())
        module.origin = UNREAD
        return module

    def untrained(self) -> nn.Module:
        """Random weights: whether the model that is named has a CTC layer is not looked up."""
        module = self.backbone.build()
        module.origin = UNREAD
        return module

    def stages(self, training: TrainingSettings) -> list[Stage]:
        return []

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        raise RuntimeError("nothing is trained")

    def architecture(self, module: nn.Module) -> dict[str, Any]:
        """Where the weights came from, and whether its CTC layer means anything."""
        return module.origin

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        module = self.backbone.build()
        module.origin = architecture
        return module

    def points(self, module: nn.Module) -> list[Point]:
        """Every layer once; nothing for a model whose CTC layer is random."""
        ones = (1,) * module.layers
        return path_points([ones], trained=[ones]) if module.origin["ctc_layer"] == "trained" else []

    def expected_points(self) -> None:
        """Whether its CTC layer is trained is known when the model was read."""

    def _check_model(self, folder: Path) -> None:
        config = self.backbone.config
        described = self.backbone.module.TRANSFORMERS.config_class
        expected = described(**config.transformers_settings(self.backbone.vocabulary))
        check_model(folder, expected, config.sampling_rate)
