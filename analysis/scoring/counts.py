"""Error counts of a recogniser against its reference, and nothing that could be averaged by mistake.

Counts travel; a rate is made from pooled counts at the last moment. So the word error rate of two test sets is that
of their sum, never the mean of two percentages (the paper's own averages are pooled counts too).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Substitutions, deletions, insertions and reference words of one transcript, or of several added up.

    Raises `ValueError` for counts that no alignment can have: negative ones, or more substitutions and deletions than
    reference words.
    """

    sub: int
    dele: int
    ins: int
    ref_words: int

    def __post_init__(self):
        if min(self.sub, self.dele, self.ins, self.ref_words) < 0:
            raise ValueError(f"a count is negative: {self}")
        if self.sub + self.dele > self.ref_words:
            raise ValueError(f"more substitutions and deletions than reference words: {self}")

    @classmethod
    def zero(cls) -> "Counts":
        """What the sum over no transcripts is."""
        return cls(0, 0, 0, 0)

    @property
    def errors(self) -> int:
        """Substitutions + deletions + insertions."""
        return self.sub + self.dele + self.ins

    @property
    def correct(self) -> int:
        """Reference words that were recognised."""
        return self.ref_words - self.sub - self.dele

    @property
    def wer(self) -> float | None:
        """Word error rate in percent (it may exceed 100); None when there is no reference word."""
        return 100.0 * self.errors / self.ref_words if self.ref_words else None

    def __add__(self, other: "Counts") -> "Counts":
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(
            self.sub + other.sub, self.dele + other.dele, self.ins + other.ins, self.ref_words + other.ref_words
        )

    def __radd__(self, other: object) -> "Counts":
        """Let the built-in `sum`, which begins with the integer 0, pool counts."""
        return self if other == 0 and isinstance(other, int) else NotImplemented

    def to_json(self) -> dict[str, int]:
        """The four counts under their field names: sub, del, ins, ref_words."""
        return {"sub": self.sub, "del": self.dele, "ins": self.ins, "ref_words": self.ref_words}

    @classmethod
    def from_json(cls, value: Mapping[str, int]) -> "Counts":
        """The inverse of `to_json`; further keys (a rate, say) are ignored."""
        return cls(value["sub"], value["del"], value["ins"], value["ref_words"])
