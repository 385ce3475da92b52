"""Matched Pair Sentence Segment Word Error test between two systems, exactly as NIST's sc_stats computes it.

The test splits every utterance into segments that both systems leave with at least two correct words on either side, so
that errors of different segments can be taken as independent, and asks whether the mean difference of the errors in a
segment is zero (Gillick and Cox, 1989). `mean` is that of A's minus B's errors: positive when A makes more.

It belongs to one training of each system: the same sentences recognised by another seed are no new evidence, so their
segments must not be put together (`analysis.significance.comparison` tests within each seed). Where it says nothing, or
its normal approximation is weak, `analysis.significance.exact` sets an exact test beside it, whose p then counts.
"""

import math
from dataclasses import dataclass

from analysis.significance.references import check_same_reference

MIN_CORRECT = 2  # words that both systems must have correct in a row before a segment is closed
CRITICAL_Z = 1.960  # sc_stats' table; |Z| must exceed it
FEW_SEGMENTS = 30  # below that the normal approximation is weak


@dataclass(frozen=True)
class Mapsswe:
    """The outcome of one test. `mean` and `sd` are errors a segment; `p` is two-sided, of the normal distribution."""

    segments: int
    mean: float
    sd: float
    z: float
    p: float
    significant: bool
    constant_difference: bool
    """Every segment differs by the same number of errors, so sc_stats (and we) cannot test: z = 0, p = 1."""

    @property
    def few_segments(self) -> bool:
        """Whether the normal approximation behind `p` is weak."""
        return self.segments < FEW_SEGMENTS

    def to_json(self) -> dict:
        """The six figures; `constant_difference` joins them only where it is true."""
        keys = ["segments", "mean", "sd", "z", "p", "significant"] + ["constant_difference"] * self.constant_difference
        return {key: getattr(self, key) for key in keys}


def mapsswe(pairs) -> Mapsswe:
    """Test system A against system B over one or more test sets, whose segments are put together.

    `pairs` holds one `(Alignment of A, Alignment of B)` for each test set.
    Raises `UserError` when the two were aligned with different references.
    """
    import numpy as np

    return of_differences(np.concatenate([segment_differences(a, b) for a, b in pairs]))


def segment_differences(a, b):
    """A's minus B's errors in each segment of one test set (int64), given their two `Alignment`s. Scored by characters
    an utterance is one segment."""
    from analysis.scoring.segments import segments

    check_same_reference(a.reference, b.reference)
    # Two correct characters part no segments: the errors of a word, and of its neighbours, belong together.
    min_correct = len(a.operations) + 1 if a.of_characters else MIN_CORRECT
    errors = segments(a.operations, a.starts, b.operations, b.starts, min_correct)
    return errors[:, 0] - errors[:, 1]


def of_differences(differences) -> Mapsswe:
    """Test whether the mean of integer `differences`, one a segment, is zero (sc_stats: statdist.c, mtchprs.c).

    Where all are equal their variance is 0 and so is Z, whatever the difference: kept, as sc_stats does it, but marked.
    """
    count = len(differences)
    mean = float(differences.mean()) if count else 0.0
    if count == 0 or (differences == differences[0]).all():
        return Mapsswe(count, mean, sd=0.0, z=0.0, p=1.0, significant=False, constant_difference=True)
    sd = float(differences.std(ddof=1))
    z = mean / (sd / math.sqrt(count))
    p = math.erfc(abs(z) / math.sqrt(2))
    return Mapsswe(count, mean, sd, z, p, abs(z) > CRITICAL_Z, constant_difference=False)


def shown_p(p: float) -> str:
    """A p value as tables and sentences print it: `0.034`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def warnings(result: Mapsswe) -> list[str]:
    """What a reader of the outcome has to know."""
    found = []
    if result.constant_difference and result.mean:
        found.append("every segment has the same difference: the test says nothing (z = 0, p = 1 by convention)")
    if 0 < result.segments < FEW_SEGMENTS:
        found.append(f"under {FEW_SEGMENTS} segments the normal approximation behind p is weak")
    return found
