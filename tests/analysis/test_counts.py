"""Counts add up, and no rate can be averaged by mistake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.scoring.counts import Counts

small = st.integers(0, 50)
counts = st.builds(lambda s, d, i, correct: Counts(s, d, i, s + d + correct), small, small, small, small)


@given(st.lists(counts))
def test_the_sum_pools_every_field(parts):
    total = sum(parts)
    if parts:
        assert total == sum(parts, Counts.zero())
        for name in ("sub", "dele", "ins", "ref_words", "errors", "correct"):
            assert getattr(total, name) == sum(getattr(part, name) for part in parts)


@given(counts)
def test_json_brings_the_same_counts_back(value):
    assert set(value.to_json()) == {"sub", "del", "ins", "ref_words"}
    assert Counts.from_json(value.to_json()) == value


def test_the_rate_is_that_of_the_pool_not_the_mean_of_rates():
    short, long = Counts(1, 0, 0, 2), Counts(0, 0, 0, 98)
    assert (short.wer, long.wer) == (50.0, 0.0)
    assert (short + long).wer == 1.0  # 1 error in 100 words; the mean of the rates would be 25


def test_errors_and_correct_words_by_hand():
    assert (Counts(1, 2, 4, 10).errors, Counts(1, 2, 4, 10).correct) == (7, 7)
    assert (Counts(3, 0, 0, 5).errors, Counts(3, 0, 0, 5).correct) == (3, 2)


def test_no_reference_words_no_rate():
    assert Counts(0, 0, 3, 0).wer is None
    assert Counts.zero().wer is None


def test_insertions_can_lift_the_rate_above_a_hundred():
    assert Counts(0, 0, 3, 2).wer == 150.0


@pytest.mark.parametrize("wrong", [(-1, 0, 0, 5), (0, 0, -1, 5), (3, 3, 0, 5)])
def test_impossible_counts_are_refused(wrong):
    with pytest.raises(ValueError, match="negative|more substitutions"):
        Counts(*wrong)


def test_only_counts_can_be_added():
    with pytest.raises(TypeError):
        Counts.zero() + 1
    with pytest.raises(TypeError):
        1 + Counts.zero()
