"""Bootstrap intervals of pooled word error rates.

Words of one speaker share that speaker's difficulties, so speakers are resampled, not words or utterances (Bisani and
Ney, 2004; Liu and Peng, 2020). Where a reference does not know its speakers (`analysis.scoring.speakers`), utterances
stand for themselves. The draw is seeded: equal files give equal intervals. Differences between systems, which are
resampled together, for they heard the same speech, stand in `analysis.significance.contrasts`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.scoring.alignment import Alignment
from analysis.significance.references import number_units

REPLICATES = 10_000
LEVEL = 0.95
SEED = 20250521
FEW_UNITS = 10  # with fewer speakers a percentile interval is too narrow
CHUNK = 1000  # replicates turned into floats at a time, to bound memory


@dataclass(frozen=True)
class Interval:
    """A percentile interval in percent (points of WER), and how many speakers or utterances it was drawn from."""

    low: float
    high: float
    units: int

    @property
    def few_units(self) -> bool:
        """Whether there are too few speakers for the interval to keep its level."""
        return self.units < FEW_UNITS


def wer_interval(sets: Iterable[Alignment]) -> Interval:
    """The interval of one system's WER, pooled over test sets (at least one reference word among them)."""
    sets = list(sets)
    rows, units = number_units(alignment.reference for alignment in sets)
    sums = np.zeros((units, 2), dtype=np.int64)
    np.add.at(sums, rows, np.concatenate([np.stack([one.errors, one.ref_words], axis=1) for one in sets]))
    drawn = drawn_sums(sums)
    drawn = drawn[drawn[:, 1] > 0]  # a draw of none but wordless speakers has no rate
    low, high = np.quantile(100.0 * drawn[:, 0] / drawn[:, 1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), units)


def drawn_sums(sums: np.ndarray) -> np.ndarray:
    """The sums over the speakers of each replicate: float64, (replicates, columns), from (speakers, columns)."""
    return np.concatenate(
        [chunk.astype(np.float64) @ sums for chunk in np.split(_weights(len(sums)), REPLICATES // CHUNK)]
    )


@lru_cache(maxsize=4)
def _weights(units: int) -> np.ndarray:
    """How often each unit is drawn in each replicate: uint16, (replicates, units); the same for every comparison."""
    rng = np.random.default_rng(SEED)
    weights = np.empty((REPLICATES, units), dtype=np.uint16)
    for replicate in weights:
        replicate[:] = np.bincount(rng.integers(units, size=units), minlength=units)
    return weights
