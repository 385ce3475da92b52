"""Alignment of hypotheses with their references, exactly as NIST's sclite aligns them.

A substitution costs 4, a deletion and an insertion 3 each. Of equally cheap ways sclite takes the diagonal first, then
the insertion, then the deletion; the choice decides where errors stand, and with it the segments of the significance
test, and now and then even the totals. ASCII letters are compared in lower case. The inner loops are compiled by
numba, and the compiled code is cached on disk.

    reference = read_trn("ref.trn")
    align(reference, read_trn("hyp.trn")).counts
"""

from dataclasses import dataclass

import numba
import numpy as np

from analysis.scoring.counts import Counts
from analysis.scoring.trn import Transcript, check_same_utterances
from analysis.scoring.words import number_words

CORRECT, SUBSTITUTION, DELETION, INSERTION = range(4)
COST_SUBSTITUTION, COST_GAP = 4, 3


@dataclass(frozen=True, eq=False)
class Alignment:
    """How every utterance of one hypothesis file matches the reference, in the order of the reference file."""

    reference: Transcript
    operations: np.ndarray
    """All utterances' operations one after the other: uint8, CORRECT, SUBSTITUTION, DELETION or INSERTION."""
    starts: np.ndarray
    """Utterance u has `operations[starts[u]:starts[u + 1]]`: int64, one longer than there are utterances."""
    totals: np.ndarray
    """For each utterance its correct words, substitutions, deletions, insertions: int64, (utterances, 4)."""
    hypothesis: Transcript | None = None
    """The recognised words as they were scored, one for each operation but the deletions."""
    of_characters: bool = False
    """Words are characters here (`analysis.scoring.characters`): neighbours are no independent trials."""

    @property
    def counts(self) -> Counts:
        """The counts of all utterances together."""
        correct, sub, dele, ins = (int(total) for total in self.totals.sum(axis=0))
        return Counts(sub, dele, ins, correct + sub + dele)

    @property
    def errors(self) -> np.ndarray:
        """The errors of each utterance: int64, (utterances,)."""
        return self.totals[:, SUBSTITUTION:].sum(axis=1)

    @property
    def ref_words(self) -> np.ndarray:
        """The reference words of each utterance: int64, (utterances,)."""
        return self.totals[:, : DELETION + 1].sum(axis=1)


def align(reference: Transcript, hypothesis: Transcript) -> Alignment:
    """Align every utterance. Raises `UserError` when the two files do not hold the same utterances."""
    check_same_utterances(reference, hypothesis)
    lines = [*reference.lines.values(), *(hypothesis.lines[utterance] for utterance in reference.lines), b""]
    numbers, starts = number_words(np.frombuffer(b"\n".join(lines), dtype=np.uint8))
    utterances = len(reference.lines)
    return Alignment(reference, *_align_all(numbers, starts[: utterances + 1], starts[utterances:]), hypothesis)


@numba.njit(cache=True)
def _align_all(words, ref_starts, hyp_starts):
    utterances = len(ref_starts) - 1
    operations = np.empty(len(words), dtype=np.uint8)
    starts = np.zeros(utterances + 1, dtype=np.int64)
    totals = np.zeros((utterances, 4), dtype=np.int64)
    for u in range(utterances):
        reference = words[ref_starts[u] : ref_starts[u + 1]]
        hypothesis = words[hyp_starts[u] : hyp_starts[u + 1]]
        best = _best_steps(reference, hypothesis)
        end = _trace_back(best, reference, hypothesis, operations, starts[u], totals[u])
        starts[u + 1] = end
    return operations[: starts[utterances]].copy(), starts, totals


@numba.njit(cache=True)
def _best_steps(reference, hypothesis):
    """The last operation of the cheapest way to every cell: uint8, (reference words + 1, hypothesis words + 1)."""
    rows, columns = len(reference) + 1, len(hypothesis) + 1
    best = np.empty((rows, columns), dtype=np.uint8)
    cost = np.empty(columns, dtype=np.int64)  # of the row above, overwritten from the left
    for j in range(columns):
        cost[j] = COST_GAP * j
        best[0, j] = INSERTION
    for i in range(1, rows):
        diagonal_cost = cost[0]
        cost[0] = COST_GAP * i
        best[i, 0] = DELETION
        for j in range(1, columns):
            same = reference[i - 1] == hypothesis[j - 1]
            diagonal = diagonal_cost + (0 if same else COST_SUBSTITUTION)
            deletion = cost[j] + COST_GAP
            insertion = cost[j - 1] + COST_GAP
            diagonal_cost = cost[j]
            if diagonal <= deletion and diagonal <= insertion:
                cost[j] = diagonal
                best[i, j] = CORRECT if same else SUBSTITUTION
            elif deletion < insertion:
                cost[j] = deletion
                best[i, j] = DELETION
            else:
                cost[j] = insertion
                best[i, j] = INSERTION
    return best


@numba.njit(cache=True)
def _trace_back(best, reference, hypothesis, operations, start, totals):
    """Write the operations from `start` on, add them to `totals`, return where they end."""
    i, j, length = len(reference), len(hypothesis), 0
    while i > 0 or j > 0:
        step = best[i, j]
        operations[start + length] = step
        totals[step] += 1
        length += 1
        if step != INSERTION:
            i -= 1
        if step != DELETION:
            j -= 1
    operations[start : start + length] = operations[start : start + length][::-1].copy()
    return start + length
