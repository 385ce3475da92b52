"""MAPSSWE: segments and Z worked out by hand, and what has to hold for any two systems."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.scoring.alignment import Alignment, align
from analysis.scoring.trn import Transcript
from analysis.significance.mapsswe import mapsswe, of_differences, segment_differences, warnings
from common.errors import UserError

sentence = st.lists(st.sampled_from("abcd"), max_size=8)
corpus = st.lists(st.tuples(sentence, sentence, sentence), min_size=1, max_size=6)


def transcript(sentences, name="x") -> Transcript:
    return Transcript(name, {f"s-{n}": " ".join(words).encode() for n, words in enumerate(sentences)})


def aligned(triples) -> tuple[Alignment, Alignment]:
    reference, a, b = (transcript(side) for side in zip(*triples, strict=True))
    return align(reference, a), align(reference, b)


def differences(reference: str, a: str, b: str) -> list[int]:
    return segment_differences(*aligned([(reference.split(), a.split(), b.split())])).tolist()


@pytest.mark.parametrize(
    ("reference", "a", "b", "expected"),
    [
        ("a b c d e", "a b c d e", "a b c d e", []),
        ("a b c d e", "a x c d e", "a b c d e", [1]),
        ("a b c d e f", "a x c d e y", "a b c d e f", [1, 1]),  # two correct words between: two segments
        ("a b c d e", "a x c y e", "a b c d e", [2]),  # one correct word between: one segment
        ("a b c d e f", "a x c d e f", "a b c d y f", [1, -1]),
        ("a b c d e", "a x c d e", "a b c y e", [0]),  # both wrong within two words: one segment, equal errors
        ("a b c d", "z a b c d", "a b c d", [1]),  # an insertion before the first word
        ("a b c d", "a b c d", "a b c d z z", [-2]),  # and after the last, of either system
        ("a b c d", "a b c d z z", "a b c d", [2]),
        ("a b c d", "a x c z d", "a b c d", [2]),  # an insertion breaks the run of correct words
        ("", "x", "", [1]),
        ("a b", "", "a b", [2]),
    ],
)
def test_segments_worked_out_by_hand(reference, a, b, expected):
    assert differences(reference, a, b) == expected


def test_z_worked_out_by_hand():
    # differences 1, 1, 0: mean 2/3, sum of squares 2/3, sd sqrt(1/3), Z = (2/3) / (sqrt(1/3) / sqrt(3)) = 2
    result = of_differences(np.array([1, 1, 0]))
    assert (result.segments, result.significant) == (3, True)
    assert result.mean == pytest.approx(2 / 3)
    assert result.sd == pytest.approx(math.sqrt(1 / 3))
    assert result.z == pytest.approx(2.0)
    assert result.p == pytest.approx(2 * stats.norm.sf(2.0))


def test_the_critical_value_is_that_of_nists_table():
    # 25 segments of +1 and 13 of -1 among 207 give Z = 1.95997: beyond the exact quantile 1.95996, below NIST's 1.960
    result = of_differences(np.array([1] * 25 + [-1] * 13 + [0] * 169))
    assert result.z == pytest.approx(1.959972, abs=1e-6)
    assert result.p < 0.05 and not result.significant


@pytest.mark.parametrize("value", [0, 2, -1])
def test_a_constant_difference_is_marked_and_never_nan(value):
    result = of_differences(np.full(40, value))
    assert (result.mean, result.sd, result.z, result.p) == (value, 0.0, 0.0, 1.0)
    assert result.constant_difference and not result.significant
    assert result.to_json()["constant_difference"] is True
    assert any("same difference" in warning for warning in warnings(result)) == (value != 0)


def test_one_segment_has_no_variance():
    assert of_differences(np.array([3])).to_json() == {
        "segments": 1,
        "mean": 3.0,
        "sd": 0.0,
        "z": 0.0,
        "p": 1.0,
        "significant": False,
        "constant_difference": True,
    }


def test_few_segments_are_warned_of():
    few, enough = of_differences(np.array([1, 0] * 14)), of_differences(np.array([1, 0] * 15))
    assert (few.few_segments, enough.few_segments) == (True, False)
    assert any("normal approximation" in warning for warning in warnings(few))
    assert not warnings(enough)


@given(corpus)
@settings(deadline=None)
def test_exchanging_the_systems_turns_the_sign(triples):
    a, b = aligned(triples)
    there, back = mapsswe([(a, b)]), mapsswe([(b, a)])
    assert (there.mean, there.z) == pytest.approx((-back.mean, -back.z))
    assert (there.p, there.segments, there.sd) == pytest.approx((back.p, back.segments, back.sd))


@given(corpus)
@settings(deadline=None)
def test_identical_systems_never_differ(triples):
    a, _ = aligned(triples)
    result = mapsswe([(a, a)])
    assert (result.mean, result.z, result.p, result.significant) == (0.0, 0.0, 1.0, False)
    faultless = align(a.reference, a.reference)
    assert mapsswe([(faultless, faultless)]).segments == 0


@given(corpus, st.randoms())
@settings(deadline=None)
def test_the_order_of_sentences_does_not_matter(triples, shuffler: random.Random):
    shuffled = [*triples]
    shuffler.shuffle(shuffled)
    one, other = mapsswe([aligned(triples)]), mapsswe([aligned(shuffled)])
    assert one.segments == other.segments
    assert (one.mean, one.sd, one.z, one.p) == pytest.approx((other.mean, other.sd, other.z, other.p))


@given(corpus)
@settings(deadline=None)
def test_no_error_falls_between_segments(triples):
    a, b = aligned(triples)
    assert segment_differences(a, b).sum() == a.counts.errors - b.counts.errors


@given(corpus, corpus)
@settings(deadline=None)
def test_test_sets_put_together_are_their_segments_put_together(first, second):
    pairs = [aligned(first), aligned(second)]
    both = of_differences(np.concatenate([segment_differences(a, b) for a, b in pairs]))
    assert mapsswe(pairs) == both
    assert both.segments == sum(mapsswe([pair]).segments for pair in pairs)


def test_another_reference_is_refused():
    a, _ = aligned([(["a", "b"], ["a"], ["b"])])
    b, _ = aligned([(["a", "c"], ["a"], ["b"])])
    with pytest.raises(UserError, match="same reference"):
        mapsswe([(a, b)])
