"""NIST transcript files (`.trn`): one utterance a line, `words (speaker-utterance)`, as `sclite -i rm` reads them.

sclite gives some characters a meaning inside the words: `{ a / b }` is a choice, `@` is nothing at all, `;;` and `**`
begin a comment, `;` begins a tag, a `*` at the end and a `\\` are dropped. In a hypothesis each of them can turn an
error into a correct word. `write_trn` therefore writes such characters as in a web address (`%7B`), and `read_trn`
refuses them. Words are kept as sclite sees them: bytes between ASCII white space, compared with ASCII letters in lower
case.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import write_text

SYNTAX = "{}();*\\\x7f" + "".join(map(chr, range(0x20)))  # escaped wherever they stand in a word
REFUSED = re.compile(rb"[{};*\\\x00]|(?<!\S)@(?!\S)")
SUSPECT = re.compile(rb"[{};*\\\x00@]")
LINE = re.compile(rb"(.*)\(([^\s()]+)\)\s*", re.DOTALL)
ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
UTTERANCES = "utterances"
SHOWN = 3  # how many utterances an error message names


@dataclass(frozen=True, eq=False)
class Transcript:
    """The words of every utterance of one `.trn` file, in the order of the file."""

    path: Path
    lines: dict[str, bytes]
    """The words of each utterance as they stand in the file: UTF-8, without the id."""
    speakers: Mapping[str, str] | None = None
    """Who speaks each utterance, where that is known (`analysis.scoring.speakers`): the id does not say it."""
    unit: str = "speakers"
    """What `speakers` names, in words: groups of them where they share what makes them hard."""

    @property
    def units(self) -> list[str]:
        """What intervals resample, for each utterance: its speaker, or itself where speakers are not known."""
        return [*self.lines] if self.speakers is None else [self.speakers[utterance] for utterance in self.lines]

    @property
    def noun(self) -> str:
        """What intervals resample, in words."""
        return UTTERANCES if self.speakers is None else self.unit

    def words(self, utterance: str) -> list[str]:
        """The words of one utterance as a person reads them: original case, escapes undone."""
        return [unescape(word.decode("utf-8")) for word in self.lines[utterance].split()]


def escape(word: str) -> str:
    """`word` without any character that means something to sclite; `unescape` is the inverse.

    A `%` itself is escaped only where it would be taken for an escape, so that `%HESITATION` stays readable.
    """
    if word == "@":
        return "%40"
    word = ESCAPE.sub(r"%25\1", word)
    return "".join(f"%{ord(char):02X}" if char in SYNTAX else char for char in word)


def unescape(word: str) -> str:
    """The word that `escape` was given."""
    return ESCAPE.sub(lambda match: chr(int(match[1], 16)), word)


def write_trn(path: Path | str, utterances: Iterable[tuple[str, str]]) -> None:
    """Write `(utterance id, words separated by white space)` pairs, whole file or nothing.

    Raises `UserError` for an id that a `.trn` file cannot hold (empty, white space, parentheses) or that comes twice.
    """
    lines, seen = [], set()
    for utterance, words in utterances:
        if not re.fullmatch(r"[^\s()]+", utterance):
            raise UserError(
                f"{path}: '{utterance}' cannot be an utterance id (it is empty or has spaces or parentheses)"
            )
        if utterance in seen:
            raise UserError(f"{path}: utterance '{utterance}' comes twice")
        seen.add(utterance)
        lines.append(" ".join([*map(escape, words.split()), f"({utterance})"]) + "\n")
    write_text(path, "".join(lines))


def read_trn(path: Path | str) -> Transcript:
    """Read a `.trn` file.

    Raises `UserError` naming file and line: not UTF-8, a line without an id, an id that comes twice, sclite's syntax in
    the words, no utterance at all.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    _check_utf8(path, content)
    lines: dict[str, bytes] = {}
    suspect = SUSPECT.search(content) is not None  # one look at the whole file is faster than one at each line
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        utterance, words = _parse(path, number, line)
        if suspect:
            _refuse_syntax(path, number, words)
        if utterance in lines:
            raise UserError(f"{path}, line {number}: utterance '{utterance}' comes a second time")
        lines[utterance] = words
    if not lines:
        raise UserError(f"{path}: holds no utterance")
    return Transcript(path, lines)


def _check_utf8(path: Path, content: bytes) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 (byte 0x{content[error.start]:02x})") from None


def _parse(path: Path, number: int, line: bytes) -> tuple[str, bytes]:
    match = LINE.fullmatch(line)
    if not match:
        shown = line.decode("utf-8").strip()[:60]
        raise UserError(f"{path}, line {number}: no utterance id in parentheses at the end of '{shown}'")
    return match[2].decode("utf-8"), match[1]


def _refuse_syntax(path: Path, number: int, words: bytes) -> None:
    syntax = REFUSED.search(words)
    if syntax:
        raise UserError(
            f"{path}, line {number}: {syntax[0].decode()!r} has a meaning of its own to sclite and could hide errors; "
            f"write it as '%{syntax[0][0]:02X}' (analysis.scoring.trn.write_trn does)"
        )


def check_same_utterances(reference: Transcript, hypothesis: Transcript) -> None:
    """Raise a `UserError` that names the utterances which only one of the two files has."""
    missing = [utterance for utterance in reference.lines if utterance not in hypothesis.lines]
    extra = [utterance for utterance in hypothesis.lines if utterance not in reference.lines]
    if not missing and not extra:
        return
    differences = []
    if missing:
        differences.append(f"{len(missing)} only in the reference ({first_of(missing)})")
    if extra:
        differences.append(f"{len(extra)} only in the hypothesis ({first_of(extra)})")
    raise UserError(f"{hypothesis.path}: its utterances are not those of {reference.path}: {'; '.join(differences)}")


def first_of(utterances: list[str]) -> str:
    """The first few utterances, as messages name them."""
    return ", ".join(utterances[:SHOWN]) + (", ..." if len(utterances) > SHOWN else "")
