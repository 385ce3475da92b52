"""What stands beside MAPSSWE: an exact test for few segments, and Holm's correction for many comparisons.

MAPSSWE takes the mean of the segment differences as normal, which is weak below 30 segments. The sign-flip test needs
no such assumption: if two systems are equally good, each segment's difference could as well have had the other
sign, so all sign patterns are equally likely, and p is the share of them whose sum is at least as far from zero as the
observed one.

    test = significance([(alignment of A, alignment of B)])
    test.p, test.significant      # by the exact test where MAPSSWE is weak, or abstains
    holm([0.01, 0.04, 0.03])      # [0.03, 0.06, 0.06]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.scoring.alignment import Alignment
from analysis.significance.mapsswe import Mapsswe, of_differences, segment_differences

ALPHA = 0.05


@dataclass(frozen=True)
class Significance:
    """MAPSSWE of A against B, and the exact sign-flip p where MAPSSWE's is weak (else None)."""

    mapsswe: Mapsswe
    exact_p: float | None

    @property
    def p(self) -> float:
        """The two-sided p to rely on: the exact one where there is one."""
        return self.mapsswe.p if self.exact_p is None else self.exact_p

    @property
    def significant(self) -> bool:
        """Whether A and B differ: by the exact p where there is one, else by sc_stats' own decision (|Z| > 1.960)."""
        return self.mapsswe.significant if self.exact_p is None else self.exact_p < ALPHA

    @property
    def significant_increase(self) -> bool:
        """Whether A makes more errors than B and either test finds that: what costs the paper's `*`. The exact test
        joins in where MAPSSWE is weak or abstains; it can cost a star, and gives none back."""
        by_exact = self.exact_p is not None and self.exact_p < ALPHA
        return self.mapsswe.mean > 0 and (self.mapsswe.significant or by_exact)


def significance(pairs: Iterable[tuple[Alignment, Alignment]]) -> Significance:
    """Test A against B over one or more test sets, whose segments are put together.

    The exact test joins in below 30 segments, and where every segment differs equally, of which MAPSSWE says nothing.
    """
    differences = np.concatenate([segment_differences(a, b) for a, b in pairs])
    test = of_differences(differences)
    weak = test.few_segments or test.constant_difference
    return Significance(test, sign_flip_p(differences) if weak else None)


def sign_flip_p(differences: Sequence[int]) -> float:
    """The exact two-sided p of the sign-flip test of integer `differences`, one a segment; 1 where there are none.

    The distribution of the sum is built by convolution, one segment after the other. Its probabilities are multiples
    of 2^-n, which floats hold exactly for n below 53 segments. Source: Fisher, The Design of Experiments (1935), 21.
    """
    sizes = [abs(int(difference)) for difference in differences if difference]
    reach = sum(sizes)
    chance = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chance[reach] = 1.0
    for size in sizes:
        moved = np.zeros_like(chance)
        moved[size:] += 0.5 * chance[: len(chance) - size]
        moved[: len(chance) - size] += 0.5 * chance[size:]
        chance = moved
    sums = np.arange(-reach, reach + 1)
    return min(1.0, float(chance[np.abs(sums) >= abs(int(sum(differences)))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order: below 0.05 the family-wise error is held at 5 %.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
