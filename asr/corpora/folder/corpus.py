"""From what a source says to the sets of a corpus: splits, what is left out, and audio that can be read anywhere."""

import csv
import dataclasses
import io
import re
from collections import Counter, defaultdict
from pathlib import Path

from asr.corpora.folder.items import Item
from asr.corpora.folder.settings import Settings
from asr.corpora.folder.sound import Sound, Stretch, check_channel, convert, look
from asr.corpora.folder.sources import read_source
from asr.corpora.folder.splits import Sets, make_splits, refuse_common_recordings, say_common_speakers
from asr.corpora.parallel import map_tasks
from asr.corpora.preparation import Prepared
from asr.corpora.utterances import Utterance
from common.errors import UserError
from common.files import write_text
from common.wording import counted

LOWEST_RATE, HIGHEST_RATE = 8000, 16000
"""Hz, between which the rate of a corpus is chosen: below 8000 speech lacks what tells words apart, above 16000 it has
nothing that does."""
DROPPED = "dropped.csv"
Dropped = list[tuple[str, Item, str]]
"""Set, utterance, and why it is left out."""


def check_source(settings: Settings, entry) -> int:
    """Bytes of all recordings. Raises `UserError` for a source or a recording that is not there."""
    found = read_source(settings)
    items = [item for each in found.values() for item in each] if isinstance(found, dict) else found
    paths = {item.audio: item for item in items}
    for path, item in paths.items():
        _must_be_there(path, item)
    return sum(path.stat().st_size for path in paths)


def prepare(settings: Settings, entry, folder: Path) -> Prepared:
    """The utterances by set, what was left out and how splits came about; what is converted is written below `folder`.

    Raises `UserError` naming the file, and the line that names it.
    """
    found = read_source(settings)
    sets, how = (found, "splits as given") if isinstance(found, dict) else make_splits(_some(found), settings.splits)
    everything = [item for items in sets.values() for item in items]
    for item in everything:
        _must_be_there(item.audio, item)
    who = _check_speakers(everything)
    how = how if how.endswith(f" of {who}") else f"{how}; {who}"
    refuse_common_recordings(sets)
    say_common_speakers(sets)
    sounds = _look_at(everything, settings)
    rate = settings.sampling_rate or _rate(sounds)
    dropped: Dropped = []
    kept = {name: _without(name, items, sounds, settings, dropped) for name, items in sets.items()}
    kept["dev"] = _in_characters_of(kept["train"], kept["dev"], dropped)
    utterances = _utterances(_with_ids(kept), sounds, rate, settings, folder)
    _write_dropped(folder / DROPPED, dropped)
    notes = [how, f"{rate} Hz, {_channels(settings, sounds)}"]
    counted = {name: dict(Counter(why for each, _, why in dropped if each == name)) for name in sets}
    return Prepared(utterances, notes, counted)


def _some(items: list[Item]) -> list[Item]:
    if not items:
        raise UserError("corpus.settings.source: names no utterance")
    return items


def _channels(settings: Settings, sounds: dict[Path, Sound]) -> str:
    chosen = settings.channel
    if all(sound.channels == 1 for sound in sounds.values()):
        return "one channel"
    return "the mean of several channels" if chosen == "average" else f"channel {chosen} of several"


def _must_be_there(path: Path, item: Item) -> None:
    if not path.is_file():
        raise UserError(
            f"{item.where}: there is no recording {path}; relative paths count from the folder of the file that names "
            "them, or from corpus.settings.audio_folder"
        )


def _check_speakers(items: list[Item]) -> str:
    """What is known of speakers, in words. Raises `UserError` where only some have one, or two have names that NIST's
    programs could not tell apart."""
    unnamed = [item for item in items if not item.speaker]
    if len(unnamed) == len(items):
        return "nobody says who speaks: intervals are over utterances, and there are no verdicts"
    if unnamed:
        raise UserError(
            f"{unnamed[0].where}: utterance '{unnamed[0].name}' has no speaker, and others have; name all speakers or "
            "none"
        )
    names: dict[str, Item] = {}
    for item in items:
        other = names.setdefault(plain(item.speaker), item)
        if other.speaker != item.speaker:
            raise UserError(
                f"{item.where}: speaker '{item.speaker}' and speaker '{other.speaker}' ({other.where}) are both "
                f"'{plain(item.speaker)}' without spaces, slashes and parentheses; rename one"
            )
    return counted(len(names), "speaker")


def _look_at(items: list[Item], settings: Settings) -> dict[Path, Sound]:
    first: dict[Path, Item] = {}
    for item in items:
        first.setdefault(item.audio, item)
    tasks = [(path, item.where) for path, item in first.items()]
    return dict(zip(first, map_tasks(_look, tasks, settings.workers), strict=True))


def _look(task: tuple[Path, str]) -> Sound:
    return look(*task)


