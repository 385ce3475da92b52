"""A corpus as a user would add one: WAV files and a table of transcripts in a folder. The checks are tried on it."""

from pathlib import Path

from asr.corpora import Utterance
from common.settings import Settings as Strict


class Settings(Strict):
    """The folder, and the sampling rate that its files are declared to have (Hz)."""

    folder: Path
    sampling_rate: int = 8000


def prepare(settings, entry, folder):
    """Each line of `<set>.txt` is: file name, speaker, seconds, transcript, separated by tabs."""
    sets = {}
    for table in sorted(settings.folder.glob("*.txt")):
        rows = [line.split("\t") for line in table.read_text().splitlines()]
        sets[table.stem] = [
            Utterance(
                f"{speaker}-{Path(name).stem}",
                settings.folder / name,
                settings.sampling_rate,
                float(seconds),
                speaker,
                text,
            )
            for name, speaker, seconds, text in rows
        ]
    return sets
