"""Exported systems in Hugging Face's transformers, from a checkout. Importing this module registers their classes:

    import asr.exported.huggingface
    from transformers import AutoModelForCTC

    model = AutoModelForCTC.from_pretrained("f6", depth=8)
    model.depth = 12

`AutoProcessor` and `pipeline("automatic-speech-recognition", "f6")` work too, and no code is taken from the folder. The
classes are for recognition; systems are trained by this project. `workflows.export` writes the folders; those of
wav2vec2 and HuBERT hold the modules of `asr.portable` too, which need no checkout.
"""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
)

from asr.exported.conformer import (
    FoldableConformerConfig,
    FoldableConformerForCTC,
    LogMelFeatureExtractor,
    UnitTokenizer,
)
from asr.portable.foldable import (
    FoldableHubertConfig,
    FoldableHubertForCTC,
    FoldableWav2Vec2Config,
    FoldableWav2Vec2ForCTC,
)

PORTABLE = (
    (FoldableWav2Vec2Config, FoldableWav2Vec2ForCTC),
    (FoldableHubertConfig, FoldableHubertForCTC),
)
REGISTERED = (
    *((*classes, Wav2Vec2FeatureExtractor, Wav2Vec2CTCTokenizer) for classes in PORTABLE),
    (FoldableConformerConfig, FoldableConformerForCTC, LogMelFeatureExtractor, UnitTokenizer),
)

for _config, _model, _extractor, _tokenizer in REGISTERED:
    AutoConfig.register(_config.model_type, _config)
    AutoModelForCTC.register(_config, _model)
    AutoFeatureExtractor.register(_config, _extractor)
    AutoTokenizer.register(_config, _tokenizer)

for _config, _model in PORTABLE:  # `save_pretrained` copies their modules, and names them in `auto_map`
    _config.register_for_auto_class()
    _model.register_for_auto_class("AutoModelForCTC")
