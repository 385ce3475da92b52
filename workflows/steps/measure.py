"""Costs of operating points, measured with nothing else running.

Each system is measured in a process of its own, forked before any model is loaded: its peak memory is then its own.
"""

import contextlib
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from asr.backbones import Backbone
from asr.decoding import greedy
from common.errors import UserError, run
from common.files import write_json
from methods.contract import Point, Step, TrainedSystem, all_points
from workflows.data import PreparedData, leave_out_too_long, open_data
from workflows.experiment import Experiment
from workflows.steps.choice import wanted_points
from workflows.systems import load_description, load_system

SCHEMA = 1
WARM_UP = 2


def measure_systems(experiment: Experiment, data_folder: Path, folders: list[Path]) -> None:
    """Measure every system in `folders`, one after the other. Raises `UserError` when one of them fails."""
    context = multiprocessing.get_context("fork")
    for folder in folders:
        process = context.Process(target=_in_child, args=(experiment, data_folder, folder))
        process.start()
        process.join()
        if process.exitcode == 1:
            sys.exit(1)  # it has said why
        if process.exitcode != 0:
            raise UserError(f"{folder}: measuring failed (exit status {process.exitcode})")


def _in_child(experiment: Experiment, data_folder: Path, folder: Path) -> None:
    """Errors of the user's are said as in every command."""
    sys.exit(run(lambda: _measure_one(experiment, data_folder, folder)))


def _measure_one(experiment: Experiment, data_folder: Path, folder: Path) -> None:
    torch.set_num_threads(experiment.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    description = load_description(folder)
    before = resident_bytes()
    data = open_data(experiment, description["system"], data_folder)
    system = load_system(folder, device, experiment.packages)
    points = all_points(system.method, system.module, experiment.further_paths(description["system"]))
    chosen: dict[Any, Point] = {}
    for point in (wanted := wanted_points(experiment, description["system"], points)):
        chosen.setdefault(system.method.cost_key(point), point)
    measured = {key: measure_point(system, data, point, experiment, before, device) for key, point in chosen.items()}
    factors = real_time_factors(system, data, list(chosen.values()), experiment, device)
    for found, factor in zip(measured.values(), factors, strict=True):
        found["real_time_factor"] = factor
    costs = {point.id: measured[system.method.cost_key(point)] for point in wanted}
    if costs:
        peak = training_peak_bytes(system, data, experiment, before, device)
        costs = {point: {**cost, "training_peak_memory_bytes": peak} for point, cost in costs.items()}
    about = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": experiment.threads,
        "audio_seconds": experiment.measure.audio_seconds,
        "what": "one utterance, batch 1: features, encoder, CTC layer, greedy labels",
        "memory": "device memory" if device.type == "cuda" else "resident memory of the process above its imports",
    }
    write_json(folder / "measured" / "costs.json", {"schema": SCHEMA, **description, **about, "points": costs})


def recognition(
    system: TrainedSystem, data: PreparedData, point: Point, experiment: Experiment, device: torch.device
) -> Callable[[], Any]:
    """What is measured: one utterance, from samples to labels."""
    waveform = noise(data, experiment, device)
    recogniser = system.method.at(system.module, point)

    def recognise() -> Any:
        features, lengths = data.extractor(waveform, [waveform.size(1)])
        encoded = recogniser.encode(data.normaliser(features), lengths.to(device))
        return greedy(recogniser.ctc_log_probs(encoded), encoded.lengths)

    return recognise


def noise(data: PreparedData, experiment: Experiment, device: torch.device) -> torch.Tensor:
    """(1, samples) of noise with speech-like level: the work does not depend on what is said."""
    samples = round(experiment.measure.audio_seconds * data.corpus["sampling_rate"])
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0)).to(device)


@torch.inference_mode()
def measure_point(
    system: TrainedSystem, data: PreparedData, point: Point, experiment: Experiment, before: int, device: torch.device
) -> dict[str, Any]:
    """Everything that one point costs, time aside."""
    recognise = recognition(system, data, point, experiment, device)
    reset_peak(device)
    for _ in range(WARM_UP):
        recognise()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_bytes() - before
    waveform = noise(data, experiment, device)
    features, lengths = data.extractor(waveform, [waveform.size(1)])
    recogniser = system.method.at(system.module, point)
    with eager_attention(system.module):
        macs = count_macs(lambda: recogniser.ctc_log_probs(recogniser.encode(features, lengths.to(device))))
    count = system.method.parameters(system.module, point)
    return {
        "parameters_stored": count.stored,
        "parameters_nonzero": count.nonzero,
        "parameters_executed": count.executed,
        "stored_bytes": system.method.stored_bytes(system.module, [point]),
        "macs": macs,
        "peak_memory_bytes": peak,
    }


@torch.inference_mode()
def real_time_factors(
    system: TrainedSystem, data: PreparedData, points: list[Point], experiment: Experiment, device: torch.device
) -> list[dict[str, float]]:
    """Processing time by audio time of each point. The points take turns, so that a machine that is slower for a
    while is so for all of them."""
    runs = [recognition(system, data, point, experiment, device) for point in points]
    rounds = [[timed(each, device) for each in runs] for _ in range(WARM_UP + experiment.measure.repeats)][WARM_UP:]
    seconds = experiment.measure.audio_seconds
    return [
        {
            "median": statistics.median(times) / seconds,
            "min": min(times) / seconds,
            "max": max(times) / seconds,
            "repeats": len(times),
        }
        for times in zip(*rounds, strict=True)
    ]


def training_peak_bytes(
    system: TrainedSystem, data: PreparedData, experiment: Experiment, before: int, device: torch.device
) -> int | None:
    """Peak memory of a training step of the last stage: weights, gradients, AdamW's state, activations of one batch.

    The batch, the largest of the training set, is the same for all systems of a family with the same training settings.
    None for methods that train nothing or whose losses read another system.
    """
    method, module = system.method, system.module
    training = experiment.training_of(system.name)
    stages = method.stages(training)
    if not stages or method.needs_in_training(method.config):
        return None
    speech = data.speech_set("train", labelled=True)
    leave_out_too_long(speech, lambda lengths: method.output_lengths(module, lengths), "train")
    order = speech.order(training.batch_seconds, training.buckets, batch_utterances=training.batch_utterances)
    batch = speech.batch(order.largest(), device, stages[-1].labelled)
    module.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(method.parameter_groups(module, stages[-1]), lr=1e-6)
    reset_peak(device)
    for _ in range(2):
        method.losses(module, batch, Step(stages[-1].name, training.steps - 1, 0))["total"].backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_bytes() - before


def count_macs(forward: Callable[[], Any]) -> int:
    """Multiply-accumulates of matrix products and convolutions: half the operations of torch's counter."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops() // 2


def eager_attention(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Attention as matrix products inside this context: in fused attention the counter sees nothing on CPU."""
    return module.eager_attention() if isinstance(module, Backbone) else contextlib.nullcontext()


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def reset_peak(device: torch.device) -> None:
    """Forget the peak of earlier measurements: CUDA's counter, or Linux's high-water mark."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # not Linux, or not allowed: the peak of the whole process stands, which is never too low


def peak_resident_bytes() -> int:
    """Highest resident memory of this process since `reset_peak`."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(key: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
