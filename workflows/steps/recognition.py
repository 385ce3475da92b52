"""What is measured of a point in use: one utterance, batch 1, from samples to greedy labels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from asr.decoding import greedy
from methods.contract import Point, TrainedSystem
from workflows.steps.heard import Heard, noise


class Speech:
    """`seconds` of noise with speech-like level, as a system's family reads it: the work does not depend on what is
    said."""

    def __init__(self, heard: Heard, seconds: float, device: torch.device):
        self.heard, self.device = heard, device
        self.waveform = noise(1, round(seconds * heard.sampling_rate)).to(device)

    def features(self) -> tuple[Tensor, Tensor]:
        """(1, time, features), or (1, samples), on the device, and the length (1,) on the host."""
        features, lengths = self.heard.extractor(self.waveform, [self.waveform.size(1)])
        return self.heard.normaliser(features), lengths


def recognition(system: TrainedSystem, point: Point, speech: Speech) -> Callable[[], Any]:
    """Recognise the speech at a point, each time it is called."""
    recogniser = system.method.at(system.module, point)

    @torch.inference_mode()
    def recognise() -> list[list[int]]:
        encoded = recogniser.encode(*speech.features())
        return greedy(recogniser.ctc_log_probs(encoded), encoded.lengths)

    return recognise
