"""The sign-flip test against full enumeration, Holm's correction against hand calculations."""

import random
from itertools import product

import pytest

from analysis.scoring.alignment import align
from analysis.scoring.trn import Transcript
from analysis.significance.exact import holm, sign_flip_p, significance


def enumerated(differences: list[int]) -> float:
    """The same p by going through all sign patterns."""
    observed = abs(sum(differences))
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(abs(total) >= observed for total in sums) / len(sums)


@pytest.mark.parametrize("seed", range(30))
def test_sign_flip_equals_full_enumeration(seed):
    rng = random.Random(seed)
    differences = [rng.randint(-4, 4) for _ in range(rng.randint(1, 13))]
    assert sign_flip_p(differences) == enumerated(differences)  # exactly: all are multiples of 2^-13


@pytest.mark.parametrize(
    ("differences", "p"),
    [([], 1.0), ([0, 0], 1.0), ([3], 1.0), ([1] * 5, 2 / 32), ([-2, -1], 0.5), ([1, -1], 1.0), ([1] * 29, 2**-28)],
)
def test_sign_flip_by_hand(differences, p):
    assert sign_flip_p(differences) == p


def test_sign_flip_approaches_the_normal_distribution():
    rng = random.Random(1)
    differences = [rng.choice((-2, -1, 1, 2, 2)) for _ in range(400)]
    z = sum(differences) / sum(d * d for d in differences) ** 0.5
    from statistics import NormalDist

    assert sign_flip_p(differences) == pytest.approx(2 * NormalDist().cdf(-abs(z)), rel=0.1)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    assert holm([0.04, 0.001, 0.04]) == pytest.approx([0.08, 0.003, 0.08])


def test_holm_holds_the_family_wise_error():
    rng = random.Random(2)
    wrong = sum(min(holm([rng.random() for _ in range(16)])) < 0.05 for _ in range(4000))
    assert wrong / 4000 == pytest.approx(0.05, abs=0.012)


def compared(differing: int, both: int = 0):
    """A against B: A makes one error in each of `differing` utterances; both make one in `both` more."""
    reference = Transcript("ref", {f"s{n}-1": b"a b c d" for n in range(differing + both)})
    a = Transcript("a", dict.fromkeys(reference.lines, b"a x c d"))
    b = Transcript("b", {u: b"a b c d" if n < differing else b"a x c d" for n, u in enumerate(reference.lines)})
    return significance([(align(reference, a), align(reference, b))])


def test_the_exact_p_stands_in_where_mapsswe_is_weak():
    few = compared(6, both=2)
    assert few.mapsswe.segments == 8 and few.p == few.exact_p == 2 / 2**6
    many = compared(20, both=20)
    assert many.exact_p is None and many.p == many.mapsswe.p < 0.05
    constant = compared(40)  # MAPSSWE says nothing at all
    assert constant.mapsswe.p == 1.0 and constant.p == 2**-39
