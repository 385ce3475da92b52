"""CTC prefix scores of many hypotheses of many utterances (Watanabe et al., 2017, Algorithm 2), without a loop over
frames.

Of each prefix g two curves are held: the log probability that the frames before frame t have spelled exactly g, and
that they have done so with a blank at their end. A label v goes on from there:

    prefix score    p(g v ...) = sum over t of before_g(t) p(v at t)
    its own curve   n(t) = (n(t - 1) + before_g(t)) p(v at t),    b(t) = (n(t - 1) + b(t - 1)) p(blank at t)

where `before_g` counts blank endings only if v repeats the last label of g. The score of all labels is one matrix
product, and the two recurrences are cumulative sums of logarithms, needed for the few labels that are chosen only.
Everything is in float64: differences of cumulative sums keep no figure of a float32.
"""

import torch
from torch import Tensor

LOG_ZERO = -1e10
"""The logarithm of 0, finite so that differences of it stay numbers."""
IMPOSSIBLE = LOG_ZERO / 10
"""What CTC cannot emit scores less; no real hypothesis comes near."""


class CtcPrefixes:
    """The hypotheses of a batch of utterances, all of the same number of labels, at first the empty one of each.

    `log_probs` (utterances, frames, vocabulary) of the CTC layer, `valid` (utterances, frames): which frames are real.
    """

    def __init__(self, log_probs: Tensor, valid: Tensor, blank: int):
        whole = torch.contiguous_format
        self.probabilities = log_probs.transpose(1, 2).to(torch.float64, memory_format=whole).exp_()
        self.probabilities.masked_fill_(~valid[:, None], 0.0)
        self.probabilities[:, blank].masked_fill_(~valid, 1.0)  # padding repeats blanks: nothing is spelled or lost
        """(utterances, vocabulary, frames)."""
        self.blank = blank
        self.blanks = self._log(self.probabilities[:, blank, None])
        """Log probability of the blank, (utterances, 1, frames)."""
        spelled = self.blanks.cumsum(-1)
        self.before = _one_later(spelled, 0.0)
        self.before_blank = self.before
        """Both curves, (utterances, hypotheses, frames)."""
        self.complete = spelled[..., -1]
        """Log probability of the hypothesis and nothing behind it, (utterances, hypotheses)."""
        self.last = torch.full_like(self.complete, blank, dtype=torch.long)
        self.last_probabilities = self.probabilities[:, blank, None]
        """The last label, (utterances, hypotheses), and its probability, (utterances, hypotheses, frames)."""

    def prefix_scores(self, labels: Tensor) -> Tensor:
        """Log probability of all that begins with a hypothesis and one of `labels` (utterances, hypotheses, labels);
        -inf where there is nothing."""
        highest = self.before.amax(-1, keepdim=True)
        found = (self.before - highest).exp() @ self.probabilities.transpose(1, 2)
        scores = found.gather(2, labels).log() + highest
        highest = self.before_blank.amax(-1)
        repeated = ((self.before_blank - highest[..., None]).exp() * self.last_probabilities).sum(-1).log() + highest
        scores = torch.where(labels == self.last[..., None], repeated[..., None], scores)
        return scores.masked_fill(scores < IMPOSSIBLE, -torch.inf)

    def extend(self, parents: Tensor, labels: Tensor) -> None:
        """Go on with hypotheses `parents` (utterances, hypotheses), each with its label of `labels`."""
        rows = torch.arange(len(labels), device=labels.device)[:, None]
        probabilities = self.probabilities[rows, labels]
        repeats = (labels == self.last.gather(1, parents))[..., None]
        before = torch.where(repeats, self.before_blank[rows, parents], self.before[rows, parents])
        emitted = self._log(probabilities)
        so_far = emitted.cumsum(-1)
        ends_in_label = so_far + (before + (emitted - so_far)).logcumsumexp(-1)
        blanks = self.blanks.cumsum(-1)
        spelled = blanks + (ends_in_label - blanks).logcumsumexp(-1)
        self.before = _one_later(spelled, LOG_ZERO)
        self.before_blank = _one_later(self.before + self.blanks, LOG_ZERO)
        self.complete = spelled[..., -1]
        self.last, self.last_probabilities = labels, probabilities

    def keep(self, rows: Tensor, frames: int) -> None:
        """Go on with the utterances `rows`, of which the longest has so many frames."""
        for name in ("probabilities", "blanks", "before", "before_blank", "last_probabilities"):
            setattr(self, name, getattr(self, name)[rows, :, :frames])
        self.complete, self.last = self.complete[rows], self.last[rows]

    @staticmethod
    def _log(probabilities: Tensor) -> Tensor:
        return probabilities.log().clamp(min=LOG_ZERO)


def _one_later(curve: Tensor, first: float) -> Tensor:
    """(..., frames): each value one frame later."""
    return torch.cat((torch.full_like(curve[..., :1], first), curve[..., :-1]), -1)
