"""The peer of beam search: ESPnet's own, one utterance at a time."""

import contextlib
import io
from typing import Any

import torch
from torch import Tensor

from asr.settings import DecodeSettings
from asr.tokenizer import Tokenizer

with contextlib.redirect_stdout(io.StringIO()):  # ESPnet prints a line when flash-attention is not installed
    import espnet.nets.pytorch_backend.transformer.attention  # noqa: F401

from espnet.nets.batch_beam_search import BatchBeamSearch
from espnet.nets.scorers.length_bonus import LengthBonus

IMPOSSIBLE = -1e6
"""ESPnet scores what CTC cannot emit with -1e10 times the weight; no real hypothesis comes near."""


class AnyBeam(BatchBeamSearch):
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


class EspnetSearch:
    """(1 - w) log p_att + w log p_ctc + penalty * tokens, as `asr.search.BeamSearch`."""

    def __init__(
        self,
        scorers: dict[str, Any],
        tokenizer: Tokenizer,
        settings: DecodeSettings,
        kind: type[BatchBeamSearch] = AnyBeam,
    ):
        weight = settings.ctc_weight if "decoder" in scorers else 1.0
        weights = {"decoder": 1.0 - weight, "ctc": weight, "length_bonus": settings.penalty}
        scorers = {**scorers, "length_bonus": LengthBonus(len(tokenizer))}
        self.settings, self.tokenizer = settings, tokenizer
        self.search = kind(
            beam_size=settings.beam,
            weights={name: value for name, value in weights.items() if name in scorers},
            scorers=scorers,
            sos=tokenizer.sos_eos,
            eos=tokenizer.sos_eos,
            vocab_size=len(tokenizer),
            pre_beam_score_key=None if weight == 1.0 else "full",
        )

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> list[tuple[list[int], float]]:
        """Token ids and score of every hypothesis that ended, the best first, of one utterance (frames, width)."""
        if len(frames) == 0:
            return []
        found = self.search(x=frames, maxlenratio=self.settings.max_length_ratio)
        specials = (self.tokenizer.sos_eos, self.tokenizer.blank)
        return [([token for token in each.yseq.tolist() if token not in specials], float(each.score)) for each in found]
