"""The Conformer as transformers expects a speech recogniser: configuration, model, feature extractor, tokenizer.

`asr.exported.huggingface` registers them. The model holds the whole system; transformers' pipeline reads its CTC layer.
The attention decoder is there for beam search (`model.conformer.scorers()`).
"""

from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    BatchFeature,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizer,
    SequenceFeatureExtractor,
)
from transformers.modeling_outputs import CausalLMOutput

from asr.backbones import BackboneFactory
from asr.features import FeatureExtractor, Normaliser
from asr.portable.bitmap import place_bitmaps
from asr.portable.foldable import Foldable, PathsConfig, blank_behind_the_end
from asr.portable.masks import before_the_end
from asr.portable.packed import place_packed
from asr.settings import FeatureSettings
from asr.tokenizer import BLANK, SOS_EOS, Tokenizer
from common.errors import UserError

UNITS_FILE = "units.json"


class FoldableConformerConfig(PathsConfig, PreTrainedConfig):
    """`backbone` holds the settings of `asr.backbones.conformer`; its `layers` are physical."""

    model_type = "foldable_conformer"
    backbone: dict | None = None
    vocab_size: int = 0
    inputs_to_logits_ratio: int = 640
    """Samples that one frame of the output stands for."""


class FoldableConformerForCTC(Foldable, PreTrainedModel):
    """`conformer` is the backbone, with ESPnet's parameter names."""

    config_class = FoldableConformerConfig
    main_input_name = "input_features"

    def __init__(self, config: FoldableConformerConfig):
        super().__init__(config)
        # transformers builds models without memory for their tensors; the table of positions, which ESPnet keeps
        # outside of the weights, has to have its values.
        with torch.device("cpu"):
            self.conformer = BackboneFactory("conformer", config.backbone, config.vocab_size).build()
            place_packed(self.conformer, config.packed)
            place_bitmaps(self.conformer, config.bitmaps)
        self.start()
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """All weights come from the file."""

    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None, **_: object) -> CausalLMOutput:
        """`input_features` (batch, time, mels), normalised by the processor; `attention_mask` (batch, time) is 1 at
        real frames. Logits are log-probabilities (batch, frames, vocabulary); frames behind an utterance's end say
        blank."""
        lengths = torch.full((len(input_features),), input_features.size(1))
        if attention_mask is not None:
            lengths = attention_mask.sum(1).long().cpu()
        encoded = self.conformer.encode(input_features, lengths, self.path)
        log_probs = self.conformer.ctc_log_probs(encoded)
        real = before_the_end(encoded.lengths, log_probs.size(1), log_probs.device)
        return CausalLMOutput(logits=blank_behind_the_end(log_probs, real))


class LogMelFeatureExtractor(SequenceFeatureExtractor):
    """Waveforms to the log-mel features that the system was trained on, normalised by its training set's statistics.

    `mean` and `deviation` hold a number for each of `feature_size` mel bands.
    """

    model_input_names = ["input_features", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        frame_length_seconds: float = 0.025,
        frame_shift_seconds: float = 0.01,
        mean: list[float] | None = None,
        deviation: list[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.frame_length_seconds = frame_length_seconds
        self.frame_shift_seconds = frame_shift_seconds
        self.mean = mean or [0.0] * feature_size
        self.deviation = deviation or [1.0] * feature_size

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = False,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """`raw_speech` (samples,), or several of them in a list. Gives `input_features` and `attention_mask`.

        Raises `UserError` when the speech has another sampling rate than the system's: it is not resampled.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise UserError(f"the speech has {sampling_rate} Hz, the system {self.sampling_rate} Hz; resample it first")
        several = isinstance(raw_speech, list | tuple) and not np.isscalar(raw_speech[0])
        several = several or getattr(raw_speech, "ndim", 1) > 1
        rows = [self._features(waveform) for waveform in (raw_speech if several else [raw_speech])]
        # The model has to know where the padding begins, whatever the caller thinks of masks.
        kwargs["return_attention_mask"] = True
        return self.pad(BatchFeature({"input_features": rows}), padding, return_tensors=return_tensors, **kwargs)

    def _features(self, waveform: Any) -> np.ndarray:
        """(frames, mels) of one utterance."""
        samples = torch.as_tensor(np.asarray(waveform, dtype=np.float32))
        settings = (self.feature_size, self.frame_length_seconds, self.frame_shift_seconds, self.sampling_rate)
        features, lengths = _extractor(*settings)(samples[None], [len(samples)])
        normaliser = Normaliser(np.array(self.mean, np.float32), np.array(self.deviation, np.float32))
        return normaliser(features[0, : int(lengths[0])]).numpy()


@lru_cache(maxsize=4)
def _extractor(mels: int, length: float, shift: float, sampling_rate: int) -> FeatureExtractor:
    settings = FeatureSettings(mels=mels, frame_length_seconds=length, frame_shift_seconds=shift)
    return FeatureExtractor(settings, sampling_rate)


class UnitTokenizer(PreTrainedTokenizer):
    """The system's token list, as `asr.tokenizer` has it. `decode` reads CTC labels: repeats are collapsed unless
    `group_tokens` is off, blanks removed."""

    vocab_files_names = {"vocab_file": UNITS_FILE}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file: str, **kwargs: Any):
        self.units = Tokenizer.load(vocab_file)
        special = {"pad_token": BLANK, "bos_token": SOS_EOS, "eos_token": SOS_EOS, "unk_token": None}
        super().__init__(**{**special, **kwargs, "special_tokens_pattern": "none"})

    @property
    def vocab_size(self) -> int:
        return len(self.units)

    def get_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.units.tokens)}

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return [self.units.tokens[number] for number in self.units.encode(text)]

    def _convert_token_to_id(self, token: str) -> int:
        return self.get_vocab()[token]

    def _convert_id_to_token(self, index: int) -> str:
        return self.units.tokens[index]

    def _decode(
        self, token_ids: int | list[int], skip_special_tokens: bool = False, group_tokens: bool = True, **_: Any
    ) -> str:
        labels = [token_ids] if isinstance(token_ids, int) else token_ids
        if group_tokens:
            labels = [label for label, _ in groupby(labels)]
        return self.units.decode(int(label) for label in labels)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        path = Path(save_directory) / (f"{filename_prefix}-{UNITS_FILE}" if filename_prefix else UNITS_FILE)
        self.units.save(path)
        return (str(path),)
