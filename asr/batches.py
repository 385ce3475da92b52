"""From prepared sets to padded batches on a device.

Batch order is a pure function of (seed, epoch): utterances of similar length share a bucket, each bucket is shuffled
and cut into batches of so many seconds of audio, and the batches are shuffled. So a resumed run needs no state but
its step number.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from asr.backbones import Batch
from asr.corpora import Utterance, read_audio
from asr.features import FeatureExtractor, WaveformExtractor, perturb_speed
from common.files import read_json


@dataclasses.dataclass(frozen=True)
class Example:
    """An utterance at a speed, with its number of frames and its token ids (None: unlabelled)."""

    utterance: Utterance
    speed: float
    frames: int
    tokens: tuple[int, ...] | None


class SpeechSet:
    """The utterances of a set as examples, with features read from the store or computed from audio. `normaliser` is
    applied to the features of a batch.

    `store` is the prefix of `<store>.npy` and `<store>.json` written by `prepare`; None: compute on `device`.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        extractor: FeatureExtractor | WaveformExtractor,
        normaliser: Callable[[torch.Tensor], torch.Tensor],
        store: Path | None = None,
    ):
        self.examples = list(examples)
        self.extractor = extractor
        self.normaliser = normaliser
        self.stored = None
        if store is not None:
            self.stored = np.load(store.with_suffix(".npy"), mmap_mode="r")
            self.places = {(i, s): (start, n) for i, s, start, n in read_json(store.with_suffix(".json"))["utterances"]}

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices: Sequence[int], device: torch.device, labelled: bool = True) -> Batch:
        """Pad the examples with these indices into one batch on `device`."""
        examples = [self.examples[index] for index in indices]
        inputs, lengths = self._features(examples, device)
        ids = tuple(example.utterance.id for example in examples)
        if not labelled or any(example.tokens is None for example in examples):
            return Batch(ids, inputs, lengths.to(device))
        tokens = [torch.tensor(example.tokens, dtype=torch.long) for example in examples]
        targets = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)
        target_lengths = torch.tensor([len(row) for row in tokens])
        return Batch(ids, inputs, lengths.to(device), targets.to(device), target_lengths.to(device))

    def order(
        self, batch_seconds: float, buckets: int = 1, seed: int = 0, batch_utterances: int | None = None
    ) -> "BatchOrder":
        """The batch order of these examples, `batch_seconds` of audio a batch, or `batch_utterances` examples."""
        frames = [example.frames for example in self.examples]
        return BatchOrder(frames, batch_seconds * self.extractor.frames_per_second, buckets, seed, batch_utterances)

    def _features(self, examples: list[Example], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if self.stored is not None:
            rows = []
            for example in examples:
                start, frames = self.places[example.utterance.id, example.speed]
                rows.append(torch.from_numpy(self.stored[start : start + frames].copy()))
            features = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
            lengths = torch.tensor([len(row) for row in rows])
        else:
            waveforms = [
                torch.from_numpy(perturb_speed(read_audio(e.utterance), e.utterance.sampling_rate, e.speed))
                for e in examples
            ]
            padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True).to(device)
            features, lengths = self.extractor(padded, [len(waveform) for waveform in waveforms])
        return self.normaliser(features), lengths


class BatchOrder:
    """Which examples form which batch, for each epoch."""

    def __init__(
        self,
        frames: Sequence[int],
        batch_frames: float,
        buckets: int,
        seed: int,
        batch_utterances: int | None = None,
    ):
        """`frames` of each example; `batch_frames` is the most a padded batch may hold (one longer example may exceed
        it). With `batch_utterances` a batch holds so many examples instead, whatever their length."""
        self.frames = list(frames)
        self.batch_frames = batch_frames
        self.batch_utterances = batch_utterances
        self.seed = seed
        by_length = sorted(range(len(self.frames)), key=lambda index: (self.frames[index], index))
        size = max(1, -(-len(by_length) // buckets))
        self.buckets = [by_length[start : start + size] for start in range(0, len(by_length), size)]

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of an epoch, as lists of example indices."""
        generator = random.Random(f"{self.seed} {number}")
        batches = []
        for bucket in self.buckets:
            shuffled = generator.sample(bucket, len(bucket))
            batches += self._cut(shuffled)
        generator.shuffle(batches)
        return batches

    def in_order(self) -> list[list[int]]:
        """All examples once, by length, without shuffling: for evaluation."""
        return self._cut([index for bucket in self.buckets for index in bucket])

    def _cut(self, indices: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        longest = 0
        for index in indices:
            longest = max(longest, self.frames[index])
            if not batches or self._is_full(longest, len(batches[-1])):
                batches.append([])
                longest = self.frames[index]
            batches[-1].append(index)
        return batches

    def _is_full(self, longest: int, count: int) -> bool:
        """Whether a batch of `count` examples takes no other, when the longest would then have `longest` frames."""
        if self.batch_utterances is not None:
            return count == self.batch_utterances
        return longest * (count + 1) > self.batch_frames

    def largest(self) -> list[int]:
        """The batch in order of length that holds most, padding counted; of equals the last."""
        return max(reversed(self.in_order()), key=lambda batch: len(batch) * max(self.frames[index] for index in batch))

    def endless(self, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[list[int]]:
        """Batches from number `start` of this rank on, epoch after epoch. Ranks take turns and get equally many."""
        epoch = 0
        skip = start
        while True:
            batches = self.epoch(epoch)
            mine = batches[rank::world][: len(batches) // world] if world > 1 else batches
            if not mine:  # fewer batches than devices: every rank takes the same ones
                mine = batches
            if skip < len(mine):
                yield from mine[skip:]
                skip = 0
            else:
                skip -= len(mine)
            epoch += 1
