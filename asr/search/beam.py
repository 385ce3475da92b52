"""Joint CTC/attention beam search (Watanabe et al., 2017) over a batch of utterances, on the device of their frames.

The scores, the pre-beam and the end detection are those of ESPnet's `BatchBeamSearch`, which searches one utterance at
a time. Three things are not: beams may be wider than the vocabulary; what CTC cannot emit, and the blank, are never
hypotheses; CTC scores are summed in float64.

Utterances need not be of one system: frames of several operating points stand in one batch where these share decoder
and CTC layer. Numbers come to the host every `CHECK_EVERY` steps: which utterances are finished, and how many nodes the
trees of prefixes have. Finished ones leave the batch.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from asr.portable.masks import before_the_end
from asr.search.attention import AttentionDecoder
from asr.search.ctc_prefix import CtcPrefixes
from asr.settings import DecodeSettings
from asr.tokenizer import Tokenizer

CHECK_EVERY = 4
"""Steps between two looks at what is finished."""
PRE_BEAM = 1.5
"""CTC scores the tokens that the decoder ranks first, so many times the beam's width (ESPnet's `pre_beam_ratio`)."""
END_STEPS, END_MARGIN = 3, -10.0
"""An utterance is finished when the best hypotheses of three lengths in turn stay so far below the best of all, in nats
(Watanabe et al., 2017, Eq. 50; ESPnet's `end_detect`)."""
END_DELAY = 2
"""ESPnet counts the start and the end of the sentence among a hypothesis' tokens: the latest of the lengths ended two
steps ago."""


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """`tokens` without the end of the sentence; `score` = (1 - w) log p_att + w log p_ctc + penalty * (tokens + 1)."""

    tokens: list[int]
    score: float


NOTHING = Hypothesis([], -float("inf"))


class BeamSearch:
    """Beam search with the scorers of a recogniser (`Backbone.scorers`). Without a decoder among them it is CTC prefix
    beam search (w = 1)."""

    def __init__(self, scorers: dict[str, Any], tokenizer: Tokenizer, settings: DecodeSettings):
        self.settings, self.tokenizer = settings, tokenizer
        self.ctc_weight = settings.ctc_weight if "decoder" in scorers else 1.0
        self.decoder = scorers["decoder"] if self.ctc_weight < 1 else None
        self.ctc = scorers["ctc"].ctc if self.ctc_weight > 0 else None
        pre_beam = int(PRE_BEAM * settings.beam)
        scored = self.decoder is None or self.ctc is None or pre_beam >= len(tokenizer)
        self.pre_beam = None if scored else pre_beam
        """How many tokens of a hypothesis are looked at; None: all."""

    @torch.inference_mode()
    def __call__(self, utterances: Sequence[Tensor]) -> list[Hypothesis]:
        """The best hypothesis of each utterance, `utterances` a tensor (frames, width) of each, on one device. Those of
        like length are searched together, `batch_hypotheses` hypotheses at a time."""
        found = [NOTHING] * len(utterances)
        order = sorted((i for i, frames in enumerate(utterances) if len(frames)), key=lambda i: -len(utterances[i]))
        room = max(1, self.settings.batch_hypotheses // self.settings.beam)
        for first in range(0, len(order), room):
            chosen = order[first : first + room]
            for index, best in self._together(chosen, [utterances[i] for i in chosen]):
                found[index] = best
        return found

    def _together(self, names: list[int], utterances: list[Tensor]) -> list[tuple[int, Hypothesis]]:
        batch = _Batch(self, names, utterances)
        found = []
        while batch.names:
            for _ in range(CHECK_EVERY):
                batch.step()
            found += batch.take_finished()
        return found

    def longest(self, frames: int) -> int:
        """How many tokens a hypothesis of so many frames may have, its end among them."""
        ratio = self.settings.max_length_ratio
        return frames if ratio == 0 else max(1, int(ratio * frames))


def is_the_end(ended: list[Tensor], best: Tensor) -> Tensor:
    """(utterances,): whether nothing better is to come. `ended` has of each step so far the score of the best
    hypothesis that ended in it (utterances,), -inf where none did; `best` is the best of all."""
    if len(ended) < END_STEPS + END_DELAY:
        return torch.zeros_like(best, dtype=torch.bool)
    scores = torch.stack(ended[-END_STEPS - END_DELAY : -END_DELAY])
    return ((scores > -torch.inf) & (scores - best < END_MARGIN)).all(0)


class _Batch:
    """The utterances that are searched together: `names`, and of each its running hypotheses.

    Hypotheses that ended, or that never were, score -inf and are not chosen again.
    """

    def __init__(self, search: BeamSearch, names: list[int], utterances: list[Tensor]):
        self.search, self.names = search, list(names)
        device = utterances[0].device
        self.blank, self.end = search.tokenizer.blank, search.tokenizer.sos_eos
        self.lengths = [len(frames) for frames in utterances]
        frames = pad_sequence(utterances, batch_first=True)
        valid = before_the_end(torch.tensor(self.lengths), frames.size(1), device)
        self.decoder = search.decoder and AttentionDecoder(search.decoder, frames, valid)
        self.ctc = search.ctc and CtcPrefixes(search.ctc.log_softmax(frames), valid, self.blank)
        self.longest = torch.tensor([search.longest(each) for each in self.lengths], device=device)
        self.running = torch.zeros(len(names), 1, dtype=torch.float64, device=device)
        self.ctc_scores = torch.zeros_like(self.running)
        """Total score, and the CTC prefix score in it, (utterances, hypotheses)."""
        self.sequences = torch.full((len(names), 1, 1), self.end, device=device)
        """(utterances, hypotheses, tokens), the start of the sentence first."""
        self.finished = torch.zeros(len(names), dtype=torch.bool, device=device)
        self.best = torch.full((len(names),), -torch.inf, dtype=torch.float64, device=device)
        self.best_sequence = self.sequences[:, 0]
        self.ended: list[Tensor] = []
        """Of each step the score of the best hypothesis that ended in it, (utterances,)."""

    def step(self) -> None:
        """One token more for every hypothesis."""
        scores, ctc_scores, tokens = self._candidates()
        width = scores.size(2)
        self.running, places = scores.flatten(1).topk(min(self.search.settings.beam, scores[0].numel()))
        parents = places // width
        chosen = tokens.flatten(1).gather(1, places)
        followed = self.sequences.gather(1, parents[..., None].expand(-1, -1, self.sequences.size(2)))
        self.sequences = torch.cat((followed, chosen[..., None]), 2)
        self._end(chosen)
        if self.decoder:
            self.decoder.extend(parents, self.running > -torch.inf)
        if self.ctc:
            self.ctc_scores = ctc_scores.flatten(1).gather(1, places)
            self.ctc.extend(parents, chosen)

    def _candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """What may follow each hypothesis: total scores, CTC prefix scores and tokens, (utterances, hypotheses,
        candidates); the end of the sentence is the last."""
        weight, penalty = self.search.ctc_weight, self.search.settings.penalty
        shape = (*self.running.shape, len(self.search.tokenizer))
        if self.decoder:
            full = (1 - weight) * self.decoder.log_probs(self.sequences[..., -1]) + penalty
        else:
            full = self.running.new_full((), penalty).expand(shape)
        if self.search.pre_beam is None:
            tokens = torch.arange(shape[2], device=full.device).expand(shape)
        else:
            tokens = full.topk(self.search.pre_beam).indices
        scores = torch.cat((full.gather(2, tokens), full[..., self.end, None]), 2) + self.running[..., None]
        ctc_scores = scores
        if self.ctc:
            ctc_scores = torch.cat((self.ctc.prefix_scores(tokens), self.ctc.complete[..., None]), 2)
            scores = scores + weight * (ctc_scores - self.ctc_scores[..., None])
        scores[..., :-1].masked_fill_((tokens == self.blank) | (tokens == self.end), -torch.inf)
        scores.masked_fill_(~(self.running > -torch.inf)[..., None], -torch.inf)
        return scores, ctc_scores, F.pad(tokens, (0, 1), value=self.end)

    def _end(self, chosen: Tensor) -> None:
        """Take the hypotheses that ended out of the running ones, and notice utterances that are finished."""
        step = self.sequences.size(2) - 1
        ends = (chosen == self.end) | (self.longest == step)[:, None]
        ended, place = self.running.masked_fill(~ends | self.finished[:, None], -torch.inf).max(1)
        sequence = self.sequences[torch.arange(len(place), device=place.device), place]
        better = ended > self.best
        self.best_sequence = torch.where(better[:, None], sequence, F.pad(self.best_sequence, (0, 1), value=self.end))
        self.best = torch.where(better, ended, self.best)
        self.ended.append(ended)
        self.running = self.running.masked_fill(ends | self.finished[:, None], -torch.inf)
        self.finished = self.finished | ~(self.running > -torch.inf).any(1)
        if self.search.settings.max_length_ratio == 0:
            self.finished = self.finished | is_the_end(self.ended, self.best)

    def take_finished(self) -> list[tuple[int, Hypothesis]]:
        """The utterances that are finished, with their best hypotheses; the batch goes on without them."""
        nodes = self.decoder.nodes() if self.decoder else self.finished
        finished, nodes = torch.stack((self.finished, nodes)).tolist()
        rows = [row for row, done in enumerate(finished) if not done]
        found = []
        if len(rows) < len(finished):
            for row, (score, tokens) in enumerate(zip(self.best.tolist(), self.best_sequence.tolist(), strict=True)):
                if finished[row]:
                    labels = [token for token in tokens if token != self.end]
                    found.append((self.names[row], Hypothesis(labels, score)))
            self._keep(rows)
        if self.decoder and rows:
            self.decoder.prune(max(nodes[row] for row in rows))
        return found

    def _keep(self, rows: list[int]) -> None:
        self.names, self.lengths = [self.names[row] for row in rows], [self.lengths[row] for row in rows]
        if not rows:
            return
        index = torch.tensor(rows, device=self.running.device)
        for name in ("longest", "running", "ctc_scores", "sequences", "finished", "best", "best_sequence"):
            setattr(self, name, getattr(self, name)[index])
        self.ended = [each[index] for each in self.ended]
        for scorer in filter(None, (self.decoder, self.ctc)):
            scorer.keep(index, max(self.lengths))
