"""Exported systems in Hugging Face's transformers. Importing this module registers their classes:

    import asr.exported.huggingface
    from transformers import AutoModelForCTC

    model = AutoModelForCTC.from_pretrained("f6", depth=8)
    model.depth = 12

`AutoProcessor` and `pipeline("automatic-speech-recognition", "f6")` work too, without remote code. The classes are for
recognition; systems are trained by this project. `workflows.export` writes the folders.
"""

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    HubertConfig,
    HubertForCTC,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)
from transformers.modeling_outputs import CausalLMOutput

from asr.backbones.speech_encoder import close, convolve, ctc_logits, embed, layers_of, output_frames
from asr.exported.conformer import (
    FoldableConformerConfig,
    FoldableConformerForCTC,
    LogMelFeatureExtractor,
    UnitTokenizer,
)
from asr.exported.paths import Foldable, PathsConfig, blank_behind_the_end


class FoldableWav2Vec2Config(PathsConfig, Wav2Vec2Config):
    """`num_hidden_layers` counts physical layers. `mask_padding`: see `asr.backbones.speech_encoder`."""

    model_type = "foldable_wav2vec2"
    mask_padding: bool = True


class FoldableHubertConfig(PathsConfig, HubertConfig):
    """`num_hidden_layers` counts physical layers. `mask_padding`: see `asr.backbones.speech_encoder`."""

    model_type = "foldable_hubert"
    mask_padding: bool = True


class FoldableSpeechEncoder(Foldable):
    """transformers' CTC model, run along a path; the weights keep their names."""

    def __init__(self, config: FoldableWav2Vec2Config | FoldableHubertConfig):
        super().__init__(config)
        self.start()

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None, **_: object) -> CausalLMOutput:
        """`input_values` (batch, samples), normalised by the processor; `attention_mask` (batch, samples) is 1 at real
        samples. Logits (batch, frames, vocabulary); frames behind an utterance's end say blank."""
        lengths = torch.full((len(input_values),), input_values.size(1), device=input_values.device)
        if attention_mask is not None:
            lengths = attention_mask.sum(1).long()
        features, valid = convolve(self, input_values, lengths if self.config.mask_padding else None)
        state = embed(self, features, valid)
        x = state.x
        for layer, count in zip(layers_of(self), self.path, strict=True):
            for _ in range(count):
                x = layer(x, attention_mask=state.attention_mask)
        logits = ctc_logits(self, close(self, x))
        frames = output_frames(self, lengths)
        real = torch.arange(logits.size(1), device=logits.device)[None, :] < frames[:, None]
        return CausalLMOutput(logits=blank_behind_the_end(logits, real))


class FoldableWav2Vec2ForCTC(FoldableSpeechEncoder, Wav2Vec2ForCTC):
    """wav2vec2 with a CTC layer."""

    config_class = FoldableWav2Vec2Config


class FoldableHubertForCTC(FoldableSpeechEncoder, HubertForCTC):
    """HuBERT with a CTC layer."""

    config_class = FoldableHubertConfig


REGISTERED = (
    (FoldableWav2Vec2Config, FoldableWav2Vec2ForCTC, Wav2Vec2FeatureExtractor, Wav2Vec2CTCTokenizer),
    (FoldableHubertConfig, FoldableHubertForCTC, Wav2Vec2FeatureExtractor, Wav2Vec2CTCTokenizer),
    (FoldableConformerConfig, FoldableConformerForCTC, LogMelFeatureExtractor, UnitTokenizer),
)

for _config, _model, _extractor, _tokenizer in REGISTERED:
    AutoConfig.register(_config.model_type, _config)
    AutoModelForCTC.register(_config, _model)
    AutoFeatureExtractor.register(_config, _extractor)
    AutoTokenizer.register(_config, _tokenizer)
