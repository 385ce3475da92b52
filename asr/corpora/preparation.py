"""Preparing a corpus: settings in, checked audio and manifests out, all of it or nothing.

Everything is made in a folder beside the final place and moved there at the end, so that a run that fails or is killed
leaves an earlier corpus as it was.
"""

import contextlib
import dataclasses
import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from asr.corpora.content import write_content
from asr.corpora.manifests import write_cuts
from asr.corpora.register import REGISTER, look_up, module_of
from asr.corpora.simulation import write_audio
from asr.corpora.utterances import Utterance, begin_corpus, check_utterance, read_audio, say_resampled
from common.errors import UserError, is_disk_full
from common.files import write_json
from common.settings import Settings, parse
from common.wording import counted

Sets = dict[str, list[Utterance]]
COUNTED = ("utterance", "word", "speaker")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The sets of a corpus, and what a user is to know of how they came about: in words, and how many utterances were
    left out for which reason, by set."""

    sets: Sets
    notes: list[str] = dataclasses.field(default_factory=list)
    dropped: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)


def settings_of(name: str, settings: dict[str, Any], where: str = "", register: Path | str = REGISTER) -> Settings:
    """The settings of a corpus, checked, with all defaults filled in; `where` names the file and section they stand in.

    Raises `UserError` for an unknown corpus, an unknown key (with the closest one) or a wrong value.
    """
    return parse(_module(name, register).Settings, settings, where or f"corpus {name}: settings")


def prepare(
    name: str, settings: dict[str, Any], folder: Path | str, register: Path | str = REGISTER, where: str = ""
) -> dict[str, Any]:
    """Prepare a corpus below `folder` and return what `corpus.json` holds.

    Writes `<set>.jsonl.gz` (cuts), `<set>.content.json` (what the set holds), `audio/<set>/` (where the corpus makes or
    converts audio) and, last, `corpus.json`.
    Raises `UserError` for bad settings, bad audio, bad transcripts, or data that cannot be had.
    """
    folder = Path(folder)
    begin_corpus()
    entry = look_up(name, register)
    parsed = settings_of(name, settings, where, register)
    with _staging(folder) as stage:
        made = _module(name, register).prepare(parsed, entry, stage)
        prepared = made if isinstance(made, Prepared) else Prepared(made)
        sets = {set_name: _checked(set_name, utterances, stage) for set_name, utterances in prepared.sets.items()}
        # Sets that a corpus calls further may hold utterances of dev and test sets again.
        further = set(getattr(parsed, "further_sets", ()))
        _check_ids(sets, further)
        for set_name, utterances in sets.items():
            write_cuts(stage / f"{set_name}.jsonl.gz", utterances)
        contents = write_content(stage, sets)
        held = {
            set_name: {
                **_summary(utterances),
                "dropped": prepared.dropped.get(set_name, {}),
                "content": contents[set_name],
            }
            for set_name, utterances in sets.items()
        }
        corpus = {
            "name": name,
            # How many processes made it, and where the archive (checked by content) lay, is no property of a corpus.
            "settings": parsed.model_dump(mode="json", exclude={"workers", "archive"}),
            "sampling_rate": next(utterances[0].sampling_rate for utterances in sets.values()),
            "sets": held,
            "dev_set": "dev",
            "test_sets": [set_name for set_name in sets if set_name not in ("train", "dev", *further)],
            "licence": entry.licence,
            "notes": prepared.notes,
        }
        _install(stage, folder)
    write_json(folder / "corpus.json", corpus)
    return corpus


def check_source(name: str, settings: dict[str, Any], register: Path | str = REGISTER) -> int | None:
    """Bytes of what a corpus is prepared from, without reading it; None where the corpus' module cannot tell.

    Raises `UserError` where something is missing, with what to do.
    """
    module = _module(name, register)
    look = getattr(module, "check_source", None)
    return None if look is None else look(settings_of(name, settings, register=register), look_up(name, register))


def _module(name: str, register: Path | str) -> ModuleType:
    return importlib.import_module(module_of(name, register))


def _checked(set_name: str, utterances: list[Utterance], stage: Path) -> list[Utterance]:
    """The utterances of a set after the input checks; files of another rate are replaced by resampled copies."""
    if not utterances:
        raise UserError(f"set '{set_name}' has no utterances: make it larger, or check the corpus' folder")
    checked = []
    for utterance in utterances:
        rate = check_utterance(utterance)
        if rate != utterance.sampling_rate:
            say_resampled(utterance.audio, rate, utterance.sampling_rate)
            path = stage / "audio" / set_name / f"{utterance.id}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = read_audio(utterance)
            write_audio(path, samples, utterance.sampling_rate)
            seconds = len(samples) / utterance.sampling_rate
            utterance = dataclasses.replace(utterance, audio=path, start=0.0, channel=0, seconds=seconds)
        checked.append(dataclasses.replace(utterance, text=" ".join(utterance.words)))
    return checked


def _check_ids(sets: Sets, further: set[str]) -> None:
    """Raise `UserError` for an utterance that occurs twice, or whose id is not one that NIST's programs can read.

    Scoring has speakers from the manifest, so what the id makes of a speaker's name does not matter. A set of `further`
    may repeat utterances of other sets, but none of the training set.
    """
    places: dict[str, list[str]] = {}
    for set_name, utterances in sets.items():
        for utterance in utterances:
            for other in places.setdefault(utterance.id, []):
                both = {other, set_name}
                if len(both) == 1 or "train" in both or not both & further:
                    raise UserError(f"utterance {utterance.id} is in set '{other}' and in set '{set_name}'")
            places[utterance.id].append(set_name)
            if not re.fullmatch(r"[^\s()]+", utterance.id):
                raise UserError(
                    f"utterance {utterance.id}: the id has spaces or parentheses, which NIST's programs refuse"
                )
            if utterance.speaker and not utterance.id.startswith(f"{utterance.speaker}-"):
                raise UserError(
                    f"utterance {utterance.id}: the id does not begin with its speaker, '{utterance.speaker}-', as "
                    "NIST's programs expect"
                )


def _summary(utterances: list[Utterance]) -> dict[str, Any]:
    return {
        "utterances": len(utterances),
        "seconds": round(sum(utterance.seconds for utterance in utterances), 3),
        "longest_seconds": round(max(utterance.seconds for utterance in utterances), 3),
        "words": sum(len(utterance.words) for utterance in utterances),
        "speakers": len({utterance.speaker for utterance in utterances if utterance.speaker}),
    }


def summary_lines(corpus: dict[str, Any]) -> list[str]:
    """What a corpus holds, a line for each set: `corpus` is what `prepare` returns."""
    lines = list(corpus["notes"])
    for name, held in corpus["sets"].items():
        counts = ", ".join(counted(held[f"{what}s"], what) for what in COUNTED if held[f"{what}s"])
        dropped = "; ".join(f"{number} {why}" for why, number in held["dropped"].items())
        line = f"{name}: {_length(held['seconds'])}, {counts}, the longest {held['longest_seconds']:.1f} s"
        lines.append(f"{line}; left out: {dropped}" if dropped else line)
    return lines


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds / 60:.1f} min"


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder to work in; removed at the end, and so is what a killed run has left there."""
    stage = folder / ".preparing"
    shutil.rmtree(stage, ignore_errors=True)
    try:
        stage.mkdir(parents=True)
        yield stage
    except OSError as error:
        if is_disk_full(error):
            raise UserError(f"{folder}: no space left on the disk; the earlier corpus is unchanged") from error
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _install(stage: Path, folder: Path) -> None:
    """Move what was made to its place. `corpus.json` goes first and comes last: without it there is no corpus."""
    (folder / "corpus.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "audio", ignore_errors=True)
    for path in sorted(stage.iterdir()):
        path.replace(folder / path.name)
