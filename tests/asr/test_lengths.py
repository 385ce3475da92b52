"""Lengths that are known before the audio is read are those that it then has, at every speed."""

import math
import random

import numpy as np
import pytest
import soundfile
import torch
from lhotse.augmentation import Speed

from asr.batches import SpeechSet
from asr.corpora import Utterance
from asr.examples import Example
from asr.features import FeatureExtractor, WaveformExtractor, as_they_are, perturb_speed, perturbed_samples
from asr.settings import FeatureSettings
from common.errors import UserError

CPU = torch.device("cpu")
RATES = (8000, 11025, 16000, 22050, 44100, 48000)
FACTORS = (0.8, 0.9, 0.95, 0.97, 1.0, 1.00001, 1.03, 1.05, 1.1, 1.2)
LARGEST_BLOCK = 1000
"""Samples that the resampler takes at once; its kernel grows with the square."""
BOTH = [(r, f) for r in RATES for f in FACTORS if r // math.gcd(r, round(r * f)) <= LARGEST_BLOCK]


@pytest.mark.parametrize(("rate", "factor"), BOTH)
def test_the_number_of_samples_is_the_one_that_perturbation_gives(rate, factor):
    generator = random.Random(f"{rate} {factor}")
    lengths = [1, 2, 9, 10, 11, *generator.sample(range(12, 3000), 20), *generator.sample(range(3000, 40000), 4)]
    for samples in lengths:
        played = perturb_speed(np.zeros(samples, np.float32), rate, factor)
        assert len(played) == perturbed_samples(samples, rate, factor), samples


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("samples", [2**20 + 1, 2**23 + 5])
def test_so_it_is_where_float32_no_longer_tells_samples_apart(samples, factor):
    """A quarter of an hour at 8 kHz; lhotse computes the length in float32."""
    assert len(perturb_speed(np.zeros(samples, np.float32), 8000, factor)) == perturbed_samples(samples, 8000, factor)


@pytest.mark.parametrize("factor", FACTORS)
def test_perturbation_is_that_of_lhotse(factor):
    samples = np.random.default_rng(0).standard_normal(4321).astype(np.float32)
    ours, theirs = perturb_speed(samples, 8000, factor), Speed(factor)(samples[None], 8000)[0]
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=5e-5)  # its kernel is in part computed in float32


@pytest.mark.parametrize("kind", ["log_mel", "waveform"])
def test_frames_of_examples_are_those_of_their_batches(tmp_path, kind):
    """Utterances at the border of a frame, at each speed."""
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 4000), 8000)
    extractor = FeatureExtractor(FeatureSettings(mels=20), 8000) if kind == "log_mel" else WaveformExtractor(8000)
    rows, predicted = [], 0
    for samples in [*range(2000, 2100), *range(150, 230, 3)]:
        for speed in (0.9, 1.0, 1.1):
            utterance = Utterance(f"s-{samples}", path, 8000, samples / 8000, "s", "x")
            frames = extractor.frames(perturbed_samples(samples, 8000, speed))
            predicted += frames != extractor.frames(round(samples / speed))
            rows.append(Example(utterance, speed, frames, None))
    assert predicted > 0, "rounding would have been wrong"
    speech = SpeechSet(rows, extractor, as_they_are)
    batch = speech.batch(range(len(rows)), CPU)
    assert batch.input_lengths.tolist() == [example.frames for example in rows]


@pytest.mark.parametrize("wrong", [-1, 1])
def test_an_utterance_of_another_length_is_named(tmp_path, wrong):
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    extractor = FeatureExtractor(FeatureSettings(mels=20), 8000)
    right, count = extractor.frames(perturbed_samples(4000, 8000, 0.9)), extractor.frames(8000)
    rows = [
        Example(Utterance("s-right", path, 8000, 1.0, "s", "x"), 1.0, count, (1,)),
        Example(Utterance("s-wrong", path, 8000, 0.5, "s", "x"), 0.9, right + wrong, (1,)),
    ]
    message = f"noise.wav: utterance s-wrong at speed 0.9 gives {right} frames, not {right + wrong}"
    speech = SpeechSet(rows, extractor, as_they_are)
    speech.batch([0], CPU)
    with pytest.raises(UserError, match=message):
        speech.batch([0, 1], CPU)
