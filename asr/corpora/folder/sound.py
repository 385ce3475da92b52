"""Recordings of any usual kind: what libsndfile reads (wav, flac, mp3, ogg and others), and through FFmpeg's libraries
(the package `av`) the rest, m4a above all.

Training reads a file many times, and parts of it at any place. So a compressed recording, one of another rate, or
several channels that are averaged become 16-bit WAV files once. WAV and FLAC of the right rate stay where they are.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.corpora.acoustics import change_rate
from asr.corpora.simulation import write_audio
from asr.corpora.utterances import AGAIN, check_finite, open_audio
from common.errors import UserError

STAYS = ("WAV", "WAVEX", "FLAC")
PACKET_SAMPLES = 2400
"""By so much less than announced a compressed recording may have: encoders pad to whole packets."""
UNKNOWN_BYTES = (0x7FFFF000, 0xFFFFFFFF)
"""What stands for the length of a WAV file whose writer could not go back to say it: SoX's, and that of others. (With 0
libsndfile sees an empty file.)"""


@dataclass(frozen=True)
class Sound:
    """What a recording's header says. `stays`: it can be read a part at a time, any number of times."""

    seconds: float
    sampling_rate: int
    channels: int
    stays: bool


@dataclass(frozen=True)
class Stretch:
    """What is to be written of a recording: from `start` on, `seconds` long (None: to its end), one channel or (None)
    the mean of all."""

    where: str
    start: float
    seconds: float | None
    channel: int | None
    out: Path


def look(path: Path, where: str) -> Sound:
    """What the header says. Raises `UserError`, beginning with `where`, for a file that is no recording, or a WAV file
    that holds less than it says."""
    if _is_for_libsndfile(path):
        with open_audio(path, where) as file:
            if file.format in ("WAV", "WAVEX"):
                _check_whole(path, where)
            return Sound(file.frames / file.samplerate, file.samplerate, file.channels, file.format in STAYS)
    import av

    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container)
            length = container.duration / av.time_base if container.duration else 0.0
            return Sound(length, stream.rate, stream.channels, False)
    except (av.FFmpegError, ValueError) as error:
        raise UserError(_unreadable(path, where, error)) from None


def _check_whole(path: Path, where: str) -> None:
    """Raise `UserError` where a WAV file ends before its chunk `data` does: libsndfile takes what is there for all."""
    with path.open("rb") as file:
        order = ">" if file.read(12).startswith(b"RIFX") else "<"
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack(f"{order}4sI", header)
            if name == b"data":
                present = path.stat().st_size - file.tell()
                if present < size and size not in UNKNOWN_BYTES:
                    raise UserError(f"{where}: {path} is truncated ({present} of {size} bytes of samples); {AGAIN}")
                return
            file.seek(size + size % 2, 1)


def convert(path: Path, stretches: list[Stretch], rate: int) -> list[float]:
    """Write stretches of one recording as 16-bit WAV of `rate` Hz and one channel; their lengths in seconds.

    Raises `UserError` naming the recording: it cannot be read, ends before a stretch does, lacks the channel, or holds
    what is no number.
    """
    found = []
    part_of = _parts(path, stretches[0].where)
    for each in stretches:
        samples, recorded = part_of(each)
        if each.channel is None:
            samples = samples.mean(axis=1)
        else:
            check_channel(path, each.where, samples.shape[1], each.channel)
            samples = samples[:, each.channel]
        check_finite(samples, f"{each.where}: {path}")
        samples = change_rate(samples, recorded, rate)
        each.out.parent.mkdir(parents=True, exist_ok=True)
        write_audio(each.out, samples, rate)
        found.append(len(samples) / rate)
    return found


def _parts(path: Path, where: str) -> Callable[[Stretch], tuple[np.ndarray, int]]:
    """What reads a stretch: samples (samples, channels) and their rate. Hours of WAV are not read for a minute of them;
    compressed recordings are, once."""
    if look(path, where).stays:
        return lambda stretch: _read(path, stretch.where, stretch.start, stretch.seconds)
    whole, rate = _read(path, where)

    def part(stretch: Stretch) -> tuple[np.ndarray, int]:
        first = round(stretch.start * rate)
        wanted = len(whole) - first if stretch.seconds is None else round(stretch.seconds * rate)
        return _enough(whole[first : first + wanted], wanted, path, stretch.where), rate

    return part


def _enough(samples: np.ndarray, wanted: int, path: Path, where: str) -> np.ndarray:
    if len(samples) < max(1, wanted):
        raise UserError(
            f"{where}: {path} is truncated, or ends before the utterance does ({len(samples)} of {wanted} samples); "
            f"{AGAIN}"
        )
    return samples


def check_channel(path: Path, where: str, channels: int, wanted: int) -> None:
    """Raise `UserError` where a recording lacks the wanted channel. One that has a single channel has channel 0."""
    if wanted >= channels:
        raise UserError(f"{where}: {path} has {channels} channel(s), no channel {wanted}; set channel to another one")


def _is_for_libsndfile(path: Path) -> bool:
    """Whether libsndfile opens it; also for a file that is missing or empty, which `open_audio` says clearly."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    try:
        soundfile.SoundFile(path).close()
    except (soundfile.LibsndfileError, OSError):
        return False
    return True


def _read(path: Path, where: str, start: float = 0.0, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Samples (samples, channels), float32 of full scale 1, from `start` on, and their rate in Hz."""
    if not _is_for_libsndfile(path):
        return _read_by_ffmpeg(path, where)
    with open_audio(path, where) as file:
        rate, first = file.samplerate, round(start * file.samplerate)
        wanted = file.frames - first if seconds is None else round(seconds * rate)
        try:
            file.seek(min(first, file.frames))
            samples = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(_unreadable(path, where, error)) from None
        allowed = 0 if file.format in STAYS else PACKET_SAMPLES
    return _enough(samples, wanted - allowed, path, where), rate


def _read_by_ffmpeg(path: Path, where: str) -> tuple[np.ndarray, int]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container)
            floats = av.AudioResampler(format="fltp")  # layout and rate stay
            frames = [floats.resample(frame) for frame in container.decode(stream)] + [floats.resample(None)]
            pieces = [frame.to_ndarray() for group in frames for frame in group]
            rate = stream.rate
    except (av.FFmpegError, ValueError) as error:
        raise UserError(_unreadable(path, where, error)) from None
    if not pieces:
        raise UserError(f"{where}: {path} holds no samples; {AGAIN}")
    return np.concatenate(pieces, axis=1).T.astype(np.float32), rate


def _audio_stream(container):
    if not container.streams.audio:
        raise ValueError("it holds no sound")
    return container.streams.audio[0]


def _unreadable(path: Path, where: str, error: Exception) -> str:
    problem = str(error).partition("\n")[0]
    return f"{where}: {path} cannot be read as a recording ({problem}); convert it to wav or flac, or leave it out"
