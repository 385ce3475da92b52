"""Scores words with times (CTM) against a segmented reference (STM), as NIST's `hubscr.pl -h hub5 -l english` does.

    python -m analysis.stm REF.stm HYP.ctm --normaliser hub5-1 --glm FILE [--json]

Both files are filtered (see `analysis.scoring.hub5`), each recognised word goes to the segment in which its middle
lies, and each segment is aligned. Words between two segments belong to the later one, words behind the last one to that
one, and segments marked IGNORE_TIME_SEGMENT_IN_SCORING are left out with their words. A word that the GLM splits shares
its time among the parts. What hubscr.pl checks beyond that (stmValidator.pl, ctmValidator.pl: which signs an English
word may have) is not checked here.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.scoring.normalise import Normaliser, add_arguments, load_normaliser
from common.errors import UserError, run

IGNORED = b"ignore_time_segment_in_scoring"


@dataclass(frozen=True)
class Segment:
    """One line of an STM file. Times in seconds."""

    channel: tuple[str, str]
    """The recording and the channel, in lower case."""
    speaker: str
    start: float
    end: float
    text: bytes


@dataclass(frozen=True)
class Heard:
    """One line of a CTM file. Times in seconds."""

    channel: tuple[str, str]
    start: float
    duration: float
    word: bytes


def read_stm(path: Path | str) -> list[Segment]:
    """The segments by recording, channel and start: `recording channel speaker start end [<labels>] words`.

    Raises `UserError` naming file and line.
    """
    segments = []
    for where, fields in _records(Path(path), least=5, form="recording channel speaker start end words"):
        start, end = _seconds(where, fields[3]), _seconds(where, fields[4])
        words = fields[6:] if fields[5:6] and fields[5].startswith(b"<") else fields[5:]
        channel = (fields[0].decode().lower(), fields[1].decode().lower())
        segments.append(Segment(channel, fields[2].decode().lower(), start, end, b" ".join(words)))
    return sorted(segments, key=lambda segment: (segment.channel, segment.start))


def read_ctm(path: Path | str) -> list[Heard]:
    """The words by recording, channel and start: `recording channel start duration word [confidence ...]`.

    Raises `UserError` naming file and line; alternatives (`<ALT_BEGIN>`) are refused: only a GLM may offer them.
    """
    words = []
    for where, fields in _records(Path(path), least=5, form="recording channel start duration word"):
        if fields[4].upper().startswith(b"<ALT") or any(sign in fields[4] for sign in (b"{", b"}", b"(", b")", b"@")):
            raise UserError(f"{where}: '{fields[4].decode()}' has a meaning of its own to sclite and could hide errors")
        start, duration = _seconds(where, fields[2]), _seconds(where, fields[3])
        channel = (fields[0].decode().lower(), fields[1].decode().lower())
        words.append(Heard(channel, start, duration, fields[4]))
    return sorted(words, key=lambda word: (word.channel, word.start))


def _records(path: Path, least: int, form: str) -> Iterator[tuple[str, list[bytes]]]:
    try:
        content = path.read_bytes()
        content.decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 (byte 0x{content[error.start]:02x})") from None
    empty = True
    for number, line in enumerate(content.split(b"\n"), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(b";;"):
            continue
        if len(fields) < least:
            raise UserError(f"{path}, line {number}: not '{form}'")
        empty = False
        yield f"{path}, line {number}", fields
    if empty:
        raise UserError(f"{path}: holds no line")


def _seconds(where: str, field: bytes) -> float:
    try:
        value = float(field)
    except ValueError:
        raise UserError(f"{where}: '{field.decode()}' is no time in seconds") from None
    if not 0 <= value < float("inf"):
        raise UserError(f"{where}: '{field.decode()}' is no time in seconds")
    return value


def score(stm: Path | str, ctm: Path | str, normaliser: Normaliser):
    """The `Alignment` of all segments, named `speaker-number` as sclite names them.

    Raises `UserError` for files that cannot be read or whose recordings and channels differ, and for a normaliser that
    knows nothing of optional words and fragments.
    """
    from analysis.scoring.hub5 import reference_items
    from analysis.scoring.score import align_all

    if not normaliser.rules.hub5:
        raise UserError(f"{stm}: STM files are scored with a hub5 normaliser, not '{normaliser.name}'")
    segments, words = read_stm(stm), read_ctm(ctm)
    _check_same_channels(stm, segments, ctm, words)
    reference, hypothesis, numbers = {}, {}, {}
    for segment, heard in _segmented(segments, _timed(words, normaliser, str(ctm))):
        if IGNORED in segment.text.lower():
            continue
        number = numbers[segment.speaker] = numbers.get(segment.speaker, -1) + 1
        name = f"{segment.speaker}-{number:03d}"
        try:
            reference[name] = reference_items(segment.text, normaliser.reference_glm)
        except ValueError as error:
            raise UserError(f"{stm}: segment '{name}': {error}") from None
        hypothesis[name] = heard
    return align_all(Path(stm), reference, hypothesis)


def _check_same_channels(stm, segments: list[Segment], ctm, words: list[Heard]) -> None:
    spoken, heard = {segment.channel for segment in segments}, {word.channel for word in words}
    for only, path, other in ((spoken - heard, stm, ctm), (heard - spoken, ctm, stm)):
        if only:
            raise UserError(f"{path}: recording and channel '{' '.join(min(only))}' is not in {other}")


def _timed(words: list[Heard], normaliser: Normaliser, where: str) -> dict[tuple[str, str], list]:
    """For each channel the filtered words and choices, each with the middle of its time."""
    from analysis.scoring.hub5 import hypothesis_items
    from analysis.scoring.score import is_noise

    cache, found = {}, {word.channel: [] for word in words}
    for word in words:
        if normaliser.rules.drops_noise and is_noise(word.word.lower()):
            continue
        try:
            items = hypothesis_items([word.word], normaliser.hypothesis_glm, cache)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        for position, item in enumerate(items):
            if isinstance(item, tuple):  # as late as the latest of its words
                middle = max(_middle(word, len(part) - 1, len(part)) for part in item)
            else:
                middle = _middle(word, position, len(items))
            found[word.channel].append((middle, item))
    return found


def _middle(word: Heard, position: int, parts: int) -> float:
    """The middle of one of the parts of a word; the times of parts are rounded to milliseconds, as csrfilt.sh does."""
    if parts == 1:
        return word.start + word.duration / 2
    duration = word.duration / parts
    return round(word.start + duration * position, 3) + round(duration, 3) / 2


def _segmented(segments: list[Segment], words: dict[tuple[str, str], list]) -> Iterator[tuple[Segment, list]]:
    """Each segment with the words whose middle lies before its end, as far as no earlier segment took them."""
    taken = dict.fromkeys(words, 0)
    for position, segment in enumerate(segments):
        channel, first = words[segment.channel], taken[segment.channel]
        end = first
        if position == len(segments) - 1 or segments[position + 1].channel != segment.channel:
            end = len(channel)
        while end < len(channel) and channel[end][0] < segment.end:
            end += 1
        taken[segment.channel] = end
        yield segment, [item for _, item in channel[first:end]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.stm", description=__doc__.split("\n\n")[0])
    parser.add_argument("reference", help="reference segments, NIST .stm")
    parser.add_argument("hypothesis", help="recognised words with times, NIST .ctm")
    parser.add_argument("--json", action="store_true", help="keys sub, del, ins, ref_words and wer (in percent)")
    add_arguments(parser)
    parser.set_defaults(normaliser="hub5-1")
    arguments = parser.parse_args()

    from analysis.wer import show

    normaliser = load_normaliser(arguments.normaliser, arguments.glm, "--normaliser")
    counts = score(arguments.reference, arguments.hypothesis, normaliser).counts
    if counts.wer is None:
        raise UserError(f"{arguments.reference}: holds no word, so there is no word error rate")
    print(json.dumps({**counts.to_json(), "wer": counts.wer}) if arguments.json else show(counts))


if __name__ == "__main__":
    sys.exit(run(main))
