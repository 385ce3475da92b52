"""Batch-norm statistics of a finished system: estimated again, for all methods in the same way.

Training data, as many seconds as `SECONDS` says or all there are: shuffled and cut as training batches are, in an order
that is the same for every system with the same batch settings, at the speed they were spoken at.
"""

import time
from collections.abc import Iterator
from typing import Any

from torch import nn

from asr.batch_norm import batch_norms, estimating, statistics_of
from asr.batches import BatchOrder
from asr.loader import load
from asr.settings import TrainingSettings
from methods.contract import Method, Step
from workflows.data import PreparedData, leave_out_too_long

SECONDS = 20 * 60.0
TRAINING_SET = "train"


def settle_statistics(
    method: Method, module: nn.Module, data: PreparedData, training: TrainingSettings, seed: int, again: bool
) -> dict[str, Any] | None:
    """Estimate the batch-norm statistics of a finished `module` again, where `again` or the method itself asks for it.

    Returns what `provenance.json` says of them: None for a module without batch norm, for which nothing is read.
    """
    norms = batch_norms(module)
    if not norms:
        return None
    size = sum(tensor.numel() * tensor.element_size() for tensor in statistics_of(module).values())
    facts = {"use": "running", "modules": len(norms), "bytes": size, "seconds": 0.0, "audio_seconds": 0.0}
    facts |= {"batches": 0, "executions": 0, "points": []}
    if not (again or method.chooses_statistics) or not method.statistics_points(module, _step(0, seed)):
        return facts
    began = time.monotonic()
    found = _estimate(method, module, data, training, seed)
    return facts | {"use": "again", **found, "seconds": round(time.monotonic() - began, 2)}


def _estimate(
    method: Method, module: nn.Module, data: PreparedData, training: TrainingSettings, seed: int
) -> dict[str, Any]:
    norms = batch_norms(module).values()
    device = next(iter(norms)).running_mean.device
    # What training leaves out is left out here too.
    speech = data.speech_set(TRAINING_SET, labelled=True, pad_to_seconds=training.pad_to_seconds)
    leave_out_too_long(speech, lambda lengths: method.output_lengths(module, lengths), TRAINING_SET, say=False)
    order = speech.order(training.batch_seconds, training.buckets, batch_utterances=training.batch_utterances)
    frames, labels, batches = 0, set(), 0
    with estimating(module):
        for batch in load(speech, _long_enough(order, method, module), device, False, training):
            for point in method.statistics_points(module, _step(batches, seed)):
                method.at(module, point).encode(batch.inputs, batch.input_lengths)
                labels.add(point.label)
            frames, batches = frames + int(batch.input_lengths.sum()), batches + 1
            if frames >= SECONDS * speech.extractor.frames_per_second:
                break
    return {
        "audio_seconds": round(frames / speech.extractor.frames_per_second, 2),
        "batches": batches,
        "executions": sum(int(norm.num_batches_tracked) for norm in norms),
        "points": sorted(labels),
    }


def _long_enough(order: BatchOrder, method: Method, module: nn.Module) -> Iterator[list[int]]:
    """Batches of the first epoch without those of a single frame, which has no variance."""
    for indices in order.epoch(0):
        if sum(method.output_lengths(module, order.frames[indices].tolist())) >= 2:
            yield indices


def _step(batch: int, seed: int) -> Step:
    """Where the estimation stands, as the method's draws see it."""
    return Step("statistics", batch, seed)
