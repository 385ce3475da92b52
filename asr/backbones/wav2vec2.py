"""wav2vec2 with a CTC layer (Baevski et al., 2020): see `asr.backbones.speech_encoder`."""

from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from asr.backbones.speech_encoder import SpeechEncoder, SpeechEncoderConfig

INPUT = "waveform"
TRANSFORMERS = Wav2Vec2ForCTC


class Config(SpeechEncoderConfig):
    """wav2vec2-base by default."""


def build(config: Config, vocabulary: int) -> SpeechEncoder:
    """A model with random weights; id 0 of `vocabulary` entries is CTC's blank."""
    return SpeechEncoder(config, Wav2Vec2ForCTC(Wav2Vec2Config(**config.transformers_settings(vocabulary))))
