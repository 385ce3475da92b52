"""The examples of a set in little memory, however large the corpus: a few numbers of each are held, and what is said,
by whom, and where the recording lies stand in a file without a name, read when a batch asks for it.

Processes that read batches share the file; it goes with the last of them, also when they are killed.
"""

import dataclasses
import os
import pickle
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

import numpy as np

from asr.backbones import frames_needed
from asr.corpora import Utterance


@dataclasses.dataclass(frozen=True)
class Example:
    """An utterance at a speed, with the frames that it gives at that speed and its token ids (None: unlabelled)."""

    utterance: Utterance
    speed: float
    frames: int
    tokens: tuple[int, ...] | None


class Wanted(NamedTuple):
    """One example as the process that reads it is asked for it: where its row stands in the file, in bytes, and where
    its features begin in the store, in frames (-1: not stored)."""

    start: int
    size: int
    speed: float
    frames: int
    stored: int


class Rows:
    """Utterances with their tokens, one after the other in a file without a name."""

    def __init__(self, descriptor: int | None = None):
        self.file = os.fdopen(descriptor, "rb") if descriptor is not None else tempfile.TemporaryFile()  # noqa: SIM115

    def append(self, utterance: Utterance, tokens: tuple[int, ...] | None) -> int:
        """Write one row and return its size in bytes."""
        return self.file.write(pickle.dumps((utterance, tokens)))

    def read(self, start: int, size: int) -> tuple[Utterance, tuple[int, ...] | None]:
        """The row of so many bytes that begins there. Several processes may read at once."""
        return pickle.loads(os.pread(self.file.fileno(), size, start))

    def __reduce__(self) -> tuple[Any, ...]:
        """To a process that is being started: the open file, nothing of what it holds."""
        return _received, (DupFd(self.file.fileno()),)


def _received(duplicate: Any) -> Rows:
    return Rows(duplicate.detach())


class Examples(Sequence[Example]):
    """Examples in their order. Those of one utterance at several speeds, one after the other, share its row."""

    def __init__(self, examples: Iterable[Example] = ()):
        self.rows = Rows()
        starts, sizes, speeds, frames, needed = array("q"), array("i"), array("d"), array("q"), array("i")
        start, size, last = 0, 0, None
        for example in examples:
            if example.utterance is not last:
                start, size = start + size, self.rows.append(example.utterance, example.tokens)
                last = example.utterance
            starts.append(start)
            sizes.append(size)
            speeds.append(example.speed)
            frames.append(example.frames)
            needed.append(frames_needed(example.tokens or ()))
        self.rows.file.flush()
        self.starts, self.sizes, self.speeds = np.asarray(starts), np.asarray(sizes), np.asarray(speeds)
        self.frames, self.needed = np.asarray(frames), np.asarray(needed)
        """Frames of each example, and the frames that CTC needs for its labels."""
        self.stored = np.full(len(starts), -1)
        """Where the features of each begin in the store, in frames."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Example:
        utterance, tokens = self.rows.read(int(self.starts[index]), int(self.sizes[index]))
        return Example(utterance, float(self.speeds[index]), int(self.frames[index]), tokens)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """Those with these indices, or of which a mask says so, in the order given."""
        taken = object.__new__(Examples)
        taken.rows = self.rows
        for name in ("starts", "sizes", "speeds", "frames", "needed", "stored"):
            setattr(taken, name, getattr(self, name)[np.asarray(indices, dtype=None if len(indices) else int)])
        return taken

    def wanted(self, indices: Sequence[int]) -> list[Wanted]:
        """What a process is told that is to read these."""
        columns = (self.starts, self.sizes, self.speeds, self.frames, self.stored)
        return [Wanted(*row) for row in zip(*(column[indices].tolist() for column in columns), strict=True)]
