"""ONNX at one path: waveform in, CTC log-probabilities out, checked against torch before it is kept.

Layers that run several times are nodes that read the same initialisers: every weight stands in the file once. Batch and
time are free. Padding does not change an utterance where the system does not let it in (`mask_padding`). Packed weights
are written as the float32 values that they stand for. `tokens.json` beside it turns labels into text.
"""

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir
import onnxruntime
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, DeduplicateInitializersPass
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.features import make_extractor
from common.errors import UserError
from common.files import replacing, write_json
from methods.contract import AtPath
from methods.paths import Path as Counts
from methods.paths import format_path
from workflows.steps.export.system import ExportedSystem

TOLERANCE = 1e-3
"""Largest difference of a log-probability from torch's that is put down to rounding."""
CHECKED_SECONDS = ((1.0,), (2.3, 0.7), (0.4, 3.1, 1.7))
"""Batches of noise that the file is checked with; none has the length that the graph was traced with."""
TRACED_SECONDS = (1.3, 0.9)
ANY_SIZE = 2**62
INPUTS, OUTPUTS = ("waveform", "lengths"), ("log_probs", "frames")


@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """What the model card says of the file."""

    path: Counts
    largest_difference: float


class FromWaveform(nn.Module):
    """A system at one path as one graph, features included.

    `waveform` (batch, samples), zero-padded, and `lengths` (batch,) in samples -> log-probabilities (batch, frames,
    vocabulary) and the real frames of each utterance (batch,).
    """

    def __init__(self, system: ExportedSystem, path: Counts):
        super().__init__()
        self.backbone = system.dense
        self.path = path
        self.reads_waveforms = system.reads_waveforms
        if not self.reads_waveforms:
            extractor = make_extractor(system.features, system.sampling_rate)
            self.layer, self.window, self.shift = extractor.layer, extractor.window, extractor.shift
            self.register_buffer("mean", torch.from_numpy(system.normaliser.mean))
            self.register_buffer("deviation", torch.from_numpy(system.normaliser.deviation))

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.reads_waveforms:
            inputs = normalise_waveforms(waveform, lengths)
        else:
            inputs = (self.layer(waveform) - self.mean) / self.deviation
            lengths = ((lengths - self.window) // self.shift + 1).clamp(min=0)
        encoded = self.backbone.encode(inputs, lengths, self.path)
        return self.backbone.ctc_log_probs(encoded), encoded.lengths


def normalise_waveforms(waveform: Tensor, lengths: Tensor) -> Tensor:
    """`asr.features.WaveformExtractor` without its loop over utterances, which a graph cannot have."""
    real = torch.arange(waveform.size(1), device=waveform.device)[None, :] < lengths[:, None]
    count = lengths.clamp(min=1)[:, None]
    centred = (waveform - (waveform * real).sum(1, keepdim=True) / count) * real
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + 1e-7)


def write_onnx(system: ExportedSystem, path: Counts, out: Path) -> OnnxFile:
    """Write `out`, checked, and beside it `tokens.json`: the text that each label adds. Raises `UserError`, and leaves
    no file, when it differs from torch."""
    file = save_checked(trace(system, path), system, path, out)
    write_json(out.parent / "tokens.json", system.tokenizer.texts)
    return file


def save_checked(model: onnx_ir.Model, system: ExportedSystem, path: Counts, out: Path) -> OnnxFile:
    """Write `model` to `out` unless onnxruntime makes something else of it than the system at `path` gives."""
    with replacing(out) as temporary:
        onnx_ir.save(model, temporary)
        difference = largest_difference(system, path, temporary)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{out.name}: onnxruntime's log-probabilities differ from torch's by {difference:.1e} (allowed: "
                f"{TOLERANCE:g}) at path '{format_path(path)}'; the file was not kept"
            )
    return OnnxFile(path, difference)


def trace(system: ExportedSystem, path: Counts) -> onnx_ir.Model:
    """The graph, as torch's exporter gives it, with each weight once."""
    example, lengths = noise(TRACED_SECONDS, system.sampling_rate)
    free = torch.export.Dim.DYNAMIC
    with _quietly():
        graph = torch.export.export(
            FromWaveform(system, path).eval(),
            (example, lengths),
            dynamic_shapes=({0: free, 1: free}, {0: free}),
            strict=True,  # ESPnet's checks of values are left out of the graph
        )
        model = torch.onnx.export(
            graph, dynamo=True, input_names=list(INPUTS), output_names=list(OUTPUTS), verbose=False
        ).model
    # Folding constants made a copy of a transposed weight for each time that its layer runs.
    DeduplicateInitializersPass(size_limit=ANY_SIZE)(model)
    ClearMetadataAndDocStringPass()(model)  # stack traces of every node: a megabyte
    return model


@torch.inference_mode()
def largest_difference(system: ExportedSystem, path: Counts, file: Path) -> float:
    """Between onnxruntime's and torch's log-probabilities of real frames; infinite when they count frames differently.

    torch runs the system as evaluation does, not the traced graph.
    """
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    recogniser = AtPath(system.module, path)
    extractor = make_extractor(system.features, system.sampling_rate)
    largest = 0.0
    for number, seconds in enumerate(CHECKED_SECONDS):
        waveform, lengths = noise(seconds, system.sampling_rate, seed=number + 1)
        inputs, input_lengths = extractor(waveform, lengths.tolist())
        if system.normaliser is not None:
            inputs = system.normaliser(inputs)
        encoded = recogniser.encode(inputs, input_lengths)
        expected = recogniser.ctc_log_probs(encoded)
        given = dict(zip(INPUTS, (waveform.numpy(), lengths.numpy()), strict=True))
        log_probs, frames = session.run(list(OUTPUTS), given)
        if frames.tolist() != encoded.lengths.tolist() or log_probs.shape != tuple(expected.shape):
            return float("inf")
        for ours, theirs, count in zip(log_probs, expected.numpy(), frames, strict=True):
            largest = max(largest, float(np.abs(ours[:count] - theirs[:count]).max(initial=0.0)))
    return largest


def noise(seconds: tuple[float, ...], sampling_rate: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Utterances of noise as one batch, (batch, samples) and (batch,)."""
    generator = torch.Generator().manual_seed(seed)
    rows = [0.1 * torch.randn(round(length * sampling_rate), generator=generator) for length in seconds]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's warnings about packages and torch's own deprecations, which no reader can act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
