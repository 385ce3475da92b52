"""Kaldi data folders: `wav.scp` and `text`, `utt2spk` and `segments` where they are there.

Nothing is run: a line of `wav.scp` that is a command (it ends with `|`) is refused, for a corpus that one is given
could otherwise do on this machine what it likes.
"""

import re
from pathlib import Path

from asr.corpora.folder.items import Item, audio_path, composed
from asr.corpora.folder.settings import Settings
from common.errors import UserError

FILES = ("wav.scp", "text", "utt2spk", "segments")
"""What is read of a data folder."""
Lines = dict[str, tuple[str, str]]
"""Key -> (file and line, what stands behind the key)."""


def is_kaldi(path: Path) -> bool:
    """Whether a path is a Kaldi data folder."""
    return (path / "wav.scp").is_file()


def read_kaldi(folder: Path, settings: Settings) -> list[Item]:
    """The utterances of a data folder, in the order of `segments` or `wav.scp`. An utterance without a line in `text`
    has an empty transcript.

    Raises `UserError` naming file and line.
    """
    listed = _read(folder / "wav.scp")
    audio = {key: (where, _audio(where, value, settings, folder)) for key, (where, value) in listed.items()}
    texts, speakers = _read(folder / "text"), _speakers(folder)
    segmented = (folder / "segments").is_file()
    stretches = _segments(folder / "segments", audio) if segmented else {key: (*audio[key], 0.0, None) for key in audio}
    for key, (where, _) in texts.items():
        if key not in stretches:
            raise UserError(f"{where}: utterance '{key}' is not in {'segments' if segmented else 'wav.scp'}")
    items = []
    for key, (where, path, start, seconds) in stretches.items():
        if speakers is not None and key not in speakers:
            raise UserError(f"{where}: utterance '{key}' is not in utt2spk; name its speaker, or remove utt2spk")
        text = composed(texts[key][1]) if key in texts else ""
        items.append(Item(where, composed(key), path, text, speakers[key] if speakers else "", start, seconds))
    return items


def _read(path: Path) -> Lines:
    found: Lines = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a Kaldi data folder has it") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            key, *rest = line.strip().split(None, 1)
            if key in found:
                raise UserError(f"{path}: line {number}: '{key}' comes a second time")
            found[key] = (f"{path}: line {number}", rest[0].strip() if rest else "")
    return found


def _audio(where: str, value: str, settings: Settings, folder: Path) -> Path:
    if value.endswith("|"):
        raise UserError(
            f"{where}: is a command ('{value[:40]}…'), and commands of a corpus are not run; write what it gives to "
            "files and name these"
        )
    if not value:
        raise UserError(f"{where}: names no recording")
    if re.search(r":\d+$", value):
        raise UserError(f"{where}: {value} is a place in a Kaldi archive, which is not read; name audio files")
    return audio_path(value, settings.audio_folder, folder)


def _speakers(folder: Path) -> dict[str, str] | None:
    """utt2spk, or None: nobody says who speaks where it is missing, or where, as Kaldi writes it then, every utterance
    is a speaker of its own."""
    if not (folder / "utt2spk").is_file():
        return None
    found = _read(folder / "utt2spk")
    for where, speaker in found.values():
        if not speaker:
            raise UserError(f"{where}: names no speaker")
    return (
        None
        if all(key == speaker for key, (_, speaker) in found.items())
        else {key: composed(speaker) for key, (_, speaker) in found.items()}
    )


def _segments(path: Path, audio: dict[str, tuple[str, Path]]) -> dict[str, tuple[str, Path, float, float | None]]:
    """Utterance -> where, recording, start and length in seconds; an end of -1 is that of the recording."""
    found = {}
    for key, (where, value) in _read(path).items():
        try:
            recording, begin, until = value.split()
            start, end = float(begin), float(until)
            whole = end == -1
            if not (start >= 0 and (whole or start < end < float("inf"))):
                raise ValueError
        except ValueError:
            raise UserError(f"{where}: '{value}' is not a recording, its start and its end in seconds") from None
        if recording not in audio:
            raise UserError(f"{where}: recording '{recording}' is not in wav.scp")
        found[key] = (where, audio[recording][1], start, None if whole else end - start)
    return found
