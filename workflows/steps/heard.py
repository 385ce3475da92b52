"""What a system hears while it is measured: an experiment's recordings, or noise where there are none.

    heard(experiment, "f6", Path("results/smoke/data/synth"))      Recordings
    heard(experiment, "f6", None)                                  Noise

Costs depend on how long speech is, hardly on what is said. Without data a training batch is as large as the settings
say, of utterances of one length with as many labels as read English has.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from asr.backbones import Batch
from asr.batches import BatchOrder
from asr.features import FeatureExtractor, Normaliser, WaveformExtractor, as_they_are, make_extractor
from asr.settings import TrainingSettings
from methods.contract import Stage, TrainedSystem
from workflows.data import leave_out_too_long, open_data, training_on
from workflows.experiment import Experiment

LOUDNESS = 0.1
"""Standard deviation of noise, about that of speech."""
SAMPLING_RATE = 16000
"""Hz, of noise for filter banks, whose number of frames does not depend on it."""
LABELS_A_SECOND = {"word": 2.5, "bpe": 3.5, "char": 14.0, "letter": 14.0}
"""Of read English, by the units of a tokenizer."""
CALIBRATION = (64, 1.0)
"""Utterances of so many seconds by which an untrained system is calibrated: frames enough for 200 clusters."""


class Heard(Protocol):
    """Where a system's input comes from."""

    sampling_rate: int
    extractor: FeatureExtractor | WaveformExtractor
    training: TrainingSettings
    """Of the system, as far as its length is known."""

    def normaliser(self, features: Tensor) -> Tensor: ...

    def step_batches(self, system: TrainedSystem, stage: Stage) -> tuple[Batch, Batch]:
        """Two training batches of a stage, on the CPU: the largest, for memory, and the one of median size, for times;
        padding counted. The same for all systems of a family with the same training settings."""


def heard(experiment: Experiment, system: str, data_folder: Path | None) -> "Recordings | Noise":
    """The prepared data as a system reads them; None: noise."""
    return Noise(experiment, system) if data_folder is None else Recordings(experiment, system, data_folder)


class Recordings:
    """Data that `workflows.prepare` and `workflows.inputs` have written."""

    def __init__(self, experiment: Experiment, system: str, folder: Path):
        self.data = open_data(experiment, system, folder)
        self.training = training_on(experiment, system, self.data)
        self.sampling_rate: int = self.data.corpus["sampling_rate"]
        self.extractor, self.normaliser = self.data.extractor, self.data.normaliser

    def step_batches(self, system: TrainedSystem, stage: Stage) -> tuple[Batch, Batch]:
        training, cpu = stage.training, torch.device("cpu")
        speech = self.data.speech_set(stage.set, stage.labelled, pad_to_seconds=training.pad_to_seconds)
        leave_out_too_long(speech, lambda lengths: system.method.output_lengths(system.module, lengths), stage.set)
        order = speech.order(training.batch_seconds, training.buckets, batch_utterances=training.batch_utterances)
        return tuple(speech.batch(indices, cpu, stage.labelled) for indices in (order.largest(), median_batch(order)))


class Noise:
    """Noise with speech-like level, in the features of a system's family."""

    def __init__(self, experiment: Experiment, system: str):
        family, self.seconds = experiment.family_of(system), experiment.measure.audio_seconds
        config = experiment.backbone_of(system)["settings"]
        waveform = family.features.kind == "waveform"
        self.training = experiment.training_of(system)
        self.sampling_rate: int = config.get("sampling_rate", SAMPLING_RATE) if waveform else SAMPLING_RATE
        self.extractor = make_extractor(family.features, self.sampling_rate)
        mels = family.features.mels
        self.normaliser = as_they_are if waveform else Normaliser(*np.array([[0.0], [1.0]], np.float32).repeat(mels, 1))
        self.labels_a_second = LABELS_A_SECOND[family.tokenizer.units]

    def step_batches(self, system: TrainedSystem, stage: Stage) -> tuple[Batch, Batch]:
        number = utterances_of(stage.training, self.seconds)
        vocabulary = system.method.backbone.vocabulary
        return (self.batch(number, self.seconds, vocabulary, stage.labelled),) * 2

    def calibration(self, vocabulary: int, labelled: bool) -> Iterator[Batch]:
        """A small batch, where a method takes training batches before or after it trains."""
        yield self.batch(*CALIBRATION, vocabulary, labelled)

    def batch(self, utterances: int, seconds: float, vocabulary: int, labelled: bool) -> Batch:
        """So many utterances of one length; labels from 1 on, but the last, which may be a decoder's end."""
        waves = noise(utterances, round(seconds * self.sampling_rate))
        features, lengths = self.extractor(waves, [waves.size(1)] * utterances)
        ids = tuple(map(str, range(utterances)))
        if not labelled:
            return Batch(ids, self.normaliser(features), lengths)
        count = max(1, round(self.labels_a_second * seconds))
        labels = 1 + torch.arange(utterances * count).view(utterances, count) % max(1, vocabulary - 2)
        return Batch(ids, self.normaliser(features), lengths, labels, torch.full((utterances,), count))


def utterances_of(training: TrainingSettings, seconds: float) -> int:
    """Utterances of so many seconds in a batch on one device."""
    return training.batch_utterances or max(1, int(training.batch_seconds // seconds))


def noise(utterances: int, samples: int) -> Tensor:
    """(utterances, samples), the same whenever it is asked for."""
    return LOUDNESS * torch.randn(utterances, samples, generator=torch.Generator().manual_seed(0))


def median_batch(order: BatchOrder) -> list[int]:
    """The batch in order of length with the median size, padding counted; of two the smaller."""
    by_size = sorted(order.in_order(), key=order.size)
    return by_size[(len(by_size) - 1) // 2]
