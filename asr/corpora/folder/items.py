"""What a source says of one utterance, before anything is known of its audio."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One utterance: a recording or a stretch of it, what is said, and by whom (empty: nobody says).

    `where` is the file and line that name it. `seconds` is None for a recording to its end, `channel` None where the
    corpus's setting decides.
    """

    where: str
    name: str
    audio: Path
    text: str
    speaker: str
    start: float = 0.0
    seconds: float | None = None
    channel: int | None = None


def composed(text: str) -> str:
    """A transcript or name in Unicode's normal form C: what looks the same is the same. Nothing else is done to it."""
    return unicodedata.normalize("NFC", text)


def audio_path(name: str, audio_folder: Path | None, beside: Path) -> Path:
    """Where a recording lies: below `audio_folder`, which itself may count from `beside`, the folder of the file that
    names it; an absolute path stays as it is."""
    return beside / (audio_folder or "") / name
