"""What models read, made on the device of the audio: log-mel filter banks (lhotse's torch layer, Kaldi-compatible), or
the normalised waveform."""

import copy
import dataclasses
import functools
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from lhotse.augmentation.resample import Resample
from lhotse.features.kaldi.layers import Wav2LogFilterBank
from torch import Tensor

from asr.settings import FeatureSettings
from common.files import read_json, write_json

SIGNIFICANT_DIGITS = 6
"""Of feature statistics: as many as float32 keeps, and fewer than processors agree on in float64."""


class FeatureExtractor:
    """Waveforms to log-mel energies.

    Only whole windows give a frame (`snip_edges`), so an utterance's frames do not depend on the padding behind it.
    In float64, rounded later, processors with other vector units give the same numbers.
    """

    def __init__(self, settings: FeatureSettings, sampling_rate: int, dtype: torch.dtype = torch.float32):
        self.dtype = dtype
        self.window = round(settings.frame_length_seconds * sampling_rate)
        self.shift = round(settings.frame_shift_seconds * sampling_rate)
        self.frames_per_second = sampling_rate / self.shift
        with warnings.catch_warnings():
            # lhotse warns that its own manifests of features expect another number of frames; we keep none.
            warnings.filterwarnings("ignore", message="Setting snip_edges=True")
            usual = torch.get_default_dtype()
            torch.set_default_dtype(dtype)  # window and filters too
            try:
                layer = Wav2LogFilterBank(
                    sampling_rate=sampling_rate,
                    frame_length=settings.frame_length_seconds,
                    frame_shift=settings.frame_shift_seconds,
                    num_filters=settings.mels,
                    snip_edges=True,
                )
            finally:
                torch.set_default_dtype(usual)
        layer._to_spec = _power  # its own takes a root and squares it: a third of all the time
        self.layer = layer.eval()

    def frames(self, samples: int) -> int:
        """Number of frames that so many samples give."""
        return max(0, 1 + (samples - self.window) // self.shift)

    def most_samples(self, frames: int) -> int:
        """The largest number of samples that give so many frames."""
        return self.window + frames * self.shift - 1

    @torch.no_grad()
    def __call__(self, waveforms: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """`waveforms` (batch, samples), zero-padded, and their lengths in samples -> (batch, frames, mels),
        (batch,)."""
        if waveforms.size(1) < self.window:
            waveforms = torch.nn.functional.pad(waveforms, (0, self.window - waveforms.size(1)))
        features = self._layer_on(waveforms.device)(waveforms.to(self.dtype))
        return features, torch.tensor([self.frames(length) for length in lengths])

    @functools.cache  # noqa: B019 - a few
    def _layer_on(self, device: torch.device) -> Wav2LogFilterBank:
        """A copy for each device: the layer itself stays on the host, from where processes that read ahead get it. A
        tensor of a GPU would bring its context into each of them."""
        return self.layer if device.type == "cpu" else copy.deepcopy(self.layer).to(device)


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


class WaveformExtractor:
    """The waveform itself, each utterance with mean zero and variance one, for models that read samples.

    (x - mean) / sqrt(variance + 1e-7) over the utterance's own samples, zeros behind them: what transformers'
    `Wav2Vec2FeatureExtractor` does with `do_normalize` and an attention mask.
    """

    def __init__(self, sampling_rate: int):
        self.frames_per_second = float(sampling_rate)

    def frames(self, samples: int) -> int:
        """A frame is a sample."""
        return samples

    @torch.no_grad()
    def __call__(self, waveforms: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """`waveforms` (batch, samples), zero-padded, and their lengths in samples -> (batch, samples), (batch,)."""
        normalised = torch.zeros_like(waveforms, dtype=torch.float32)
        for row, waveform, length in zip(normalised, waveforms, lengths, strict=True):
            if length:
                row[:length] = waveform[:length]
                self.normalise(row[:length])
        return normalised, torch.tensor(lengths)

    @staticmethod
    def normalise(samples: Tensor) -> Tensor:
        """The samples of one utterance, normalised in place. Two passes, since torch's `var_mean` takes twenty times as
        long."""
        samples -= samples.mean()
        samples /= torch.sqrt(samples.square().mean() + 1e-7)
        return samples


def make_extractor(settings: FeatureSettings, sampling_rate: int) -> FeatureExtractor | WaveformExtractor:
    """The extractor of the settings' kind."""
    if settings.kind == "waveform":
        return WaveformExtractor(sampling_rate)
    return FeatureExtractor(settings, sampling_rate)


def as_they_are(features: Tensor) -> Tensor:
    """In place of a `Normaliser` where the extractor has normalised."""
    return features


@dataclasses.dataclass(frozen=True, eq=False)
class Normaliser:
    """Global mean and variance normalisation: (x - mean) / deviation for each feature.

    `save` writes `SIGNIFICANT_DIGITS`, which lose nothing of what `Statistics` gives.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, features: Tensor) -> Tensor:
        mean, deviation = self._on(features.device)
        return (features - mean) / deviation

    @functools.cache  # noqa: B019 - a few; copied once, since the host waits for a copy to a GPU
    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(self.mean, device=device), torch.as_tensor(self.deviation, device=device)

    def save(self, path: Path) -> None:
        write_json(path, {"mean": _rounded(self.mean), "deviation": _rounded(self.deviation)})

    @classmethod
    def load(cls, path: Path) -> "Normaliser":
        values = read_json(path)
        return cls(np.array(values["mean"], np.float32), np.array(values["deviation"], np.float32))


class Statistics:
    """Running sums for a `Normaliser`, in float64 until they are rounded to `SIGNIFICANT_DIGITS`."""

    def __init__(self, dimension: int):
        self.count = 0
        self.total = np.zeros(dimension)
        self.squares = np.zeros(dimension)

    def add(self, frames: np.ndarray) -> None:
        """`frames` (frames, mels)."""
        frames = frames.astype(np.float64)
        self.count += len(frames)
        self.total += frames.sum(0)
        self.squares += np.square(frames).sum(0)

    def normaliser(self) -> Normaliser:
        mean = self.total / max(1, self.count)
        variance = np.maximum(self.squares / max(1, self.count) - np.square(mean), 1e-8)
        return Normaliser(*(np.array(_rounded(each), np.float32) for each in (mean, np.sqrt(variance))))


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in values.tolist()]


def perturb_speed(samples: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Play `factor` times as fast: resampling, which moves the pitch too (Ko et al., 2015), as lhotse's `Speed` does,
    but in float64 until the end."""
    source = round(sampling_rate * factor)
    if source == sampling_rate:
        return samples
    return _resampler(source, sampling_rate)(torch.from_numpy(samples).double()).float().numpy()


@functools.cache
def _resampler(source: int, target: int) -> Resample:
    return Resample(source, target, dtype=torch.float64)


def perturbed_samples(samples: int, sampling_rate: int, factor: float) -> int:
    """How many samples `perturb_speed` makes of so many, by the arithmetic of lhotse's resampler: it cuts its blocks at
    the length that it expects, computed in float32 and rounded up."""
    source = round(sampling_rate * factor)
    if source == sampling_rate:
        return samples
    common = math.gcd(source, sampling_rate)
    block, made = source // common, sampling_rate // common
    expected = math.ceil(np.float32(made * samples / block))
    return min(expected, (samples // block + 1) * made)
