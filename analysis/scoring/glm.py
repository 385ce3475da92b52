"""Global mapping files (GLM): NIST's rewriting rules for words that may be written in several ways.

    ;; comment flag: the first token of the first line
    * max_nrules = '2500'
    * case_sensitive = 'F'
    UH     => %HESITATION           / [ ] __ [ ]
    GONNA  => [{GONNA / GOING TO}]  / [ ] __ [ ]

A rule `A => B / C __ D` puts B in the place of A where C stands before it and D behind it; brackets or double quotes
keep the spaces at the ends of a part. The text is read once from left to right. At each place the first rule of the
file that fits is applied and the reading goes on behind A: rules never see what other rules wrote, and the order of the
file decides, not the length of A. Contexts are looked up in the text as it was, and may have been rewritten already.

    read_glm("en.glm").apply(b" uh i'm gonna go ")
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError

MAX_RULES = 400  # rfilter1's limit for a file that states none
TRUE = ("T", "YES", "TRUE")
FORMAT = "NIST1"
APPLIES = re.compile(rb";;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*\"([^\"]*)\"")


@dataclass(frozen=True)
class Rule:
    """`source => target / left __ right`."""

    source: bytes
    target: bytes
    left: bytes = b""
    right: bytes = b""


@dataclass
class _Header:
    """What the lines that begin with `*` say."""

    max_rules: int = MAX_RULES
    case_sensitive: bool = True


@dataclass(frozen=True, eq=False)
class Glm:
    """The rules of one file, those for one kind of input, in the order of the file."""

    path: Path
    sha256: str
    """Of the whole file, in hexadecimal."""
    rules: tuple[Rule, ...]
    case_sensitive: bool
    _numbers: dict[bytes, list[int]] = field(default_factory=dict, init=False, repr=False)
    _lengths: dict[int, list[int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        for number, rule in enumerate(self.rules):
            source = self._folded(rule.source)
            self._numbers.setdefault(source, []).append(number)
            lengths = self._lengths.setdefault(source[0], [])
            if len(source) not in lengths:
                lengths.append(len(source))

    def _folded(self, text: bytes) -> bytes:
        return text if self.case_sensitive else text.upper()

    def apply(self, text: bytes) -> bytes:
        """`text` rewritten. Bytes that no rule touches keep their case."""
        searched, written, position = self._folded(text), [], 0
        while position < len(text):
            rule = self._fitting(searched, position)
            if rule is None:
                written.append(text[position : position + 1])
                position += 1
            else:
                written.append(rule.target)
                position += len(rule.source)
        return b"".join(written)

    def _fitting(self, text: bytes, position: int) -> Rule | None:
        """The first rule of the file that fits at `position`."""
        best = None
        for length in self._lengths.get(text[position], ()):
            for number in self._numbers.get(text[position : position + length], ()):
                if (best is None or number < best) and self._in_context(self.rules[number], text, position):
                    best = number
                    break
        return None if best is None else self.rules[best]

    def _in_context(self, rule: Rule, text: bytes, position: int) -> bool:
        left, right = self._folded(rule.left), self._folded(rule.right)
        return text.endswith(left, 0, position) and text.startswith(right, position + len(rule.source))


def read_glm(path: Path | str, kind: str = "trn", side: str = "") -> Glm:
    """Read the rules of a GLM that apply to input of one `kind` ("stm", "ctm", "trn") and `side` ("ref", "hyp").

    A line `;; INPUT_DEPENDENT_APPLICATION = "<regular expression>"` limits the rules below it to the kinds or sides
    that the expression matches (csrfilt.sh, version 1.17); everything else is as rfilter1 2.0 reads it (SCTK 2.4.10).

    Raises `UserError` naming file and line for what rfilter1 stops at too (a rule without `=>`, a `*` line without a
    quoted value, another format than NIST1, more rules than `max_nrules`, no rule at all), and for what it would accept
    without doing what was meant: a rule that replaces nothing, `copy_no_hit = 'F'`.
    """
    path = Path(path)
    lines, digest = _lines(path)
    flag = re.match(rb"[\x21-\x7e]*", lines[0])[0]
    header, rules = _Header(), []
    for number, line in _applicable(path, lines, kind.lower(), side.lower()):
        line = line.rstrip()
        if number == 1 or not line or (flag and line.startswith(flag)):
            continue
        where = f"{path}, line {number}"
        if line.startswith(b"*"):
            _read_header(where, line, header)
            continue
        rules.append(_read_rule(where, line.partition(flag)[0] if flag else line))
        if len(rules) > header.max_rules:
            raise UserError(f"{where}: more rules than 'max_nrules' allows ({header.max_rules}); raise it in the file")
    if not rules:
        raise UserError(f"{path}: holds no rule for {kind} input (its first line only names the sign of comments)")
    return Glm(path, digest, tuple(rules), header.case_sensitive)


def _lines(path: Path) -> tuple[list[bytes], str]:
    try:
        content = path.read_bytes()
        content.decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such GLM file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x})") from None
    if not content.strip():
        raise UserError(f"{path}: an empty GLM file")
    return content.split(b"\n"), hashlib.sha256(content).hexdigest()


def _applicable(path: Path, lines: list[bytes], kind: str, side: str) -> Iterator[tuple[int, bytes]]:
    """The numbered lines that apply to this kind of input."""
    applies = True
    for number, line in enumerate(lines, start=1):
        limit = APPLIES.match(line)
        if limit:
            try:
                expression = re.compile(limit[1].decode().lower())
            except re.error as error:
                raise UserError(f"{path}, line {number}: not a regular expression ({error})") from None
            applies = bool(expression.search(kind) or expression.search(side))
        if applies or number == 1:
            yield number, line


def _read_header(where: str, line: bytes, header: _Header) -> None:
    """rfilter1 looks for the keywords anywhere in the line, for the value between the first two quotes of any kind."""
    quoted = re.search(rb"[\"'](.*?)[\"']", line)
    if not quoted:
        raise UserError(f"{where}: a line that begins with '*' needs a value in quotes")
    value, keywords = quoted[1].decode(), line.upper()
    if b"FORMAT" in keywords and value != FORMAT:
        raise UserError(f"{where}: format '{value}' is not known (only {FORMAT}; rfilter1 knows no other)")
    if b"COPY_NO_HIT" in keywords and value.upper() not in TRUE:
        raise UserError(
            f"{where}: copy_no_hit = '{value}' would drop every word that no rule names; it is not supported"
        )
    if b"MAX_NRULES" in keywords:
        header.max_rules = int(re.match(r"\d*", value.strip())[0] or 0)
    if b"CASE_SENSITIVE" in keywords:
        header.case_sensitive = value.upper() in TRUE


def _read_rule(where: str, line: bytes) -> Rule:
    line = line.strip()
    if not line:
        raise UserError(f"{where}: a comment on a line of its own must begin the line (rfilter1 stops here, too)")
    before, arrow, after = line.partition(b"=>")
    if not arrow:
        raise UserError(f"{where}: a rule without '=>': '{line.decode()[:60]}'")
    target, context = _split_context(b"=>" + after)
    left = right = b""
    if context is not None and b"_" in context:
        slot = context.index(b"_")
        left, right = _part(context[:slot]), _part(context[slot:])
    source = _unbounded(before.strip(), where)
    if not source:
        raise UserError(f"{where}: a rule that replaces nothing: '{line.decode()[:60]}'")
    return Rule(source, _unbounded(_part(target), where), _unbounded(left, where), _unbounded(right, where))


def _split_context(text: bytes) -> tuple[bytes, bytes | None]:
    """The part before the slash of the context, and the context from the slash on, None where there is none.

    The last slash counts, unless an opening bracket and no closing one, or a closing one only after it, follows: so
    `[{A / B}]` alone is cut at its slash, while `[{A / B}] / [ ] __ [ ]` is not.
    """
    slash = text.rfind(b"/")
    if slash < 0:
        return text, None
    opening, closing = text.find(b"[", slash), text.find(b"]", slash)
    if closing < opening:  # find's -1 for "not there" orders as rfilter1's null pointer does
        return text, None
    return text[:slash], text[slash:]


def _part(text: bytes) -> bytes:
    """What follows the first token (the arrow, the slash, the slot); what is glued to that token is lost with it."""
    return re.sub(rb"^\S*", b"", text).strip()


def _unbounded(part: bytes, where: str) -> bytes:
    """A part without its brackets or double quotes."""
    if part[:1] + part[-1:] not in (b"[]", b'""'):
        return part
    if len(part) == 1:
        raise UserError(f'{where}: a single quotation mark cannot stand for itself; write ["]')
    return part[1:-1]
