"""Normalisers: what is done to reference and hypothesis before they are compared. Named, versioned, applied on scoring.

Transcripts on disk stay as they were spoken and recognised, so they can be scored again with another normaliser:

    python -m analysis.wer REF.trn HYP.trn --normaliser hub5-1 --glm en20000405_hub5.glm

A corpus names its normaliser in `config/corpora.yaml`, an experiment may name another. What a name stands for never
changes: a change of behaviour is a new version.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from analysis.scoring.characters import CHARACTERS, UNITS, WORDS
from analysis.scoring.glm import Glm, read_glm
from common.errors import UserError, unknown

IDENTITY = "identity-1"
BY_CHARACTERS = (
    "CER: the character error rate; characters are scored as words are, spaces between words count for nothing, and a "
    "segment of the significance test is a whole utterance."
)
HESITATIONS = Path(__file__).parent / "hesitations.glm"


@dataclass(frozen=True)
class Rules:
    """What a name stands for, in one sentence, and which parts of the machinery it uses."""

    description: str
    lower_case: bool = False
    """Unicode letters are compared in lower case; ASCII letters are by every normaliser, as sclite does."""
    composed: bool = False
    """Letters with marks are compared in Unicode's normal form C, whichever way they are written."""
    hub5: bool = False
    """The filter, the optional words and the fragments of NIST's Hub-5 scoring."""
    drops_noise: bool = False
    """Fragments, hesitations and noises are taken out of the hypothesis first."""


NORMALISERS = {
    IDENTITY: Rules("words as they stand, ASCII letters in one case"),
    "librispeech-1": Rules("words as they stand, letters in one case", lower_case=True),
    "unicode-1": Rules(
        "words as they stand, in Unicode's normal form C, letters of every script in one case",
        lower_case=True,
        composed=True,
    ),
    "hub5-1": Rules("as NIST's hubscr.pl -h hub5 -l english: GLM, optional words, fragments", hub5=True),
    "hub5_recipe-1": Rules(
        "as hub5-1, with fragments, hesitations and [noises] taken out of the hypothesis first, as the usual "
        "Switchboard recipes do",
        hub5=True,
        drops_noise=True,
    ),
}


@dataclass(frozen=True, eq=False)
class Normaliser:
    """A normaliser ready for use. `score` says of what error rates are made: words, or characters."""

    name: str
    rules: Rules
    score: str = WORDS
    reference_glm: Glm | None = None
    hypothesis_glm: Glm | None = None

    @property
    def note(self) -> str:
        """One sentence for the notes of a table."""
        glm = self.reference_glm
        rules = f"; GLM {glm.path.name}, SHA-256 {glm.sha256[:12]}" if glm else ""
        text = f"Text normaliser: {self.name} ({self.rules.description}{rules})."
        return f"{text} {BY_CHARACTERS}" if self.score == CHARACTERS else text

    @property
    def rate(self) -> str:
        """What the error rate is called."""
        return "CER" if self.score == CHARACTERS else "WER"


def check_name(name: str, where: str = "") -> Rules:
    """What a normaliser's name stands for. Raises `UserError` with the closest name."""
    if name not in NORMALISERS:
        raise unknown("normaliser", name, NORMALISERS, where)
    return NORMALISERS[name]


def load_normaliser(
    name: str = IDENTITY, glm: Path | str | None = None, where: str = "", score: str = WORDS
) -> Normaliser:
    """The normaliser `name`, with the rules of the GLM file `glm`, for a `score` of words or characters.

    Without a GLM, the Hub-5 normalisers map hesitations to one class by `analysis/scoring/hesitations.glm`. As in
    hubscr.pl, the rules that the file limits to STM or CTM input are used for the reference or the hypothesis.

    Raises `UserError` for an unknown name, a GLM for a normaliser that takes none, a GLM that cannot be read, and for
    characters with one of the Hub-5 normalisers, whose rules are about words.
    """
    rules = check_name(name, where)
    if rules.hub5 and score == CHARACTERS:
        raise UserError(f"{where}: normaliser '{name}' has rules about words; score words, or name another normaliser")
    if not rules.hub5:
        if glm is not None:
            takers = ", ".join(key for key, value in NORMALISERS.items() if value.hub5)
            raise UserError(f"{glm}: normaliser '{name}' takes no GLM; those that do: {takers}")
        return Normaliser(name, rules, score)
    path = Path(glm or HESITATIONS)
    return Normaliser(name, rules, score, read_glm(path, "stm", "ref"), read_glm(path, "ctm", "hyp"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--normaliser`, `--glm` and `--score`, for every command that scores."""
    parser.add_argument("--normaliser", default=IDENTITY, metavar="NAME", help=f"one of {', '.join(NORMALISERS)}")
    parser.add_argument("--glm", type=Path, metavar="FILE", help="NIST global mapping file, for the hub5 normalisers")
    parser.add_argument("--score", choices=UNITS, default=WORDS, help="of what errors are counted (default: words)")
