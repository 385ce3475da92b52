"""Who speaks each utterance: a file beside the reference transcripts, taken from the corpus's manifest.

    test.trn               the reference words
    test.speakers.json     {"ann-0001": "ann", "ann-0002": "ann", ...}; {}: nobody knows who speaks

Intervals resample speakers, so it matters who they are. An id does not say it: NIST's tools take what stands before the
first hyphen for the speaker, and make one of `spk-01` and `spk-02`. Without such a file every utterance stands for
itself, which is said where an interval is shown.

Speakers may share what makes them hard: voices of one synthesiser that differ in pitch and rate have one timbre. A few
timbres are then all the chance there is, and an interval over the many voices is too narrow (a12 of `mini_cpu`: 60
voices, 16 timbres). `group_speakers` makes one unit of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from analysis.scoring.trn import Transcript, first_of
from common.errors import UserError
from common.files import read_json, write_json


def speakers_file(reference: Path) -> Path:
    """Where the speakers of a reference `.trn` stand."""
    return reference.with_suffix(".speakers.json")


def write_speakers(path: Path, speakers: Mapping[str, str]) -> None:
    """Write utterance id -> speaker, whole file or nothing."""
    write_json(path, dict(speakers))


def name_speakers(reference: Transcript, path: Path) -> Transcript:
    """`reference` with its speakers from a file, which may know more utterances; as it is where the file knows none.

    Raises `UserError` for a file that is missing or holds something else, or that leaves out an utterance.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(name, str) and name for name in found.values()):
        raise UserError(f"{path}: must map each utterance id to the name of its speaker")
    if not found:
        return reference
    missing = [utterance for utterance in reference.lines if utterance not in found]
    if missing:
        raise UserError(
            f"{path}: names no speaker for {len(missing)} utterances of {reference.path} ({first_of(missing)})"
        )
    return replace(reference, speakers={utterance: found[utterance] for utterance in reference.lines})


def group_speakers(reference: Transcript, unit: str, found_by: str) -> Transcript:
    """`reference` with groups of speakers in their place: of one are those in whose names the regular expression
    `found_by` matches the same. `unit` says in words what a group is, `timbres`. Unchanged without speakers.

    Raises `UserError` for a speaker in whose name it matches nothing.
    """
    if reference.speakers is None:
        return reference
    groups = {}
    for speaker in set(reference.speakers.values()):
        found = re.search(found_by, speaker)
        if not found or not found[0]:
            raise UserError(f"{reference.path}: speaker '{speaker}': '{found_by}' matches nothing there ({unit})")
        groups[speaker] = found[0]
    named = {utterance: groups[speaker] for utterance, speaker in reference.speakers.items()}
    return replace(reference, speakers=named, unit=unit)


class Groups(Protocol):
    """Which speakers are one unit, see `group_speakers`."""

    @property
    def over(self) -> str: ...

    @property
    def found_by(self) -> str: ...


def with_units(reference: Transcript, speakers: Path | None, groups: Groups | None) -> Transcript:
    """`reference` with the units of intervals: the speakers that a file names, in groups where there are some."""
    named = name_speakers(reference, speakers) if speakers else reference
    return group_speakers(named, groups.over, groups.found_by) if groups else named


def unit_noun(references: Sequence[Transcript]) -> str:
    """What intervals over these references resample, in words."""
    return " and ".join(sorted({reference.noun for reference in references}))
