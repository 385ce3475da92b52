"""Exported systems in transformers, with the depth as an argument: configurations and models.

A path says how often each physical layer runs, in order (`1 1 2 2`); its sum is the depth. `config.json` lists the
paths that a system may be run at and which of them stands for each depth; the model holds each layer once.

    model = AutoModelForCTC.from_pretrained("fw6", trust_remote_code=True, depth=8)
    model.depth = 12
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import HubertConfig, HubertForCTC, Wav2Vec2Config, Wav2Vec2ForCTC
from transformers.modeling_outputs import CausalLMOutput

from .bitmap import place_bitmaps
from .masks import before_the_end
from .packed import place_packed
from .speech import close, convolve, ctc_logits, embed, layers_of, output_frames

Path = tuple[int, ...]


class PathsConfig:
    """Mixin of configurations.

    `paths` lists the allowed paths of each depth, `chosen` the one that stands for it. `depth` is what a loaded model
    runs at, or `path` where one is named; both can be given to `from_pretrained`. `packed` names the matrices that are
    stored in few bits or of which few weights are, each with its form (`PackedMatrix.form`). `bitmaps` names those of
    which only the weights that are not zero are stored, each with their number.
    """

    def __post_init__(
        self,
        paths: dict[str, list[str]] | None = None,
        chosen: dict[str, str] | None = None,
        depth: int | None = None,
        path: str | None = None,
        packed: dict[str, dict[str, int | None]] | None = None,
        bitmaps: dict[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.paths = paths or {}
        self.chosen = chosen or {}
        self.depth = depth
        self.path = path
        self.packed = packed or {}
        self.bitmaps = bitmaps or {}
        super().__post_init__(**kwargs)

    def path_at(self, depth: int) -> Path:
        """The path that stands for a depth. Raises ValueError naming the possible depths."""
        if str(depth) not in self.chosen:
            raise ValueError(f"depth {depth} is not possible; this system runs at depths {in_order(self.chosen)}")
        return counts_of(self.chosen[str(depth)])

    def check_path(self, path: str | Sequence[int]) -> Path:
        """The path as counts. Raises ValueError naming the allowed paths of its depth, or the possible depths."""
        counts = counts_of(path)
        text = written(counts)
        allowed = self.paths.get(str(sum(counts)))
        if allowed is None:
            depths = in_order(self.paths)
            raise ValueError(f"path '{text}' has depth {sum(counts)}; this system runs at depths {depths}")
        if text not in allowed:
            raise ValueError(
                f"path '{text}' is not allowed; paths of depth {sum(counts)}: {', '.join(map(repr, allowed))}"
            )
        return counts


class Foldable:
    """Mixin of models: `depth` and `path` can be read and set at any time."""

    @property
    def path(self) -> Path:
        """How often each physical layer runs."""
        return self._path

    @path.setter
    def path(self, path: str | Sequence[int]) -> None:
        self._path = self.config.check_path(path)
        self.config.path = written(self._path)
        self.config.depth = sum(self._path)

    @property
    def depth(self) -> int:
        """Layer executions."""
        return sum(self._path)

    @depth.setter
    def depth(self, depth: int) -> None:
        self._path = self.config.path_at(depth)
        self.config.path, self.config.depth = None, self.depth

    def start(self) -> None:
        """Take up the depth or the path that the configuration asks for."""
        if self.config.path is not None:
            self.path = self.config.path
        else:
            self.depth = self.config.depth


def counts_of(path: str | Sequence[int]) -> Path:
    """A path as counts."""
    try:
        return tuple(int(count) for count in (path.split() if isinstance(path, str) else path))
    except (TypeError, ValueError):
        raise ValueError(f"'{path}' is not a path; a path is written as repeat counts, for example '1 1 2 2'") from None


def written(path: Path) -> str:
    """A path as it stands in `config.json`."""
    return " ".join(map(str, path))


def in_order(depths: Iterable[str]) -> str:
    """Depths as `6, 8, 10`: a configuration read from its file has its keys in the order of the alphabet."""
    return ", ".join(sorted(depths, key=int))


def blank_behind_the_end(logits: Tensor, valid: Tensor, blank: int = 0) -> Tensor:
    """Logits (batch, frames, vocabulary) that say blank in every frame that is not `valid` (batch, frames).

    Whoever decodes all frames of a padded batch, as transformers' pipeline does, then reads what the utterance alone
    gives.
    """
    silence = torch.full_like(logits[0, 0], -torch.inf)
    silence[blank] = 0.0
    return torch.where(valid[:, :, None], logits, silence)


class FoldableWav2Vec2Config(PathsConfig, Wav2Vec2Config):
    """`num_hidden_layers` counts physical layers. `mask_padding`: padding is left out, so that an utterance gives the
    same in every batch."""

    model_type = "foldable_wav2vec2"
    mask_padding: bool = True


class FoldableHubertConfig(PathsConfig, HubertConfig):
    """`num_hidden_layers` counts physical layers. `mask_padding`: as for wav2vec2."""

    model_type = "foldable_hubert"
    mask_padding: bool = True


class FoldableSpeechEncoder(Foldable):
    """transformers' CTC model, run along a path; weights that are not packed keep their names."""

    def __init__(self, config: FoldableWav2Vec2Config | FoldableHubertConfig):
        super().__init__(config)
        place_packed(self, config.packed)
        place_bitmaps(self, config.bitmaps)
        self.start()

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None, **_: object) -> CausalLMOutput:
        """`input_values` (batch, samples), normalised by the processor; `attention_mask` (batch, samples) is 1 at real
        samples. Logits (batch, frames, vocabulary); frames behind an utterance's end say blank."""
        lengths = torch.full((len(input_values),), input_values.size(1))
        if attention_mask is not None:
            lengths = attention_mask.sum(1).long().cpu()
        features, valid, frames = convolve(self, input_values, lengths if self.config.mask_padding else None)
        x, mask = embed(self, features, valid, frames)
        for layer, count in zip(layers_of(self), self.path, strict=True):
            for _ in range(count):
                x = layer(x, attention_mask=mask)
        logits = ctc_logits(self, close(self, x))
        frames = output_frames(self, lengths)
        real = before_the_end(frames, logits.size(1), logits.device)
        return CausalLMOutput(logits=blank_behind_the_end(logits, real))


class FoldableWav2Vec2ForCTC(FoldableSpeechEncoder, Wav2Vec2ForCTC):
    """wav2vec2 with a CTC layer."""

    config_class = FoldableWav2Vec2Config


class FoldableHubertForCTC(FoldableSpeechEncoder, HubertForCTC):
    """HuBERT with a CTC layer."""

    config_class = FoldableHubertConfig