def _rate(sounds: dict[Path, Sound]) -> int:
    """The lowest rate of all: nothing is made up above what a recording holds."""
    return min(HIGHEST_RATE, max(LOWEST_RATE, min(sound.sampling_rate for sound in sounds.values())))


def _without(
    name: str, items: list[Item], sounds: dict[Path, Sound], settings: Settings, dropped: Dropped
) -> list[Item]:
    """What is neither empty nor too short nor too long."""
    kept = []
    for item in items:
        length = _seconds(item, sounds[item.audio])
        if not item.text.split():
            why = "without transcript"
        elif length < settings.shortest_seconds:
            why = f"shorter than {settings.shortest_seconds:g} s"
        elif length > settings.longest_seconds:
            why = f"longer than {settings.longest_seconds:g} s"
        else:
            kept.append(item)
            continue
        dropped.append((name, item, why))
    if items and not kept:
        raise UserError(f"set '{name}': nothing is left of {len(items)} utterances ({dropped[-1][2]}, for one)")
    return kept


def _seconds(item: Item, sound: Sound) -> float:
    """How long an utterance is; to the end of its recording where nothing is said."""
    return sound.seconds - item.start if item.seconds is None else item.seconds


def _in_characters_of(train: list[Item], dev: list[Item], dropped: Dropped) -> list[Item]:
    """The dev utterances that can be written in characters of the training transcripts, which no loss can be computed
    without. Test utterances stay: they are scored as they are."""
    known = {character for item in train for character in item.text}
    kept, lacking = [], []
    for item in dev:
        (kept if known >= {*"".join(item.text.split())} else lacking).append(item)
    dropped += [("dev", item, "a character that training lacks") for item in lacking]
    if dev and not kept:
        raise UserError("set 'dev': every transcript has a character that no training transcript has")
    return kept


def plain(name: str) -> str:
    """A name without what NIST's programs and file systems refuse: spaces, parentheses, slashes."""
    return re.sub(r"[\s()/\\\0]+", "_", name)


def _with_ids(sets: Sets) -> dict[str, list[tuple[str, Item]]]:
    """Each utterance with its id, which begins with its speaker as NIST's programs expect. Where given splits use the
    same names, those begin with the set's name too."""

    def named(item: Item, prefix: str = "") -> str:
        name, speaker = plain(prefix + item.name), plain(item.speaker)
        return name if not speaker or name.startswith(f"{speaker}-") else f"{speaker}-{name}"

    count = Counter(named(item) for items in sets.values() for item in items)
    return {
        name: [(named(item, f"{name}_" if count[named(item)] > 1 else ""), item) for item in items]
        for name, items in sets.items()
    }


def _utterances(
    sets: dict[str, list[tuple[str, Item]]], sounds: dict[Path, Sound], rate: int, settings: Settings, folder: Path
) -> dict[str, list[Utterance]]:
    """Utterances on recordings that stay where they are, or on what these become."""
    stretches: dict[Path, list[tuple[str, Stretch]]] = defaultdict(list)
    utterances: dict[str, Utterance] = {}
    for set_name, items in sets.items():
        for number, (name, item) in enumerate(items):
            sound, channel = sounds[item.audio], _channel(item, sounds[item.audio], settings)
            seconds = _seconds(item, sound)
            speaker, audio, start = plain(item.speaker), item.audio.resolve(), item.start
            if not (sound.stays and sound.sampling_rate == rate and channel is not None):
                out = folder / "audio" / set_name / f"{number:06d}.wav"
                stretches[item.audio].append((name, Stretch(item.where, item.start, item.seconds, channel, out)))
                audio, start = out, 0.0
            utterances[name] = Utterance(name, audio, rate, seconds, speaker, item.text, start, channel or 0)
    tasks = [(path, [stretch for _, stretch in each], rate) for path, each in stretches.items()]
    for task, lengths in zip(stretches.values(), map_tasks(_convert, tasks, settings.workers), strict=True):
        for (name, _), seconds in zip(task, lengths, strict=True):
            utterances[name] = dataclasses.replace(utterances[name], seconds=seconds, channel=0)
    return {set_name: [utterances[name] for name, _ in items] for set_name, items in sets.items()}


def _channel(item: Item, sound: Sound, settings: Settings) -> int | None:
    """Which channel is used; None for the mean of several."""
    chosen = settings.channel if item.channel is None else item.channel
    if chosen == "average":
        return None if sound.channels > 1 else 0
    check_channel(item.audio, item.where, sound.channels, chosen)
    return chosen


def _convert(task: tuple[Path, list[Stretch], int]) -> list[float]:
    return convert(*task)


def _write_dropped(path: Path, dropped: Dropped) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("set", "utterance", "named in", "why it is left out"))
    rows.writerows((name, item.name, item.where, why) for name, item, why in dropped)
    write_text(path, text.getvalue())
