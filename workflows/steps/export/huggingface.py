"""The Hugging Face folder: configuration, weights of the physical layers once, and the processor; for wav2vec2 and
HuBERT the modules that run it too, which `save_pretrained` copies from `asr.portable`."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from transformers.utils import logging

from asr.exported.conformer import UNITS_FILE, FoldableConformerForCTC, LogMelFeatureExtractor, UnitTokenizer
from asr.exported.huggingface import FoldableHubertForCTC, FoldableWav2Vec2ForCTC
from asr.tokenizer import LETTER_SPACE, Letters
from common.files import write_json
from methods.paths import format_path
from workflows.steps.export.system import ExportedSystem
from workflows.steps.export.weights import bitmap_forms, packed_forms

CLASSES = {"conformer": FoldableConformerForCTC, "wav2vec2": FoldableWav2Vec2ForCTC, "hubert": FoldableHubertForCTC}


def write_huggingface(system: ExportedSystem, out: Path) -> PreTrainedModel:
    """Write everything that `from_pretrained` reads; the model that was written."""
    model = make_model(system)
    logging.disable_progress_bar()
    model.save_pretrained(out)
    if system.reads_waveforms:
        # Base models get no mask from transformers' own settings: they were trained without. Ours are told.
        extractor = Wav2Vec2FeatureExtractor(
            sampling_rate=system.sampling_rate, do_normalize=True, return_attention_mask=True
        )
    else:
        extractor = LogMelFeatureExtractor(
            feature_size=system.features.mels,
            sampling_rate=system.sampling_rate,
            frame_length_seconds=system.features.frame_length_seconds,
            frame_shift_seconds=system.features.frame_shift_seconds,
            mean=system.normaliser.mean.tolist(),
            deviation=system.normaliser.deviation.tolist(),
        )
    Wav2Vec2Processor(extractor, make_tokenizer(system, out)).save_pretrained(out)
    return model


def is_portable(system: ExportedSystem) -> bool:
    """Whether the folder holds everything that transformers needs to run it: not for the Conformer, which is made of
    ESPnet's layers, nor with units that transformers has no tokenizer for."""
    return system.reads_waveforms and isinstance(system.tokenizer, Letters)


def make_model(system: ExportedSystem) -> PreTrainedModel:
    """The system as the class that will load it, in evaluation mode."""
    kind = CLASSES[system.method.backbone.name]
    config = system.method.backbone.config
    vocabulary = len(system.tokenizer)
    held = system.module.model if system.reads_waveforms else system.module
    said = {
        "paths": {str(depth): [format_path(path) for path in system.paths(depth)] for depth in system.chosen},
        "chosen": {str(depth): format_path(point.path) for depth, point in system.chosen.items()},
        "depth": system.default_depth,
        "packed": packed_forms(held),
        "bitmaps": bitmap_forms(held),
    }
    if system.reads_waveforms:
        own = {**config.transformers_settings(vocabulary), "mask_padding": config.mask_padding}
        model = kind(kind.config_class(**own, **said))
        model.load_state_dict(held.state_dict())
    else:
        model = kind(
            kind.config_class(
                backbone=config.model_dump(mode="json"),
                vocab_size=vocabulary,
                inputs_to_logits_ratio=_samples_a_frame(system),
                pad_token_id=system.tokenizer.blank,
                **said,
            )
        )
        model.conformer.load_state_dict(held.state_dict())
    return model.eval().requires_grad_(False)


def _samples_a_frame(system: ExportedSystem) -> int:
    """Samples that one frame of the Conformer's output stands for: its front end keeps every fourth feature frame."""
    return 4 * round(system.features.frame_shift_seconds * system.sampling_rate)


def make_tokenizer(system: ExportedSystem, out: Path) -> Any:
    """transformers' own tokenizer for letters, ours for everything else. Its vocabulary file is written to `out`."""
    tokenizer = system.tokenizer
    if not isinstance(tokenizer, Letters):
        tokenizer.save(out / UNITS_FILE)
        return UnitTokenizer(str(out / UNITS_FILE))
    write_json(out / "vocab.json", {token: number for number, token in enumerate(tokenizer.tokens)})
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    special = {role: token if token in tokenizer.tokens else None for role, token in named.items()}
    return Wav2Vec2CTCTokenizer(
        str(out / "vocab.json"),
        pad_token=tokenizer.tokens[tokenizer.blank],
        word_delimiter_token=LETTER_SPACE,
        **special,
    )
