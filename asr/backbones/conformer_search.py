"""Joint CTC/attention beam search with ESPnet's search and scorers."""

from typing import Any

import torch
from espnet.nets.batch_beam_search import BatchBeamSearch
from espnet.nets.scorers.length_bonus import LengthBonus
from torch import Tensor

from asr.settings import DecodeSettings
from asr.tokenizer import Tokenizer

IMPOSSIBLE = -1e6
"""ESPnet scores what CTC cannot emit with -1e10 times the weight; no real hypothesis comes near."""


class _AnyBeam(BatchBeamSearch):
    """ESPnet's search for beams of any width.

    ESPnet's own cannot be wider than the vocabulary. Wide beams also keep the blank as if it were a label, and the end
    of the sentence takes back what it cost: such a hypothesis ends with probability one.
    """

    def batch_beam(self, weighted_scores: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As many of the best (hypothesis, token) pairs as the beam is wide, or as there are."""
        weighted_scores[:, 0] = -torch.inf
        possible = int((weighted_scores > IMPOSSIBLE).sum())
        best = weighted_scores.view(-1).topk(max(1, min(self.beam_size, possible)))[1]
        hypotheses, tokens = best // self.n_vocab, best % self.n_vocab
        return hypotheses, tokens, hypotheses, tokens


class BeamSearch:
    """Joint CTC/attention beam search (Watanabe et al., 2017): (1 - w) log p_att + w log p_ctc + penalty * tokens.

    Without a decoder among the scorers it is CTC prefix beam search (w = 1).
    """

    def __init__(self, scorers: dict[str, Any], tokenizer: Tokenizer, settings: DecodeSettings, device: torch.device):
        weight = settings.ctc_weight if "decoder" in scorers else 1.0
        weights = {"decoder": 1.0 - weight, "ctc": weight, "length_bonus": settings.penalty}
        scorers = {**scorers, "length_bonus": LengthBonus(len(tokenizer))}
        self.settings = settings
        self.tokenizer = tokenizer
        self.search = _AnyBeam(
            beam_size=settings.beam,
            weights={name: value for name, value in weights.items() if name in scorers},
            scorers=scorers,
            sos=tokenizer.sos_eos,
            eos=tokenizer.sos_eos,
            vocab_size=len(tokenizer),
            token_list=tokenizer.tokens,
            # CTC prefix scores are costly: only for the tokens that the decoder ranks first.
            pre_beam_score_key=None if weight == 1.0 else "full",
        ).to(device)

    def __call__(self, frames: Tensor) -> list[int]:
        """Token ids of the best hypothesis for one utterance, `frames` (frames, width)."""
        if len(frames) == 0:
            return []
        best = self.search(x=frames, maxlenratio=self.settings.max_length_ratio)
        if not best:
            return []
        ids = best[0].yseq.tolist()
        return [token for token in ids if token not in (self.tokenizer.sos_eos, self.tokenizer.blank)]
