"""Real speech: digit strings joined from recordings of the Free Spoken Digit Dataset.

Why: single digits are no speech recognition; strings of them, spoken by one person with short pauses between, are,
and real recordings show what synthetic ones hide. A take (a speaker's n-th recording of a digit) belongs to one
split only: test 0-4 (the data set's own split), dev 5-9, training 10-49. Rooms and noise come on top, as in
`synth`.

The archive is checked by content: each of the 3000 recordings against `fsdd_sha256.txt`, because archives get
re-packed.

    python -m asr.corpora fsdd --out /tmp/fsdd --settings '{"train": {"utterances": 300}}'
"""

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import soundfile
from pydantic import Field, model_validator

from asr.corpora.acoustics import Acoustics, trim
from asr.corpora.archives import archive_here, find_archive, read_members
from asr.corpora.grammar import DIGITS
from asr.corpora.parallel import map_tasks
from asr.corpora.settings import IntRange, Range, Size, TestSetNames, set_sizes
from asr.corpora.simulation import Task, by_set, share_out, simulate
from asr.corpora.utterances import Utterance, check_finite
from common.errors import UserError
from common.settings import Settings as Strict

HASHES = Path(__file__).with_name("fsdd_sha256.txt")
RATE = 8000
TAKES = {"test": range(5), "dev": range(5, 10), "train": range(10, 50)}


class SetSettings(Size):
    """One set: its size, and what differs from the corpus (only the named ranges of `acoustics` change)."""

    acoustics: Acoustics | None = None
    words: IntRange | None = None


class Settings(Strict):
    """Settings of the corpus. `words` is the least and the greatest number of digits in an utterance,
    `pause_seconds` the length of the silences between them; `archive` is used instead of the register's
    archives."""

    seed: int = Field(0, ge=0)
    archive: Path | None = None
    sampling_rate: int = Field(RATE, ge=4000, le=48000)
    words: IntRange = (1, 7)
    pause_seconds: Range = (0.02, 0.2)
    acoustics: Acoustics = Acoustics()
    train: SetSettings = SetSettings(utterances=3000)
    dev: SetSettings = SetSettings(utterances=200)
    test_sets: Annotated[dict[str, SetSettings], TestSetNames] = Field(
        {"test": SetSettings(utterances=600)}, validate_default=True
    )
    workers: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _possible(self):
        for name, each in set_sizes(self):
            if (each.words or self.words)[0] < 1:
                raise ValueError(f"{name}: an utterance has at least one word")
        if self.pause_seconds[0] < 0:
            raise ValueError("pause_seconds: a pause cannot be shorter than nothing")
        return self


@dataclass(frozen=True)
class Reading:
    """A task, and what its speaker can say: for each digit the recordings of the task's split."""

    task: Task
    takes: tuple[tuple[np.ndarray, ...], ...]
    words: tuple[int, int]
    pause_seconds: tuple[float, float]


def check_source(settings: Settings, entry) -> int | None:
    """Bytes of the archive, None where it is to be downloaded. Raises `UserError` when the configured one is
    missing."""
    archive = archive_here(entry, settings.archive)
    return archive and archive.stat().st_size


def prepare(settings: Settings, entry, folder: Path) -> dict[str, list[Utterance]]:
    """Join and record all sets, writing their audio below `folder`; the utterances by set name.

    `entry` says where the archive is. Raises `UserError` when it cannot be had or is not the data set.
    """
    recordings = read_recordings(find_archive(entry, settings.archive))
    speakers = sorted({speaker for _, speaker, _ in recordings})
    readings = []
    for set_name, one_set in set_sizes(settings):
        takes = TAKES[set_name if set_name in ("train", "dev") else "test"]
        tasks = share_out(
            set_name,
            one_set,
            speakers,
            acoustics=settings.acoustics.overridden_by(one_set.acoustics),
            sampling_rate=settings.sampling_rate,
            seed=settings.seed,
            folder=folder,
        )
        for task in tasks:
            mine = tuple(tuple(recordings[digit, task.speaker, take] for take in takes) for digit in range(10))
            readings.append(Reading(task, mine, one_set.words or settings.words, settings.pause_seconds))
    return by_set(map_tasks(read_out, readings, settings.workers), [reading.task for reading in readings])


def read_out(reading: Reading) -> list[Utterance]:
    """Carry out one task: digit strings of one speaker of one set."""

    def say(rng: np.random.Generator) -> tuple[str, np.ndarray]:
        least, most = reading.words
        digits = rng.integers(10, size=rng.integers(least, most + 1))
        pieces = []
        for digit in digits:
            takes = reading.takes[digit]
            pieces.append(takes[rng.integers(len(takes))])
            pieces.append(np.zeros(round(rng.uniform(*reading.pause_seconds) * RATE), np.float32))
        return " ".join(DIGITS[digit] for digit in digits), np.concatenate(pieces[:-1])

    return simulate(reading.task, say, RATE)


def read_recordings(archive: Path) -> dict[tuple[int, str, int], np.ndarray]:
    """All recordings by (digit, speaker, take): float32 of shape (samples,) at 8 kHz, silence at the ends cut off.

    Raises `UserError` naming the recordings that are missing or differ from the committed hashes.
    """
    expected = read_hashes()
    contents = read_members(archive, lambda name: name.parent.name == "recordings" and name.suffix == ".wav")
    check_content(archive, contents, expected)
    recordings = {}
    for name in expected:
        samples, rate = soundfile.read(io.BytesIO(contents[name]), dtype="float32")
        check_finite(samples, f"{archive}: {name}")
        if rate != RATE or samples.ndim != 1:
            raise UserError(f"{archive}: {name} is not mono at {RATE} Hz")
        digit, speaker, take = PurePosixPath(name).stem.split("_")
        recordings[int(digit), speaker, int(take)] = trim(samples)
    return recordings


def read_hashes() -> dict[str, str]:
    """The SHA-256 of each recording by file name, in base64 without padding, as in the committed list."""
    lines = HASHES.read_text(encoding="ascii").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def content_hash(content: bytes) -> str:
    """The SHA-256 of a recording's bytes as the committed list writes it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def check_content(archive: Path, contents: dict[str, bytes], expected: dict[str, str]) -> None:
    """Raise `UserError` unless each expected recording is there with its bytes; further files do not matter."""
    missing = [name for name in expected if name not in contents]
    differing = [
        name for name, wanted in expected.items() if name in contents and content_hash(contents[name]) != wanted
    ]
    if missing or differing:
        reports = [_report(missing, "missing"), _report(differing, "with other content (wrong checksum)")]
        raise UserError(
            f"{archive}: not the Free Spoken Digit Dataset: of {len(expected)} recordings "
            f"{' and '.join(filter(None, reports))}; fetch the archive again, or name another one (setting 'archive')"
        )


def _report(names: list[str], what: str) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {what} ({shown})" if names else ""
