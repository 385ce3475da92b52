"""The embedded corpus: synthetic speech in many voices, made on any machine without a download.

Why: the whole project must run where there is no data. A few hundred voices (timbre, accent, rate, pitch) speak
digit strings or the sentences of a small grammar, in rooms and noise whose severity is a setting. Training, dev and
test voices differ in timbre, not only in pitch. Same settings, same bytes. Numbers from it are no evidence about
real speech.

    python -m asr.corpora synth --out /tmp/synth --settings '{"train": {"hours": 0.1}}'
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from asr.corpora.acoustics import Acoustics
from asr.corpora.espeak import Engine, Voice
from asr.corpora.grammar import Grammar, texts
from asr.corpora.parallel import map_tasks
from asr.corpora.settings import IntRange, Size, TestSetNames, set_sizes
from asr.corpora.simulation import Task, by_set, share_out, simulate
from asr.corpora.utterances import Utterance
from common.settings import Settings as Strict

# Of espeak-ng's English accents and voice variants, those that sound like people: no robots, whispers or jokes, none
# that races, and no accent that drops its h (there `hat` and `at` sound alike).
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan")
# fmt: off
VARIANTS = [
    "Alex", "Alicia", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo",
    "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "Reed", "RicishayMax", "RicishayMax2",
    "RicishayMax3", "Storm", "adam", "announcer", "aunty", "belinda", "benjamin", "boris", "david", "ed",
    "edward", "edward2", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa", "gustave", "ian", "iven", "iven2",
    "iven3", "iven4", "john", "klatt", "klatt2", "klatt3", "klatt4", "klatt6", "linda", "m1", "m2", "m3", "m4",
    "m5", "m6", "m7", "m8", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "quincy",
    "rob", "robert", "sandro", "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac",
]
# fmt: on
LENGTHS = {"digits": (1, 7), "words": (1, 7), "sentences": (3, 10)}


class SetSettings(Size):
    """One set: its size, and what differs from the corpus (only the named ranges of `acoustics` change)."""

    acoustics: Acoustics | None = None
    words: IntRange | None = None


class Voices(Strict):
    """How many voices speak in training, in dev, and in all test sets."""

    train: int = Field(200, ge=1)
    dev: int = Field(20, ge=1)
    test: int = Field(40, ge=1)


class Settings(Strict):
    """Settings of the corpus. `words` is the least and the greatest number of words in an utterance (by default 1 to 7
    digits or words, 3 to 10 words of a sentence); pitch and pitch range are on espeak's scale from 0 to 99."""

    seed: int = Field(0, ge=0)
    sampling_rate: int = Field(8000, ge=4000, le=48000)
    grammar: Grammar = "digits"
    words: IntRange | None = None
    voices: Voices = Voices()
    words_per_minute: IntRange = (95, 165)
    pitch: IntRange = (30, 70)
    pitch_range: IntRange = (35, 65)
    acoustics: Acoustics = Acoustics()
    train: SetSettings = SetSettings(hours=1.6)
    dev: SetSettings = SetSettings(utterances=200)
    test_sets: Annotated[dict[str, SetSettings], TestSetNames] = Field(
        {"test": SetSettings(hours=0.3)}, validate_default=True
    )
    workers: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _possible_lengths(self):
        for name, each in set_sizes(self):
            least, most = lengths(self, each)
            if least < 1 or (self.grammar == "sentences" and (most < 4 or least > 14)):
                raise ValueError(f"{name}: {self.grammar} of {least} to {most} words cannot be made")
        return self


@dataclass(frozen=True)
class Speech:
    """A task, and who says what in it."""

    task: Task
    voice: Voice
    grammar: Grammar
    words: tuple[int, int]


def lengths(settings: Settings, one_set: SetSettings) -> tuple[int, int]:
    """The least and the greatest number of words in an utterance of a set."""
    return one_set.words or settings.words or LENGTHS[settings.grammar]


def prepare(settings: Settings, entry, folder: Path) -> dict[str, list[Utterance]]:
    """Speak all sets, writing their audio below `folder`; the utterances by set name. `entry` is not needed."""
    speeches = []
    for set_name, one_set in set_sizes(settings):
        voices = draw_voices(set_name if set_name in ("train", "dev") else "test", settings)
        tasks = share_out(
            set_name,
            one_set,
            voices,
            acoustics=settings.acoustics.overridden_by(one_set.acoustics),
            sampling_rate=settings.sampling_rate,
            seed=settings.seed,
            folder=folder,
        )
        words = lengths(settings, one_set)
        speeches += [Speech(task, voices[task.speaker], settings.grammar, words) for task in tasks]
    return by_set(map_tasks(speak, speeches, settings.workers), [speech.task for speech in speeches])


def speak(speech: Speech) -> list[Utterance]:
    """Carry out one task: a voice speaks its utterances of one set."""
    held_out = speech.task.set_name != "train"

    with Engine(speech.voice) as engine:

        def say(rng: np.random.Generator) -> tuple[str, np.ndarray]:
            text = next(texts(speech.grammar, speech.words, held_out, rng))
            return text, engine.say(text)

        return simulate(speech.task, say, engine.sampling_rate)


def draw_voices(role: str, settings: Settings) -> dict[str, Voice]:
    """The voices of "train", "dev" or "test", by speaker name. No timbre is in two of them."""
    timbres = variants(role)
    count = getattr(settings.voices, role)
    rng = np.random.default_rng([settings.seed, *role.encode()])
    voices = {}
    for number in range(count):
        variant = timbres[number % len(timbres)]
        accent = ACCENTS[rng.integers(len(ACCENTS))]
        rate, pitch, spread = (
            int(rng.integers(low, high + 1))
            for low, high in (settings.words_per_minute, settings.pitch, settings.pitch_range)
        )
        speaker = f"{variant.lower()}_{accent.removeprefix('en-').replace('-', '')}_{role}{number:03d}"
        voices[speaker] = Voice(accent, variant, rate, pitch, spread)
    return voices


def variants(role: str) -> list[str]:
    """The timbres that belong to "train", "dev" or "test": seven, one and two of every ten."""
    places = {"train": (0, 1, 2, 4, 5, 7, 8), "dev": (6,), "test": (3, 9)}[role]
    return [variant for number, variant in enumerate(VARIANTS) if number % 10 in places]
