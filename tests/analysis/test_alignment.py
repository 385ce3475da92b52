"""The alignment: cheapest, ties as NIST breaks them, letters folded as NIST folds them."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.scoring import segments
from analysis.scoring.alignment import CORRECT, DELETION, INSERTION, SUBSTITUTION, align
from analysis.scoring.counts import Counts
from analysis.scoring.trn import Transcript, read_trn
from analysis.scoring.words import number_words
from common.errors import UserError

COST = {CORRECT: 0, SUBSTITUTION: 4, DELETION: 3, INSERTION: 3}
sentence = st.lists(st.sampled_from("abc"), max_size=7)


def operations_of(reference: list[str], hypothesis: list[str]) -> list[int]:
    sides = (Transcript("x", {"s-1": " ".join(words).encode()}) for words in (reference, hypothesis))
    return align(*sides).operations.tolist()


def letters(reference: str, hypothesis: str) -> str:
    return "".join("CSDI"[operation] for operation in operations_of(reference.split(), hypothesis.split()))


@given(sentence, sentence)
@settings(deadline=None)
def test_operations_lead_from_one_to_the_other_at_least_cost(reference, hypothesis):
    operations = operations_of(reference, hypothesis)
    i = j = 0
    for operation in operations:
        if operation in (CORRECT, SUBSTITUTION):
            assert (reference[i] == hypothesis[j]) == (operation == CORRECT)
        i += operation != INSERTION
        j += operation != DELETION
    assert (i, j) == (len(reference), len(hypothesis))

    @cache
    def cheapest(m: int, n: int) -> int:
        """The cost of the first m reference and n hypothesis words, straight from the definition."""
        if m == 0 or n == 0:
            return 3 * (m + n)
        diagonal = cheapest(m - 1, n - 1) + (0 if reference[m - 1] == hypothesis[n - 1] else 4)
        return min(diagonal, cheapest(m - 1, n) + 3, cheapest(m, n - 1) + 3)

    assert sum(COST[operation] for operation in operations) == cheapest(len(reference), len(hypothesis))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "operations"),
    [
        ("", "", ""),
        ("a b", "", "DD"),
        ("", "a b", "II"),
        ("a b c", "a b c", "CCC"),
        ("a", "b", "S"),
        # from the end: the diagonal is taken where it costs no more than a gap, so the single word matches the last
        ("a a", "a", "DC"),
        ("a", "a a", "IC"),
        # three substitutions cost 12, as does deleting two, matching w11 and inserting two: NIST takes the diagonal
        ("w12 w4 w11", "w11 w2 w30", "SSS"),
        # insert, match, delete (6) beats two substitutions (8)
        ("a b", "c a", "ICD"),
    ],
)
def test_ties_worked_out_by_hand(reference, hypothesis, operations):
    assert letters(reference, hypothesis) == operations


def test_counts_of_a_file(tmp_path):
    (tmp_path / "r.trn").write_text("a b c (s-1)\nd e (s-2)\n (s-3)\n")
    (tmp_path / "h.trn").write_text("x y (s-3)\na c (s-1)\nd f g (s-2)\n")
    alignment = align(read_trn(tmp_path / "r.trn"), read_trn(tmp_path / "h.trn"))
    assert alignment.counts == Counts(sub=1, dele=1, ins=3, ref_words=5)
    assert alignment.errors.tolist() == [1, 2, 2]
    assert alignment.ref_words.tolist() == [3, 2, 0]


def test_ascii_case_is_folded_and_no_other(tmp_path):
    (tmp_path / "r.trn").write_text("Hello É (s-1)\n", encoding="utf-8")
    (tmp_path / "h.trn").write_text("hELLO é (s-1)\n", encoding="utf-8")
    counts = align(read_trn(tmp_path / "r.trn"), read_trn(tmp_path / "h.trn")).counts
    assert counts == Counts(1, 0, 0, 2)


@given(st.lists(st.lists(st.binary(max_size=3), max_size=5), min_size=1))
@settings(deadline=None)
def test_words_get_equal_numbers_exactly_where_they_are_equal(lines):
    text = b"".join(b" ".join(line).replace(b"\n", b" ") + b"\n" for line in lines)
    expected = [line.lower().split() for line in text.split(b"\n")[:-1]]
    numbers, starts = number_words(np.frombuffer(text, dtype=np.uint8))
    assert np.diff(starts).tolist() == [len(line) for line in expected]
    words = [word for line in expected for word in line]
    first = {word: number for word, number in zip(words, numbers.tolist(), strict=True)}
    assert numbers.tolist() == [first[word] for word in words]
    assert len(set(first.values())) == len(first)


def test_only_ascii_white_space_separates_words(tmp_path):
    (tmp_path / "r.trn").write_text("a\u00a0b c (s-1)\n", encoding="utf-8")
    assert align(read_trn(tmp_path / "r.trn"), read_trn(tmp_path / "r.trn")).counts == Counts(0, 0, 0, 2)


def test_different_utterances_are_refused(tmp_path):
    (tmp_path / "r.trn").write_text("a (s-1)\n")
    (tmp_path / "h.trn").write_text("a (s-2)\n")
    with pytest.raises(UserError, match="only in the reference"):
        align(read_trn(tmp_path / "r.trn"), read_trn(tmp_path / "h.trn"))


def test_the_segments_use_the_same_operation_numbers():
    assert (segments.CORRECT, segments.INSERTION) == (CORRECT, INSERTION)
