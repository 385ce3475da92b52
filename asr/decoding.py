"""From encoder outputs to token ids by greedy CTC. Beam search stands in `asr.search`."""

from itertools import groupby

from torch import Tensor


def greedy(log_probs: Tensor, lengths: Tensor, blank: int = 0) -> list[list[int]]:
    """Best CTC label of each frame, repeats collapsed, blanks removed. `log_probs` (batch, frames, vocabulary)."""
    best = log_probs.argmax(-1).tolist()
    return [
        [label for label, _ in groupby(row[:length]) if label != blank]
        for row, length in zip(best, lengths.tolist(), strict=True)
    ]
