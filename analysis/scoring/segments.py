"""Segments of the Matched Pair Sentence Segment Word Error test, compiled.

Both alignments are walked in step over the reference words. A segment opens with the first error of either system and
closes when both have had `min_correct` reference words in a row correct, with no insertion between, or when
the utterance ends. Segments follow sc_stats (SCTK, mtchprs.c); its two boundary words at either end hold no
error, so only what lies between is counted here.
"""

import numba
import numpy as np

CORRECT, INSERTION = 0, 3  # as in analysis.scoring.alignment, which checks them


@numba.njit(cache=True)
def segments(operations_a, starts_a, operations_b, starts_b, min_correct):
    """The errors of A and of B in each segment: int64, (segments, 2)."""
    found = np.empty((len(operations_a) + len(operations_b), 2), dtype=np.int64)
    count = 0
    for u in range(len(starts_a) - 1):
        a, end_a = starts_a[u], starts_a[u + 1]
        b, end_b = starts_b[u], starts_b[u + 1]
        errors_a, errors_b, correct_in_a_row = 0, 0, 0
        while a < end_a or b < end_b:
            inserted_a = _insertions(operations_a, a, end_a)
            inserted_b = _insertions(operations_b, b, end_b)
            if inserted_a + inserted_b > 0:
                errors_a += inserted_a
                errors_b += inserted_b
                a += inserted_a
                b += inserted_b
                correct_in_a_row = 0
            if a >= end_a or b >= end_b:  # both at once, for both walk over the same reference words
                break
            wrong_a, wrong_b = operations_a[a] != CORRECT, operations_b[b] != CORRECT
            errors_a += wrong_a
            errors_b += wrong_b
            correct_in_a_row = 0 if wrong_a or wrong_b else correct_in_a_row + 1
            a += 1
            b += 1
            if correct_in_a_row >= min_correct and errors_a + errors_b > 0:
                found[count, 0], found[count, 1] = errors_a, errors_b
                count += 1
                errors_a, errors_b = 0, 0
        if errors_a + errors_b > 0:
            found[count, 0], found[count, 1] = errors_a, errors_b
            count += 1
    return found[:count].copy()


@numba.njit(cache=True)
def _insertions(operations, position, end):
    """How many insertions stand at `position`."""
    count = 0
    while position + count < end and operations[position + count] == INSERTION:
        count += 1
    return count
