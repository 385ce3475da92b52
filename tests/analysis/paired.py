"""The paired bootstrap over speakers by its definition: one draw of speakers after the other, for both systems."""

from collections.abc import Sequence

import numpy as np

from analysis.scoring.alignment import Alignment
from analysis.significance.intervals import LEVEL, REPLICATES, SEED


def by_definition(pairs: Sequence[tuple[Alignment, Alignment]]) -> tuple[float, float]:
    """The interval of A's minus B's WER, pooled over test sets, each given as `(alignment of A, of B)`."""
    of: dict[str, np.ndarray] = {}
    for a, b in pairs:
        for unit, *numbers in zip(a.reference.units, a.errors, b.errors, a.ref_words, strict=True):
            of[unit] = of.get(unit, np.zeros(3)) + numbers
    sums, rng = np.array([*of.values()]), np.random.default_rng(SEED)
    drawn = (sums[rng.integers(len(sums), size=len(sums))].sum(axis=0) for _ in range(REPLICATES))
    low, high = np.quantile([100 * (a - b) / words for a, b, words in drawn], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
