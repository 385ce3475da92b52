"""What the benchmarks of speech encoders share: shapes, and noise to run on."""

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from asr.backbones import BackboneFactory, Batch
from methods.contract import Method, make_method

SHAPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {"width": 64, "heads": 4, "ffn": 256, "conv_dim": [64] * 7, "positional_kernel": 32},
}
"""wav2vec2-base, and a narrow one that reads the waveform in the same frames of 20 ms."""
VOCABULARY = 32
SAMPLING_RATE = 16000
LETTERS_PER_SECOND = 14
FIRST_LETTER = 4
"""Of the vocabulary: blank, two sentence marks and `<unk>` come before."""


def method_on(shape: str, name: str, settings: dict[str, Any], layers: int, **backbone: Any) -> Method:
    """Method `name` on a wav2vec2 of so many physical layers. Raises `UserError` for settings that do not fit it."""
    factory = BackboneFactory("wav2vec2", {**SHAPES[shape], "layers": layers, **backbone}, VOCABULARY)
    return make_method(name, settings, factory)


def noise(utterances: int, seconds: float) -> Batch:
    """Utterances of equal length, with random letters as transcripts: the work does not depend on what is said."""
    generator = torch.Generator().manual_seed(0)
    samples, letters = round(seconds * SAMPLING_RATE), max(1, round(seconds * LETTERS_PER_SECOND))
    return Batch(
        ids=tuple(str(number) for number in range(utterances)),
        inputs=torch.randn(utterances, samples, generator=generator),
        input_lengths=torch.full((utterances,), samples),
        targets=torch.randint(FIRST_LETTER, VOCABULARY, (utterances, letters), generator=generator),
        target_lengths=torch.full((utterances,), letters),
    )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range, as benchmarks print them."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "repeats": len(values)}
