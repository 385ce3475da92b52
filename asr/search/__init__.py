"""Joint CTC/attention beam search over a batch of utterances."""

from asr.search.beam import BeamSearch, Hypothesis

__all__ = ["BeamSearch", "Hypothesis"]
