"""The batches of a training stage, read ahead. Beside `workflows.data`, so that an edit of who reads ahead for training
decodes and measures nothing again."""

from collections.abc import Iterator

import torch

from asr.backbones import Batch
from asr.batches import SpeechSet, StageData
from asr.loader import load
from asr.settings import TrainingSettings


def stage_data(
    train: SpeechSet, dev: SpeechSet, training: TrainingSettings, seed: int, device: torch.device, labelled: bool
) -> StageData:
    """Batches of a training stage: endless shuffled training batches, and the dev set in order of length."""
    order = train.order(training.batch_seconds, training.buckets, seed, training.batch_utterances)
    dev_batches = dev.order(training.batch_seconds, batch_utterances=training.batch_utterances).in_order()

    def train_batches(start: int, rank: int, world: int) -> Iterator[Batch]:
        return load(train, order.endless(start, rank, world), device, labelled, training)

    def validation_batches() -> Iterator[Batch]:
        return load(dev, dev_batches, device, labelled, training)

    return StageData(train_batches, validation_batches)
