"""What models read, against numpy and at the edges: frames of so many samples, silence, nothing at all."""

import numpy as np
import pytest
import torch

from asr.features import (
    FeatureExtractor,
    Normaliser,
    Statistics,
    WaveformExtractor,
    as_they_are,
    make_extractor,
    perturb_speed,
)
from asr.settings import FeatureSettings


@pytest.mark.parametrize(("rate", "window", "shift"), [(8000, 200, 80), (16000, 400, 160)])
def test_frames_of_so_many_samples(rate, window, shift):
    extractor = FeatureExtractor(FeatureSettings(mels=20), rate)
    assert (extractor.window, extractor.shift, extractor.frames_per_second) == (window, shift, 100.0)
    counts = {0: 0, window - 1: 0, window: 1, window + shift - 1: 1, window + shift: 2, window + 9 * shift: 10}
    for samples, frames in counts.items():
        assert extractor.frames(samples) == frames
        features, lengths = extractor(torch.randn(2, samples), [samples, 0])
        assert lengths.tolist() == [frames, 0] and features.shape == (2, max(1, frames), 20)


def test_settings_of_windows_are_in_seconds():
    extractor = FeatureExtractor(FeatureSettings(mels=13, frame_length_seconds=0.05, frame_shift_seconds=0.02), 8000)
    assert (extractor.window, extractor.shift, extractor.frames_per_second) == (400, 160, 50.0)
    assert extractor(torch.randn(1, 2000), [2000])[0].shape == (1, 11, 13)


def test_a_tone_is_loudest_in_the_filter_of_its_pitch():
    extractor = FeatureExtractor(FeatureSettings(mels=40), 16000)
    seconds = torch.arange(8000) / 16000
    loudest = []
    for hertz in (300, 1000, 3000, 6000):
        features, _ = extractor(torch.sin(2 * torch.pi * hertz * seconds)[None], [8000])
        loudest.append(int(features[0].mean(0).argmax()))
    assert loudest == sorted(set(loudest)) and loudest[0] < 10 and loudest[-1] > 30


def test_waveforms_have_mean_zero_and_variance_one_over_their_own_samples():
    samples = torch.randn(2, 500, generator=torch.Generator().manual_seed(0)) * 3e-4 + 2e-4
    samples[1, 300:] = 7.0  # behind the end: never read
    found, lengths = WaveformExtractor(16000)(samples, [500, 300])
    assert lengths.tolist() == [500, 300]
    for row, wave, length in zip(found.double(), samples.double(), (500, 300), strict=True):
        real = wave[:length]
        expected = (real - real.mean()) / (real.var(correction=0) + 1e-7).sqrt()
        torch.testing.assert_close(row[:length], expected, atol=1e-4, rtol=0)
        assert not row[length:].any()
    assert found.dtype == torch.float32


def test_the_kind_chooses_the_extractor():
    assert isinstance(make_extractor(FeatureSettings(kind="waveform"), 8000), WaveformExtractor)
    extractor = make_extractor(FeatureSettings(mels=20), 8000)
    assert isinstance(extractor, FeatureExtractor) and extractor.shift == 80
    assert as_they_are(found := torch.randn(3)) is found


def test_statistics_are_numpys_however_the_frames_come():
    frames = np.random.default_rng(1).normal([3.0, -2.0, 0.5], [0.5, 4.0, 1.0], size=(400, 3)).astype(np.float32)
    statistics = Statistics(3)
    for part in np.split(frames, [1, 50, 51]):
        statistics.add(part)
    found = statistics.normaliser()
    np.testing.assert_allclose(found.mean, frames.astype(np.float64).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.deviation, frames.astype(np.float64).std(0), rtol=1e-5)
    normal = found(torch.from_numpy(frames))
    torch.testing.assert_close(normal.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert normal.dtype == torch.float32


def test_a_feature_that_never_moves_is_not_divided_by_zero():
    statistics = Statistics(2)
    statistics.add(np.full((5, 2), 4.0, np.float32))
    found = statistics.normaliser()
    assert found.mean.tolist() == [4.0, 4.0]
    np.testing.assert_allclose(found.deviation, 1e-4, rtol=1e-6)
    nothing = Statistics(2).normaliser()
    assert nothing.mean.tolist() == [0.0, 0.0] and (nothing.deviation > 0).all()


def test_a_normaliser_survives_its_file(tmp_path):
    saved = Normaliser(np.array([1.0, 2.0], np.float32), np.array([0.5, 4.0], np.float32))
    saved.save(tmp_path / "cmvn.json")
    read = Normaliser.load(tmp_path / "cmvn.json")
    for normaliser in (saved, read):
        assert normaliser(torch.tensor([[2.0, 10.0]])).tolist() == [[2.0, 2.0]]
    assert read.mean.dtype == read.deviation.dtype == np.float32


def test_speed_one_changes_nothing_and_two_halves():
    samples = np.random.default_rng(0).normal(size=1600).astype(np.float32)
    assert perturb_speed(samples, 8000, 1.0) is samples
    assert len(perturb_speed(samples, 8000, 2.0)) == 800
