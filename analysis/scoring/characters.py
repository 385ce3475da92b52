"""Scoring by characters, for languages that write no spaces between words: every character is scored as a word is.

As with `sclite -c`, the space between words counts for nothing. A character is a Unicode code point.
"""

from dataclasses import replace

from analysis.scoring.trn import Transcript, unescape

WORDS, CHARACTERS = "words", "characters"
UNITS = (WORDS, CHARACTERS)


def spelled(text: str) -> str:
    """The characters of a text with a space between each two."""
    return " ".join(each for each in text if not each.isspace())


def in_characters(transcript: Transcript) -> Transcript:
    """A transcript whose words are its characters; what the file writes for signs of sclite's syntax is such a sign."""
    return replace(transcript, lines={name: _spelled(line) for name, line in transcript.lines.items()})


def _spelled(line: bytes) -> bytes:
    return spelled("".join(unescape(word.decode("utf-8")) for word in line.split())).encode("utf-8")
