"""What may be said of a corpus of one's own."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from asr.corpora.settings import FurtherSetNames
from common.settings import Settings as Strict

PAIR = {"recordings", "supervisions"}
"""The two manifests of lhotse that together are one source."""
Pair = dict[str, str]
Source = str | Pair


class Columns(Strict):
    """The names of a table's columns. Without a speaker column every utterance stands for itself."""

    audio: str = "audio"
    text: str = "text"
    speaker: str | None = "speaker"


class Splits(Strict):
    """How splits are made where none are given: so many of the speakers are dev and test speakers, as shares of all.
    Who they are follows from their names and `seed` alone."""

    dev: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _something_is_left(self) -> "Splits":
        if self.dev + self.test >= 1:
            raise ValueError(f"dev {self.dev} and test {self.test} leave nothing to train on")
        return self


class Settings(Strict):
    """`source`: a `.csv` or `.tsv` table, a Kaldi data folder, a lhotse manifest (of cuts, or `recordings` and
    `supervisions`), or a folder that holds one of them; splits are then made (`splits`). Given splits are a folder that
    has `train`, `dev` and `test…` sources, or a mapping of these names to sources.

    `audio_folder`: what relative audio paths count from; None: the folder of the table or manifest that names them.
    `channel`: of recordings with several, their average or one of them, from 0 on. `sampling_rate` (Hz): at which the
    corpus is used; None: the lowest rate among the recordings, within `RATES`. What is shorter or longer than
    `shortest_seconds` and `longest_seconds` is left out, and named."""

    source: Source | dict[str, Source]
    columns: Columns = Columns()
    audio_folder: Path | None = None
    splits: Splits = Splits()
    channel: Literal["average"] | int = "average"
    sampling_rate: int | None = Field(None, ge=4000, le=48000)
    shortest_seconds: float = Field(0.1, gt=0)
    longest_seconds: float = Field(30.0, gt=0, allow_inf_nan=False)
    workers: int = Field(1, ge=1)

    @field_validator("channel")
    @classmethod
    def _channels_count_from_0(cls, channel: str | int) -> str | int:
        if isinstance(channel, int) and channel < 0:
            raise ValueError("channels are counted from 0 on")
        return channel

    @model_validator(mode="after")
    def _sets_have_names(self) -> "Settings":
        if isinstance(self.source, dict) and set(self.source) != PAIR:
            missing = [name for name in ("train", "dev") if name not in self.source]
            if missing:
                raise ValueError(f"source: given splits name a source for each set; '{missing[0]}' has none")
            names = {name: None for name in self.source if name not in ("train", "dev")}
            if not names:
                raise ValueError("source: given splits name at least one test set")
            FurtherSetNames.func(names)
        if self.shortest_seconds >= self.longest_seconds:
            raise ValueError("shortest_seconds is not below longest_seconds")
        return self
