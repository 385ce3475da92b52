"""What models read, made on the device of the audio, one batch at a time: log-mel filter banks (lhotse's torch layer,
Kaldi-compatible), or the normalised waveform."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import torch
from lhotse.features.kaldi.layers import Wav2LogFilterBank
from torch import Tensor

from asr.settings import FeatureSettings
from common.files import read_json, write_json


class FeatureExtractor:
    """Waveforms to log-mel energies.

    Only whole windows give a frame (`snip_edges`), so an utterance's frames do not depend on the padding behind it.
    """

    def __init__(self, settings: FeatureSettings, sampling_rate: int):
        self.window = round(settings.frame_length_seconds * sampling_rate)
        self.shift = round(settings.frame_shift_seconds * sampling_rate)
        self.frames_per_second = sampling_rate / self.shift
        with warnings.catch_warnings():
            # lhotse warns that its own manifests of features expect another number of frames; we keep none.
            warnings.filterwarnings("ignore", message="Setting snip_edges=True")
            layer = Wav2LogFilterBank(
                sampling_rate=sampling_rate,
                frame_length=settings.frame_length_seconds,
                frame_shift=settings.frame_shift_seconds,
                num_filters=settings.mels,
                snip_edges=True,
            )
        self.layer = layer.eval()

    def frames(self, samples: int) -> int:
        """Number of frames that so many samples give."""
        return max(0, 1 + (samples - self.window) // self.shift)

    @torch.no_grad()
    def __call__(self, waveforms: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """`waveforms` (batch, samples), zero-padded, and their lengths in samples -> (batch, frames, mels),
        (batch,)."""
        if waveforms.size(1) < self.window:
            waveforms = torch.nn.functional.pad(waveforms, (0, self.window - waveforms.size(1)))
        features = self.layer.to(waveforms.device)(waveforms.float())
        return features, torch.tensor([self.frames(length) for length in lengths])


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
                samples = waveform[:length].float()
                variance, mean = torch.var_mean(samples, correction=0)
                row[:length] = (samples - mean) / torch.sqrt(variance + 1e-7)
        return normalised, torch.tensor(lengths)


def make_extractor(settings: FeatureSettings, sampling_rate: int) -> FeatureExtractor | WaveformExtractor:
    """The extractor of the settings' kind."""
    if settings.kind == "waveform":
        return WaveformExtractor(sampling_rate)
    return FeatureExtractor(settings, sampling_rate)


def as_they_are(features: Tensor) -> Tensor:
    """In place of a `Normaliser` where the extractor has normalised."""
    return features


@dataclasses.dataclass(frozen=True)
class Normaliser:
    """Global mean and variance normalisation: (x - mean) / deviation for each feature."""

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, features: Tensor) -> Tensor:
        mean = torch.as_tensor(self.mean, device=features.device)
        return (features - mean) / torch.as_tensor(self.deviation, device=features.device)

    def save(self, path: Path) -> None:
        write_json(path, {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()})

    @classmethod
    def load(cls, path: Path) -> "Normaliser":
        values = read_json(path)
        return cls(np.array(values["mean"], np.float32), np.array(values["deviation"], np.float32))


class Statistics:
    """Running sums for a `Normaliser`, in float64."""

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
        return Normaliser(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))


def perturb_speed(samples: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Play `factor` times as fast: resampling, which moves the pitch too (Ko et al., 2015)."""
    if factor == 1.0:
        return samples
    from lhotse.augmentation import Speed

    return np.ascontiguousarray(Speed(factor)(samples[None, :], sampling_rate)[0], dtype=np.float32)
