"""From prepared sets to padded batches on a device.

Batch order is a pure function of (seed, epoch): utterances of similar length share a bucket, each bucket is shuffled
and cut into batches of so many seconds of audio, and the batches are shuffled. So a resumed run needs no state but
its step number.
"""

import contextlib
import dataclasses
import functools
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from asr.backbones import Batch
from asr.corpora import Utterance, read_audio
from asr.examples import Example, Examples, Rows, Wanted
from asr.features import FeatureExtractor, WaveformExtractor, perturb_speed
from asr.portable.masks import before_the_end
from common.errors import UserError
from common.files import read_json

Normalise = Callable[[torch.Tensor], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class StageData:
    """`train(start, rank, world)` yields batches from batch number `start` on; `dev()` yields the validation
    batches."""

    train: Callable[[int, int, int], Iterator[Batch]]
    dev: Callable[[], Iterator[Batch]]


@dataclasses.dataclass(frozen=True)
class Read:
    """A batch as it was read, on the CPU: its features, or, before they are made, the samples of its utterances.

    `inputs` (batch, time, features) or (batch, samples), zero-padded; `lengths` (batch,) in frames or samples,
    whichever it holds; `targets` and `target_lengths` as in a `Batch`.
    """

    ids: tuple[str, ...]
    inputs: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor | None
    target_lengths: torch.Tensor | None
    are_features: bool

    def pin_memory(self) -> "Read":
        """With what goes to the device in memory from which it is copied while the host goes on."""
        targets = None if self.targets is None else self.targets.pin_memory()
        return dataclasses.replace(self, inputs=self.inputs.pin_memory(), targets=targets)


class Store:
    """Features on disk, as `workflows.inputs` writes them: `<prefix>.npy` and, where each utterance at each speed
    stands, `<prefix>.json`. Each process opens the file for itself."""

    def __init__(self, prefix: Path):
        self.prefix = prefix

    @functools.cached_property
    def features(self) -> np.ndarray:
        """(frames, mels) of all utterances, mapped."""
        return np.load(self.prefix.with_suffix(".npy"), mmap_mode="r")

    def places(self, examples: Iterable[Example]) -> np.ndarray:
        """The first frame of each example."""
        listed = read_json(self.prefix.with_suffix(".json"))["utterances"]
        starts = {(utterance, speed): start for utterance, speed, start, _ in listed}
        return np.array([starts.get((each.utterance.id, each.speed), -1) for each in examples], np.int64)

    def __getstate__(self) -> dict[str, Path]:
        return {"prefix": self.prefix}


class Reader:
    """Reads batches, in whatever process: what it holds is small and does not grow with the set.

    Everything is computed with one thread, utterance by utterance, before padding: nothing depends on the process, on
    its threads or on what else is in a batch, and it is faster than in one large block, which leaves the caches.
    """

    def __init__(
        self,
        rows: Rows,
        extractor: FeatureExtractor | WaveformExtractor,
        normaliser: Normalise,
        store: Store | None,
        multiple: int,
    ):
        self.rows, self.store, self.multiple = rows, store, multiple
        self.extractor, self.normaliser = extractor, normaliser

    def read(self, wanted: Sequence[Wanted], labelled: bool, make_features: bool) -> Read:
        """The examples wanted, padded to the longest, or to a multiple of `multiple` frames. Without `make_features`
        log-mel features that are not stored are left to `finish`.

        Raises `UserError` for audio that cannot be read, and for an utterance that gives another number of frames than
        its example says.
        """
        are_features = make_features or self.store is not None or isinstance(self.extractor, WaveformExtractor)
        with _one_thread():
            rows = [self.rows.read(each.start, each.size) for each in wanted]
            inputs = [
                self._input(utterance, each, are_features) for (utterance, _), each in zip(rows, wanted, strict=True)
            ]
            longest = padded_frames(max(1, *(each.frames for each in wanted)), self.multiple)
            time = longest if are_features else self.extractor.most_samples(longest)
            padded = torch.zeros(len(inputs), time, *inputs[0].shape[1:])
            for row, values in zip(padded, inputs, strict=True):
                row[: len(values)] = values
            lengths = torch.tensor([len(values) for values in inputs])
        ids = tuple(utterance.id for utterance, _ in rows)
        targets = target_lengths = None
        if labelled and all(tokens is not None for _, tokens in rows):
            tokens = [torch.tensor(tokens, dtype=torch.long) for _, tokens in rows]
            targets = pad_sequence(tokens, batch_first=True, padding_value=-1)
            target_lengths = torch.tensor([len(row) for row in tokens])
        return Read(ids, padded, lengths, targets, target_lengths, are_features)

    def _input(self, utterance: Utterance, wanted: Wanted, make_features: bool) -> torch.Tensor:
        """(frames, features) of one example, or its samples."""
        if self.store is not None:
            features = self.store.features[wanted.stored : wanted.stored + wanted.frames] if wanted.stored >= 0 else ()
            _check_frames(utterance, wanted, len(features))
            return self.normaliser(torch.tensor(features))
        samples = perturb_speed(read_audio(utterance), utterance.sampling_rate, wanted.speed)
        _check_frames(utterance, wanted, self.extractor.frames(len(samples)))
        waveform = torch.from_numpy(samples)
        if isinstance(self.extractor, WaveformExtractor):
            return self.normaliser(self.extractor.normalise(waveform))
        if not make_features:
            return waveform
        features, _ = self.extractor(waveform[None], [len(waveform)])
        return self.normaliser(features[0, : wanted.frames])

    def finish(self, read: Read, device: torch.device) -> Batch:
        """What was read as a batch on `device`, where features that were not made yet are made. Nothing waits for the
        device; lengths stay on the host."""
        inputs, lengths = read.inputs.to(device, non_blocking=True), read.lengths
        if not read.are_features:
            features, lengths = self.extractor(inputs, lengths.tolist())
            real = before_the_end(lengths, features.size(1), device)
            inputs = torch.where(real[:, :, None], self.normaliser(features), 0.0)
        return Batch(read.ids, inputs, lengths, read.targets, read.target_lengths).to(device)


def _check_frames(utterance: Utterance, wanted: Wanted, frames: int) -> None:
    if frames != wanted.frames:
        raise UserError(
            f"{utterance.audio}: utterance {utterance.id} at speed {wanted.speed:g} gives {frames} frames, not "
            f"{wanted.frames} as its length says; prepare the corpus again"
        )


def padded_frames(longest: int, multiple: int) -> int:
    """Frames to which a batch is padded whose longest utterance has `longest`."""
    return -(-longest // multiple) * multiple


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class SpeechSet:
    """The utterances of a set as examples, with features read from the store or computed from audio. `normaliser` is
    applied to the features of an utterance; padding behind them is zero.

    `store` is the prefix of `<store>.npy` and `<store>.json` written by `prepare`; None: compute them. Batches end at a
    multiple of `pad_to_seconds` (0: where their longest utterance ends).
    """

    def __init__(
        self,
        examples: Iterable[Example],
        extractor: FeatureExtractor | WaveformExtractor,
        normaliser: Normalise,
        store: Path | None = None,
        pad_to_seconds: float = 0.0,
    ):
        self.examples = Examples(examples)
        self.extractor = extractor
        self.stored = None if store is None else Store(store)
        if self.stored is not None:
            self.examples.stored = self.stored.places(self.examples)
        self.multiple = max(1, round(pad_to_seconds * extractor.frames_per_second))
        self.reader = Reader(self.examples.rows, extractor, normaliser, self.stored, self.multiple)

    def __len__(self) -> int:
        return len(self.examples)

    def keep(self, indices: Sequence[int] | np.ndarray) -> None:
        """Keep the examples with these indices (or of which a mask says so), in the order given."""
        self.examples = self.examples.take(indices)

    def batch(self, indices: Sequence[int], device: torch.device, labelled: bool = True) -> Batch:
        """Pad the examples with these indices into one batch on `device`, read here and now; `asr.loader` reads ahead.
        Raises `UserError` as `Reader.read` does."""
        read = self.reader.read(self.examples.wanted(indices), labelled, device.type == "cpu")
        return self.reader.finish(read, device)

    def order(
        self, batch_seconds: float, buckets: int = 1, seed: int = 0, batch_utterances: int | None = None
    ) -> "BatchOrder":
        """The batch order of these examples, `batch_seconds` of audio a batch, or `batch_utterances` examples."""
        batch_frames = batch_seconds * self.extractor.frames_per_second
        return BatchOrder(self.examples.frames, batch_frames, buckets, seed, batch_utterances, self.multiple)

    def round_the_speakers(self) -> list[int]:
        """The indices of all examples, in an order that goes round the speakers."""
        return round_the_speakers(example.utterance for example in self.examples)


class BatchOrder:
    """Which examples form which batch, for each epoch."""

    def __init__(
        self,
        frames: Sequence[int] | np.ndarray,
        batch_frames: float,
        buckets: int,
        seed: int,
        batch_utterances: int | None = None,
        multiple: int = 1,
    ):
        """`frames` of each example; `batch_frames` is the most a batch may hold, padded to a multiple of `multiple`
        frames (one longer example may exceed it). With `batch_utterances` a batch holds so many examples instead,
        whatever their length."""
        self.frames = np.asarray(frames)
        self.batch_frames = batch_frames
        self.batch_utterances = batch_utterances
        self.multiple = multiple
        self.seed = seed
        by_length = np.argsort(self.frames, kind="stable")
        size = max(1, -(-len(by_length) // buckets))
        self.buckets = [by_length[start : start + size] for start in range(0, len(by_length), size)]

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of an epoch, as lists of example indices."""
        generator = random.Random(f"{self.seed} {number}")
        batches = []
        for bucket in self.buckets:
            shuffled = generator.sample(range(len(bucket)), len(bucket))
            batches += self.cut(bucket[shuffled].tolist())
        generator.shuffle(batches)
        return batches

    def in_order(self) -> list[list[int]]:
        """All examples once, by length, without shuffling: for evaluation."""
        return self.cut([index for bucket in self.buckets for index in bucket.tolist()])

    def cut(self, indices: Sequence[int]) -> list[list[int]]:
        """Batches of these examples, in the order given."""
        batches: list[list[int]] = []
        longest = 0
        for index, frames in zip(indices, self.frames[list(indices)].tolist(), strict=True):
            longest = max(longest, frames)
            if not batches or self._is_full(longest, len(batches[-1])):
                batches.append([])
                longest = frames
            batches[-1].append(index)
        return batches

    def _is_full(self, longest: int, count: int) -> bool:
        """Whether a batch of `count` examples takes no other, when the longest would then have `longest` frames."""
        if self.batch_utterances is not None:
            return count == self.batch_utterances
        return padded_frames(longest, self.multiple) * (count + 1) > self.batch_frames

    def size(self, batch: Sequence[int]) -> int:
        """Frames that a batch holds, padding counted."""
        return len(batch) * padded_frames(int(self.frames[list(batch)].max()), self.multiple)

    def largest(self) -> list[int]:
        """The batch in order of length that holds most, padding counted; of equals the last."""
        return max(reversed(self.in_order()), key=self.size)

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


def round_the_speakers(utterances: Iterable[Utterance]) -> list[int]:
    """The indices of all utterances, each speaker's turn coming once a round: any beginning of it holds as many
    speakers as it can, and of each about equally many utterances.

    The order depends on the ids of utterances and speakers alone: leaving one out does not shuffle the others.
    """
    turns = defaultdict(list)
    for _, index, speaker in sorted((_number(each.id), index, each.speaker) for index, each in enumerate(utterances)):
        turns[speaker].append(index)
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
