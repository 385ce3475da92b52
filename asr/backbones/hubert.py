"""HuBERT with a CTC layer (Hsu et al., 2021): see `asr.backbones.speech_encoder`."""

from transformers import HubertConfig, HubertForCTC

from asr.backbones.speech_encoder import SpeechEncoder, SpeechEncoderConfig

INPUT = "waveform"
TRANSFORMERS = HubertForCTC


class Config(SpeechEncoderConfig):
    """hubert-base by default."""


def build(config: Config, vocabulary: int) -> SpeechEncoder:
    """A model with random weights; id 0 of `vocabulary` entries is CTC's blank."""
    return SpeechEncoder(config, HubertForCTC(HubertConfig(**config.transformers_settings(vocabulary))))
