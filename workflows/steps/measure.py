"""Costs of operating points, measured with nothing else running.

One child process counts operations and takes times, everything in turns. On CPUs each point's memory is that of a child
of its own, and so is that of training: forked when whatever the first child imported is imported here too, so that
neither imports nor another point's leftovers are among it. These come last, as many at a time as there are processors:
memory, unlike time, does not depend on what runs beside. On CUDA, whose counter sees neither imports nor leftovers, the
first child does all; this process must not touch the device, or its children could not.
"""

import gc
import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from asr.backbones import Backbone
from methods.contract import Point, Stage, TrainedSystem, all_points
from methods.shared.matrices import matrix_counts
from methods.shared.pruning import encoder_weights
from workflows.experiment import Experiment
from workflows.steps.children import Work, import_all, in_child, in_children
from workflows.steps.heard import Heard, heard
from workflows.steps.memory import give_back_at_once, held_bytes, peak_above, stay_on_one_processor
from workflows.steps.operations import counted_costs
from workflows.steps.recognition import Speech, recognition
from workflows.steps.times import in_turns, summary
from workflows.steps.training_step import PARTS_AT_MOST, alike_steps, measurable_stages, training_step
from workflows.steps.wanted import points_by_cost
from workflows.systems import load_description, load_system

SCHEMA = 2
WARM_UP = 2
TRAINING_WARM_UP, TRAINING_REPEATS = 1, 3
AT_ONCE = 4
"""Trainings whose memory is measured at a time, at most: all of them have to fit."""
CPU = torch.device("cpu")
NOT_TRAINED = {"training_peak_memory_bytes": None, "training_step_seconds": None, "training_seconds": None}


class Asked(NamedTuple):
    """What is measured beside what is counted."""

    memory: bool = True
    times: bool = True


EVERYTHING, COUNTS = Asked(), Asked(memory=False, times=False)


def measure_system(
    experiment: Experiment, system: str, data_folder: Path | None, folder: Path, asked: Asked = EVERYTHING
) -> dict[str, Any]:
    """The content of `costs.json` of a system that was trained into `folder`; without data (None) it hears noise, and
    training batches are as large as the settings say. Raises `UserError` when it cannot be measured."""
    # What the first child would import for itself, and this process for the others again; torch._dynamo comes with
    # counting operations, and with the first step of any optimiser.
    backbone, method = experiment.backbone_of(system)["name"], experiment.systems[system].method
    import_all([f"asr.backbones.{backbone}", method, "torch._dynamo"])
    found = in_child(str(folder), _measure, experiment, data_folder, folder, asked)
    if found["device"] == "cpu" and asked.memory:
        import_all(found["imported"])
        _add_memory(found, experiment, data_folder, folder)
    points = {point: {**found["measured"][alike], **found["training"]} for point, alike in found["alike"].items()}
    return {
        "schema": SCHEMA,
        **load_description(folder),
        "device": found["device"],
        "threads": experiment.threads,
        "audio_seconds": experiment.measure.audio_seconds,
        "what": "one utterance, batch 1: features, encoder, CTC layer, greedy labels",
        "memory": "resident memory of a process of its own, above its imports"
        if found["device"] == "cpu"
        else "device memory",
        "encoder_parameters": found["encoder_parameters"],
        "matrices": found["matrices"],
        "points": points,
    }


def _add_memory(found: dict[str, Any], experiment: Experiment, data_folder: Path | None, folder: Path) -> None:
    """The memory of each point, and of training: each in a child of its own."""
    tasks, goals = [], []
    if found["largest"] is not None:  # it takes longest
        arguments = (experiment.threads, experiment.packages, folder, *found["largest"])
        tasks.append(Work(str(folder), peak_of_training, arguments))
        goals.append((found["training"], "training_peak_memory_bytes"))
    for name, measured in found["measured"].items():
        tasks.append(Work(str(folder), peak_of_point, (experiment, data_folder, folder, name)))
        goals.append((measured, "peak_memory_bytes"))
    at_once = min(os.cpu_count() or 1, AT_ONCE)
    for (place, key), peak in zip(goals, in_children(tasks, at_once), strict=True):
        place[key] = peak


