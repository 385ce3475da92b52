"""The batch that all loops train on: noise with random labels, of the lengths that the argument says."""

import json
import sys
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from turns import Turn

FIRST_LABEL = 4
"""Blank and marks come before."""


def argument() -> dict[str, Any]:
    """The script's argument; the number of threads is set as it says."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    return given


def turn(given: dict[str, Any]) -> Turn:
    cuda = given["device"] == "cuda"
    now = time.process_time if given["processor_time"] else time.perf_counter
    return Turn(wait=torch.cuda.synchronize if cuda else lambda: None, now=now)


def utterances(given: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded inputs, (batch, frames, features) or (batch, samples), their lengths, labels padded with -1, theirs."""
    generator = torch.Generator().manual_seed(0)
    features = given["backbone"]["settings"].get("input_dim")
    shape = [features] if features else []
    rows = [torch.randn(length, *shape, generator=generator) for length in given["lengths"]]
    top = given["vocabulary"] - 1  # a Conformer's last label ends a sentence
    labels = [torch.randint(min(FIRST_LABEL, top - 1), top, (count,), generator=generator) for count in given["tokens"]]
    padded = pad_sequence(labels, batch_first=True, padding_value=-1)
    return (
        pad_sequence(rows, batch_first=True),
        torch.tensor(given["lengths"]),
        padded,
        torch.tensor(given["tokens"]),
    )
