"""LibriSpeech (or mini LibriSpeech) from a local folder, through lhotse's recipe. Nothing is copied or downloaded.

Why: the papers' own corpora are read by recipes that others maintain; here they only become the sets of an
experiment. The audio stays where it is; the manifests name it by its absolute path.

    python -m asr.corpora librispeech --out results/data/librispeech --settings '{"folder": "/data/LibriSpeech"}'
"""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from asr.corpora.settings import FurtherSetNames, TestSetNames
from asr.corpora.utterances import Utterance, open_audio
from common.errors import UserError, unknown
from common.settings import Settings as Strict

Parts = Annotated[tuple[str, ...], Field(min_length=1)]


class Settings(Strict):
    """Settings of the corpus: the folder that holds `train-clean-100`, `dev-clean` and so on, and which of these parts
    form which set. `further_sets` may name parts of dev and test sets again, to be scored on their own too. `lowercase`
    turns the transcripts, printed in capitals, to lower case."""

    folder: Path
    sampling_rate: int = Field(16000, ge=4000, le=48000)
    lowercase: bool = True
    train: Parts = ("train-clean-100",)
    dev: Parts = ("dev-clean", "dev-other")
    test_sets: Annotated[dict[str, Parts], TestSetNames] = Field(
        {"test_clean": ("test-clean",), "test_other": ("test-other",)}, validate_default=True
    )
    further_sets: Annotated[dict[str, Parts], FurtherSetNames] = {}
    workers: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _each_name_once(self) -> "Settings":
        for name in self.further_sets:
            if name in self.test_sets:
                raise ValueError(f"further_sets: '{name}' is a test set already")
        return self


def prepare(settings: Settings, entry, folder: Path) -> dict[str, list[Utterance]]:
    """The utterances by set name. `entry` tells where the data set can be had; nothing is written below `folder`.

    Raises `UserError` when the folder, one of its parts, or the audio of a transcript is missing.
    """
    sets = _sets(settings)
    named = _parts(settings)
    _check_folder(settings.folder, named, entry)
    read = {part: _read_part(part, settings) for part in named}
    return {name: [each for part in parts for each in read[part]] for name, parts in sets.items()}


def check_source(settings: Settings, entry) -> int:
    """Bytes of the parts that are named. Raises `UserError` when one is missing, or its files cannot be read."""
    named = _parts(settings)
    _check_folder(settings.folder, named, entry)
    found = 0
    for part in named:
        for path in (settings.folder / part).rglob("*"):
            if path.is_file():
                if not os.access(path, os.R_OK):
                    raise UserError(f"{path}: cannot be read; give yourself the right to")
                found += path.stat().st_size
    return found


def _sets(settings: Settings) -> dict[str, Parts]:
    return {"train": settings.train, "dev": settings.dev, **settings.test_sets, **settings.further_sets}


def _parts(settings: Settings) -> list[str]:
    return sorted({part for parts in _sets(settings).values() for part in parts})


def _check_folder(folder: Path, parts: list[str], entry) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder (setting 'folder'); fetch LibriSpeech from {entry.url} and name it")
    present = [path.name for path in folder.iterdir() if path.is_dir()]
    for part in parts:
        if part not in present:
            raise unknown("part of LibriSpeech", part, present, str(folder))


def _read_part(part: str, settings: Settings) -> list[Utterance]:
    """One part in the order of its utterances' ids."""
    from lhotse.recipes.librispeech import prepare_librispeech  # imports torch: only where the recipe is run

    _check_files(settings.folder / part)
    try:
        manifests = prepare_librispeech(
            settings.folder,
            dataset_parts=[part],
            normalize_text="lower" if settings.lowercase else "none",
            num_jobs=settings.workers,
        )[part]
    except (ValueError, OSError, AssertionError) as error:
        problem = str(error).partition("\n")[0]
        raise UserError(f"{settings.folder / part}: cannot be read as a part of LibriSpeech ({problem})") from error
    audio = {recording.id: Path(recording.sources[0].source).resolve() for recording in manifests["recordings"]}
    utterances = [
        Utterance(each.id, audio[each.id], settings.sampling_rate, each.duration, str(each.speaker), each.text)
        for each in sorted(manifests["supervisions"], key=lambda supervision: supervision.id)
    ]
    return utterances


def _check_files(folder: Path) -> None:
    """Raise `UserError` for a transcript that is empty or whose audio cannot be read.

    The recipe leaves such utterances out with no more than a log line, or fails without naming them.
    """
    for path in sorted(folder.rglob("*.trans.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            name, _, text = line.partition(" ")
            if not text.strip():
                raise UserError(f"{path}: line {number}: utterance {name}: the transcript is empty; give its words")
            audio = path.with_name(f"{name}.flac")
            open_audio(audio, f"{audio}: utterance {name}").close()
