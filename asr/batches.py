"""From prepared sets to padded batches on a device.

Batch order is a pure function of (seed, epoch): utterances of similar length share a bucket, each bucket is shuffled
and cut into batches of so many seconds of audio, and the batches are shuffled. So a resumed run needs no state but
its step number.
"""

import dataclasses
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch

from asr.backbones import Batch
from asr.corpora import Utterance, read_audio
from asr.features import FeatureExtractor, WaveformExtractor, perturb_speed
from common.errors import UserError
from common.files import read_json


@dataclasses.dataclass(frozen=True)
class Example:
    """An utterance at a speed, with the frames that it gives at that speed and its token ids (None: unlabelled)."""

    utterance: Utterance
    speed: float
    frames: int
    tokens: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class StageData:
    """`train(start, rank, world)` yields batches from batch number `start` on; `dev()` yields the validation
    batches."""

    train: Callable[[int, int, int], Iterator[Batch]]
    dev: Callable[[], Iterator[Batch]]


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
        """Pad the examples with these indices into one batch on `device`. Raises `UserError` for an utterance that
        gives another number of frames than its example says."""
        examples = [self.examples[index] for index in indices]
        inputs, lengths = self._features(examples, device)
        for example, frames in zip(examples, lengths.tolist(), strict=True):
            if frames != example.frames:
                raise UserError(
                    f"{example.utterance.audio}: utterance {example.utterance.id} at speed {example.speed:g} gives "
                    f"{frames} frames, not {example.frames} as its length says; prepare the corpus again"
                )
        ids = tuple(example.utterance.id for example in examples)
        if not labelled or any(example.tokens is None for example in examples):
            return Batch(ids, inputs, lengths)
        tokens = [torch.tensor(example.tokens, dtype=torch.long) for example in examples]
        targets = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)
        target_lengths = torch.tensor([len(row) for row in tokens])
        return Batch(ids, inputs, lengths, targets, target_lengths).to(device)

    def order(
        self, batch_seconds: float, buckets: int = 1, seed: int = 0, batch_utterances: int | None = None
    ) -> "BatchOrder":
        """The batch order of these examples, `batch_seconds` of audio a batch, or `batch_utterances` examples."""
        frames = [example.frames for example in self.examples]
        return BatchOrder(frames, batch_seconds * self.extractor.frames_per_second, buckets, seed, batch_utterances)

    def round_the_speakers(self) -> list[int]:
        """The indices of all examples, in an order that goes round the speakers."""
        return round_the_speakers([example.utterance for example in self.examples])

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
            batches += self.cut(shuffled)
        generator.shuffle(batches)
        return batches

    def in_order(self) -> list[list[int]]:
        """All examples once, by length, without shuffling: for evaluation."""
        return self.cut([index for bucket in self.buckets for index in bucket])

    def cut(self, indices: Sequence[int]) -> list[list[int]]:
        """Batches of these examples, in the order given."""
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


def round_the_speakers(utterances: Sequence[Utterance]) -> list[int]:
    """The indices of all utterances, each speaker's turn coming once a round: any beginning of it holds as many
    speakers as it can, and of each about equally many utterances.

    The order depends on the ids of utterances and speakers alone: leaving one out does not shuffle the others.
    """
    turns = defaultdict(list)
    for index in sorted(range(len(utterances)), key=lambda index: (_number(utterances[index].id), index)):
        turns[utterances[index].speaker].append(index)
    rounds = zip_longest(*(turns[speaker] for speaker in sorted(turns, key=_number)))
    return [index for turn in rounds for index in turn if index is not None]


def _number(name: str) -> bytes:
    """As good as random, and the same everywhere."""
    return hashlib.sha256(name.encode()).digest()


def enough(order: Sequence[int], frames: Sequence[int], wanted: float) -> list[int]:
    """The first of `order`, at least one, that together have the frames that are wanted (all, where they have not), in
    the order of their numbers."""
    total, count = 0, 0
    while count < len(order) and (count == 0 or total < wanted):
        total += frames[order[count]]
        count += 1
    return sorted(order[:count])
