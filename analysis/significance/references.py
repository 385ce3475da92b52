"""What two systems must have in common to be compared: the reference words, and who speaks them."""

from collections.abc import Iterable

import numpy as np

from analysis.scoring.trn import Transcript
from common.errors import UserError


def check_same_reference(one: Transcript, other: Transcript) -> None:
    """Raises `UserError` for other words, or utterances in another order: errors are compared by their place."""
    if one.lines is not other.lines and [*one.lines.items()] != [*other.lines.items()]:
        raise UserError(f"{one.path} and {other.path}: two systems can only be compared on the same reference")


def number_units(references: Iterable[Transcript]) -> tuple[np.ndarray, int]:
    """The number of the speaker of each utterance, references one after the other: int64; and how many there are.

    A speaker of two test sets is one speaker: the same voice in a clean and a noisy set is drawn together.
    """
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(unit, len(numbers)) for reference in references for unit in reference.units]
    return np.array(rows, dtype=np.int64), len(numbers)