def _measure(experiment: Experiment, data_folder: Path | None, folder: Path, asked: Asked) -> dict[str, Any]:
    """In the first child: everything but the memory of CPUs. `alike` maps each point to the one that was
    measured for it, `largest` is what a training step's memory is measured on, `imported` are the modules that all this
    took."""
    before = set(sys.modules)
    torch.set_num_threads(experiment.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    held = held_bytes(device)
    system = load_system(folder, device, experiment.packages)
    data = heard(experiment, system.name, data_folder)
    alike = points_by_cost(experiment, system.name, system.method, points_of(experiment, system))
    measured = _measure_points(system, [points[0] for points in alike], data, experiment, held, device, asked)
    found: dict[str, Any] = {"training": dict(NOT_TRAINED), "largest": None, "matrices": matrix_counts(system.module)}
    found["encoder_parameters"] = encoder_weights(system.module) if isinstance(system.module, Backbone) else None
    stages = measurable_stages(system, data.training) if alike and any(asked) else []
    if stages:
        largest, typical = zip(*(data.step_batches(system, stage) for stage in stages), strict=True)
        found["largest"] = (stages[-1], pickle.dumps(largest[-1]))
        timed = [
            (stage, batch, *steps)
            for stage, batch in zip(stages, typical, strict=True)
            for steps in alike_steps(system.method, stage)
        ]
        del system
        found["training"] |= _measure_training(experiment, folder, stages[-1], largest[-1], timed, held, device, asked)
    return {
        **found,
        "measured": measured,
        "alike": {point.id: points[0].id for points in alike for point in points},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "imported": sorted(set(sys.modules) - before),
    }


def _measure_points(
    system: TrainedSystem,
    points: list[Point],
    data: Heard,
    experiment: Experiment,
    held: int,
    device: torch.device,
    asked: Asked,
) -> dict[str, dict[str, Any]]:
    """By point: what is counted, and as far as asked for the real-time factor, and on CUDA the memory."""
    seconds = experiment.measure.audio_seconds
    speech = Speech(data, seconds, device)
    runs = [recognition(system, point, speech) for point in points]
    measured = {point.id: counted_costs(system, point, speech) for point in points}
    if device.type == "cuda" and asked.memory:
        for point, run in zip(points, runs, strict=True):
            measured[point.id]["peak_memory_bytes"] = peak_above(held, run, device)
    times = in_turns(runs, WARM_UP, experiment.measure.repeats, device) if asked.times else ()
    for point, taken in zip(points, times, strict=asked.times):
        measured[point.id]["real_time_factor"] = summary([each / seconds for each in taken])
    return measured


def _measure_training(
    experiment: Experiment,
    folder: Path,
    last: Stage,
    largest: Any,
    timed: list[tuple[Stage, Any, int, int]],
    held: int,
    device: torch.device,
    asked: Asked,
) -> dict[str, Any]:
    """As far as asked for, seconds of a step at the end of the last stage and of all steps of all stages, and on CUDA
    the memory. `timed` are the steps to be measured: a stage, a batch, the step's number, and how many it stands
    for."""
    found: dict[str, Any] = {}
    if device.type == "cuda" and asked.memory:
        gc.collect()  # nothing but the step is on the device now, nor afterwards
        peak = peak_above(held, _step_for_memory(experiment.packages, folder, last, largest, device), device)
        found["training_peak_memory_bytes"] = peak
        gc.collect()
    if not asked.times:
        return found
    steps = [
        training_step(folder, stage, batch, stage.training.accumulate, device, experiment.packages, index)
        for stage, batch, index, _ in timed
    ]
    times = [summary(taken) for taken in in_turns(steps, TRAINING_WARM_UP, TRAINING_REPEATS, device)]
    total = sum(count * taken["median"] for (*_, count), taken in zip(timed, times, strict=True))
    return {**found, "training_step_seconds": times[-1], "training_seconds": total}


def points_of(experiment: Experiment, system: TrainedSystem) -> list[Point]:
    """All that a system offers, and the further paths that the experiment evaluates."""
    return all_points(system.method, system.module, experiment.further_paths(system.name))


def peak_of_point(experiment: Experiment, data_folder: Path | None, folder: Path, name: str) -> int:
    """In a child: peak memory of recognition at the point `name`."""
    _alone(experiment.threads)
    data = heard(experiment, load_description(folder)["system"], data_folder)
    before = held_bytes(CPU)
    system = load_system(folder, packages=experiment.packages)
    (point,) = [each for each in points_of(experiment, system) if each.id == name]
    speech = Speech(data, experiment.measure.audio_seconds, CPU)
    return peak_above(before, recognition(system, point, speech), CPU)


def peak_of_training(threads: int, packages: Sequence[str], folder: Path, stage: Stage, batch: bytes) -> int:
    """In a child: peak memory of a training step on a pickled batch."""
    _alone(threads)
    before = held_bytes(CPU)
    return peak_above(before, _step_for_memory(packages, folder, stage, pickle.loads(batch), CPU), CPU)


def _alone(threads: int) -> None:
    """What makes the memory of a child repeat."""
    torch.set_num_threads(threads)
    stay_on_one_processor()
    give_back_at_once()


def _step_for_memory(packages: Sequence[str], folder: Path, stage: Stage, batch: Any, device: torch.device) -> Any:
    parts = min(stage.training.accumulate, PARTS_AT_MOST)
    return training_step(folder, stage, batch, parts, device, packages)
