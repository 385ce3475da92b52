"""Speakers recorded under drawn conditions: the part that every corpus made here shares.

One task is one speaker of one set. Every utterance has a random generator of its own, seeded by (seed, set, speaker,
number), so it depends neither on the other utterances nor on the number of processes.
"""

import io
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.corpora.acoustics import Acoustics, record
from asr.corpora.settings import Size
from asr.corpora.utterances import Utterance

# Given a generator: what is said, and its samples (float32, one channel) at the speaker's own sampling rate.
Say = Callable[[np.random.Generator], tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Task:
    """What one speaker says in one set: so many `utterances`, or as many as fill `seconds`."""

    set_name: str
    speaker: str
    utterances: int | None
    seconds: float | None
    acoustics: Acoustics
    sampling_rate: int
    seed: int
    folder: Path

    def is_done(self, made: list[Utterance]) -> bool:
        """Whether that is enough; with `seconds`, the last utterance may end as far behind them as before them."""
        if self.utterances is not None:
            return len(made) >= self.utterances
        return bool(made) and sum(each.seconds for each in made) + made[-1].seconds / 2 >= self.seconds


def share_out(set_name: str, size: Size, speakers: Iterable[str], **common) -> list[Task]:
    """One task for each speaker who has something to say; `common` are the fields that all tasks share."""
    speakers = list(speakers)
    parts = zip(speakers, size.share(len(speakers)), strict=True)
    return [Task(set_name, speaker, *part, **common) for speaker, part in parts if part[0] != 0]


def simulate(task: Task, say: Say, rate: int) -> list[Utterance]:
    """Record what a speaker says, at `rate` Hz, into `audio/<set>/` below the task's folder (16-bit WAV).

    WAV: of the lossless formats it is the fastest to read, and its bytes do not depend on an encoder's version.
    """
    folder = task.folder / "audio" / task.set_name
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Utterance] = []
    while not task.is_done(made):
        name = f"{task.speaker}-{task.set_name}-{len(made):05d}"
        rng = np.random.default_rng([task.seed, zlib.crc32(name.encode())])
        text, speech = say(rng)
        samples = record(speech, rate, task.sampling_rate, task.acoustics, rng)
        path = folder / f"{name}.wav"
        write_audio(path, samples, task.sampling_rate)
        made.append(Utterance(name, path, task.sampling_rate, len(samples) / task.sampling_rate, task.speaker, text))
    return made


def write_audio(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write float samples of full scale 1 as a 16-bit WAV file."""
    buffer = io.BytesIO()  # libsndfile would wait for the disk after every file
    integers = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    soundfile.write(buffer, integers, rate, format="WAV", subtype="PCM_16")
    path.write_bytes(buffer.getvalue())


def by_set(results: Iterable[list[Utterance]], tasks: Iterable[Task]) -> dict[str, list[Utterance]]:
    """The utterances of all tasks, by set, in the order of the tasks."""
    sets: dict[str, list[Utterance]] = {}
    for task, made in zip(tasks, results, strict=True):
        sets.setdefault(task.set_name, []).extend(made)
    return sets
