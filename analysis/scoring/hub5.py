"""The text filter of NIST's Hub-5 scoring, as `csrfilt.sh -dh` does it before sclite sees a transcript.

Upper case, the rules of a GLM, hyphens inside words turned into spaces (`x-y` becomes two words, the fragment `wor-`
keeps its hyphen), and parentheses around optionally deletable words spread over each of them: `(uh huh)` becomes
`(uh) (huh)`. A reference is filtered line by line. A hypothesis is filtered word by word, as the words of a CTM
file are: there a rule whose source spans two words does not apply.
"""

import re

from analysis.scoring.glm import Glm
from analysis.scoring.lattice import Items, parse

BLANKS = re.compile(rb"[ \t]+")
HYPHEN = re.compile(rb"([^( ])-(?=[^) ])")
OPTIONAL_GROUP = re.compile(rb"(\(\s+[^()\s]+\s+)([^()\s]+)")
OPENED, CLOSED = re.compile(rb"\(\s+"), re.compile(rb"\s+\)")


def filter_text(text: bytes, glm: Glm | None, split_hyphens: bool = True) -> bytes:
    """One line of words, without its id, as csrfilt.sh (version 1.17) writes it.

    Raises `ValueError` for parentheses that are not closed, not opened, or nested.
    """
    check_parentheses(text)
    text = b" " + BLANKS.sub(b" ", b" " + text + b" ").upper().replace(b"(", b"( ").replace(b")", b" )") + b" \n"
    if glm is not None:
        text = glm.apply(text)
    if split_hyphens:
        text = HYPHEN.sub(rb"\1 ", text)
    changed = 1
    while changed:
        text, changed = OPTIONAL_GROUP.subn(rb"\1) ( \2", text, count=1)
    return BLANKS.sub(b" ", CLOSED.sub(b")", OPENED.sub(b"(", text))).strip(b" \t\n")


def check_parentheses(text: bytes) -> None:
    """Raise `ValueError` where the parentheses of optionally deletable words do not pair."""
    depth = 0
    for sign in re.findall(rb"[()]", text):
        depth += 1 if sign == b"(" else -1
        if depth not in (0, 1):
            break
    if depth:
        raise ValueError("the parentheses of optionally deletable words do not pair")


def reference_items(text: bytes, glm: Glm | None) -> Items:
    """The words and alternatives of a reference line. Raises `ValueError` for text that cannot be scored."""
    return parse(filter_text(text, glm).lower())


def hypothesis_items(words: list[bytes], glm: Glm | None, cache: dict[bytes, Items]) -> Items:
    """The words and alternatives of recognised words; `cache` keeps what a word becomes. Raises `ValueError`."""
    items: Items = []
    for word in words:
        if word not in cache:
            cache[word] = _word_items(filter_text(word, glm).lower())
        items += cache[word]
    return items


def _word_items(text: bytes) -> Items:
    """What one CTM word became: slashes part alternatives wherever they stand, braces only mark that there are some."""
    fields = re.sub(rb"([{}])", rb" \1 ", text).split()
    if len(fields) < 2:
        return [*fields]
    alternatives = [re.sub(rb"[{}]", b" ", part).split() for part in b" ".join(fields).split(b"/")]
    if len(alternatives) == 1:
        return [*alternatives[0]]
    if not all(alternatives):
        raise ValueError(f"an empty alternative in '{text.decode()}'")
    return [tuple(alternatives)]
