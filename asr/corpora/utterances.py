"""One utterance and its samples, with the checks that bad audio and bad transcripts need.

Why here: a corpus is made by one command and read by many later ones. Whatever is wrong with a recording must be said
once, clearly, with the file, the utterance and what to do, wherever it is met first.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from common.errors import UserError

AGAIN = "restore the file, or prepare the corpus again"
_said: set[tuple[int, int]] = set()


@dataclass(frozen=True)
class Utterance:
    """A stretch of one channel of an audio file, and what is said in it.

    `id` starts with `<speaker>-`, as NIST's tools expect; an empty `speaker` is one that nobody names. `seconds` is the
    length of the stretch and `start` where it begins in the file; `sampling_rate` (Hz) is the rate at which
    `read_audio` returns the samples.
    """

    id: str
    audio: Path
    sampling_rate: int
    seconds: float
    speaker: str
    text: str
    start: float = 0.0
    channel: int = 0

    @property
    def samples(self) -> int:
        """The number of samples at `sampling_rate`."""
        return round(self.seconds * self.sampling_rate)

    @property
    def words(self) -> list[str]:
        """The words of the transcript."""
        return self.text.split()


def read_audio(utterance: Utterance) -> np.ndarray:
    """The samples of one utterance: float32 of shape (samples,), full scale 1, at the utterance's sampling rate.

    A file with another rate than declared is resampled, which is said once on standard error. Raises `UserError` for a
    file that is missing, empty, unreadable, shorter than declared, or holds NaN or infinite samples.
    """
    where = f"{utterance.audio}: utterance {utterance.id}"
    with open_audio(utterance.audio, where) as file:
        rate = file.samplerate
        wanted = round(utterance.seconds * rate)
        try:
            file.seek(round(utterance.start * rate))
            samples = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:  # seeking past the end, or a broken frame
            samples = np.zeros((0, file.channels), np.float32)
    if len(samples) < wanted:
        raise UserError(f"{where}: the file is truncated ({len(samples)} of {wanted} samples); {AGAIN}")
    if utterance.channel >= samples.shape[1]:
        raise UserError(f"{where}: the file has {samples.shape[1]} channel(s), no channel {utterance.channel}")
    samples = samples[:, utterance.channel]
    check_finite(samples, where)
    if rate != utterance.sampling_rate:
        from asr.corpora.acoustics import change_rate  # scipy: not for the many commands that resample nothing

        say_resampled(utterance.audio, rate, utterance.sampling_rate)
        samples = fit(change_rate(samples, rate, utterance.sampling_rate), utterance.samples)
    return np.ascontiguousarray(samples)


def open_audio(path: Path, where: str) -> soundfile.SoundFile:
    """Open an audio file. Raises `UserError`, beginning with `where`, when it is missing, empty or not audio."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{where}: there is no such audio file; {AGAIN}")
    if path.stat().st_size == 0:
        raise UserError(f"{where}: the audio file is empty; {AGAIN}")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{where}: not an audio file that can be read ({error}); {AGAIN}") from None
    if file.frames == 0:
        file.close()
        raise UserError(f"{where}: the audio file is empty (no samples); {AGAIN}")
    return file


def check_utterance(utterance: Utterance) -> int:
    """Check one utterance without decoding all of it, and return the sampling rate of its file.

    Looks at the transcript, the header, the last sample of the stretch (where a truncated file fails), and, in formats
    that can hold NaN, at every sample. Raises `UserError`.
    """
    where = f"{utterance.audio}: utterance {utterance.id}"
    if not utterance.words:
        raise UserError(f"{where}: the transcript is empty; give its words or leave the utterance out of the corpus")
    with open_audio(utterance.audio, where) as file:
        rate = file.samplerate
        first, wanted = round(utterance.start * rate), round(utterance.seconds * rate)
        present = min(file.frames - first, wanted)
        whole = file.subtype in ("FLOAT", "DOUBLE")
        try:
            file.seek(first + wanted - 1)
            present = present if len(file.read(1)) else min(present, wanted - 1)
        except soundfile.LibsndfileError:
            present = min(present, wanted - 1)
    if present < wanted:
        raise UserError(f"{where}: the file is truncated ({max(present, 0)} of {wanted} samples); {AGAIN}")
    if whole:
        read_audio(utterance)
    return rate


def check_finite(samples: np.ndarray, where: str) -> None:
    """Raise `UserError` when a sample is NaN or infinite."""
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise UserError(f"{where}: sample {first} is NaN or infinite; repair the recording or leave the utterance out")


def begin_corpus() -> None:
    """Another corpus begins: what is said once per corpus may be said again."""
    _said.clear()


def say_resampled(path: Path, rate: int, declared: int) -> None:
    """Say on standard error, once per corpus and pair of rates, that recordings are resampled."""
    if (rate, declared) not in _said:
        _said.add((rate, declared))
        print(f"note: {path} has {rate} Hz, not the declared {declared} Hz: such files are resampled", file=sys.stderr)


def fit(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-pad to `length` samples: resampling rounds the length."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
