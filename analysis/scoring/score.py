"""Scores transcripts with a normaliser: `Scorer(load_normaliser("hub5-1")).align(reference, hypothesis)`.

Utterances without alternatives, optional words and fragments are aligned by `analysis.scoring.alignment`, the others,
which are few, by the slower `analysis.scoring.lattice`. Both count as sclite does.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.scoring.alignment import Alignment, align
from analysis.scoring.characters import CHARACTERS, in_characters
from analysis.scoring.hub5 import hypothesis_items, reference_items
from analysis.scoring.lattice import Items, align_items, longest, needs_lattice
from analysis.scoring.normalise import Normaliser
from analysis.scoring.trn import Transcript, check_same_utterances
from common.errors import UserError

HESITATIONS = frozenset(b"uh um eh mm hm ah huh ha er oof hee ach eee ew".split())
NOISE = re.compile(rb"\[.*\]|<.*>|%hesitation|.*-")
ESCAPED = {b"(": b"%28", b")": b"%29", b"/": b"%2F"}


class Scorer:
    """Normalises and aligns. What was made of a reference is kept for the life of the object."""

    def __init__(self, normaliser: Normaliser):
        self.normaliser = normaliser
        self._references: dict[Transcript, Transcript | dict[str, Items]] = {}
        self._scored: dict[Transcript, Transcript] = {}
        self._words: dict[bytes, Items] = {}

    def align(self, reference: Transcript, hypothesis: Transcript) -> Alignment:
        """Align every utterance after normalisation.

        `Alignment.reference` holds the reference words as scored; of alternatives the longest.
        Raises `UserError` for files with different utterances and for text that the normaliser cannot read.
        """
        check_same_utterances(reference, hypothesis)
        rules = self.normaliser.rules
        if rules.hub5:
            if reference not in self._references:
                self._references[reference] = self._reference_items(reference)
            items = self._references[reference]
            heard = {name: self._hypothesis_items(hypothesis, name) for name in reference.lines}
            found = align_all(reference.path, items, heard)
            own = replace(found.reference, speakers=reference.speakers, unit=reference.unit)
            same = self._scored.setdefault(reference, own)  # one object for all systems: compared by `is`
            return replace(found, reference=same)
        if rules.lower_case or self.normaliser.score == CHARACTERS:
            if reference not in self._references:
                self._references[reference] = self._plain(reference)
            found = align(self._references[reference], self._plain(hypothesis))
            return replace(found, of_characters=self.normaliser.score == CHARACTERS)
        return align(reference, hypothesis)

    def _plain(self, transcript: Transcript) -> Transcript:
        rules = self.normaliser.rules
        found = _lower(transcript, rules.composed) if rules.lower_case else transcript
        return in_characters(found) if self.normaliser.score == CHARACTERS else found

    def _reference_items(self, reference: Transcript) -> dict[str, Items]:
        """`(uh)` is an optional word, written as it is or as `write_trn` escapes it; a slash is part of its word."""
        items = {}
        for utterance, line in reference.lines.items():
            text = line.replace(b"/", b"%2F").replace(b"%28", b"(").replace(b"%29", b")")
            items[utterance] = self._parsed(
                f"{reference.path}: utterance '{utterance}'", reference_items, text, self.normaliser.reference_glm
            )
        return items

    def _hypothesis_items(self, hypothesis: Transcript, utterance: str) -> Items:
        """Parentheses and slashes of the recogniser itself are letters: only the GLM may offer a choice."""
        words = [re.sub(rb"[()/]", lambda sign: ESCAPED[sign[0]], word) for word in hypothesis.lines[utterance].split()]
        if self.normaliser.rules.drops_noise:
            words = [word for word in words if not is_noise(word.lower())]
        where = f"{hypothesis.path}: utterance '{utterance}'"
        return self._parsed(where, hypothesis_items, words, self.normaliser.hypothesis_glm, self._words)

    @staticmethod
    def _parsed(where: str, read, *arguments) -> Items:
        try:
            return read(*arguments)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


def is_noise(word: bytes) -> bool:
    """Whether a recognised word (lower case) is a fragment, a hesitation or a noise."""
    return word in HESITATIONS or NOISE.fullmatch(word) is not None


def _lower(transcript: Transcript, composed: bool) -> Transcript:
    def lower(line: bytes) -> bytes:
        text = line.decode("utf-8").lower()
        return (unicodedata.normalize("NFC", text) if composed else text).encode("utf-8")

    return replace(transcript, lines={name: lower(line) for name, line in transcript.lines.items()})


def align_all(path: Path, reference: Mapping[str, Items], hypothesis: Mapping[str, Items]) -> Alignment:
    """Align normalised utterances, those that need it by `analysis.scoring.lattice`. `path` names the reference in
    errors."""
    hard = {name for name in reference if needs_lattice(reference[name]) or needs_lattice(hypothesis[name])}
    lines = {name: b" ".join(longest(items)) for name, items in reference.items()}
    heard = Transcript(path, {name: b"" if name in hard else b" ".join(hypothesis[name]) for name in reference})
    easy = align(Transcript(path, {name: b"" if name in hard else text for name, text in lines.items()}), heard)
    operations, totals = [], easy.totals.copy()
    for position, name in enumerate(reference):
        found = easy.operations[easy.starts[position] : easy.starts[position + 1]]
        if name in hard:
            steps, totals[position], words = align_items(reference[name], hypothesis[name])
            heard.lines[name] = b" ".join(words)
            found = np.array(steps, dtype=np.uint8)
        operations.append(found)
    starts = np.cumsum([0, *map(len, operations)]).astype(np.int64)
    joined = np.concatenate([*operations, np.empty(0, np.uint8)])
    return Alignment(Transcript(path, lines), joined, starts, totals, heard)
