"""What a run needs, beside what there is: packages, data, published weights, disk, devices, memory, time.

Each check answers with findings, rows of one table. What cannot be known yet is said, and is nothing missing.
"""

import importlib.metadata
import math
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from asr.corpora.preparation import check_source
from asr.settings import TrainingSettings
from baselines.foundation import Foundation
from common.errors import UserError
from common.files import read_json
from methods.contract import Method, number_of_weights
from workflows.check import checked_methods
from workflows.devices import visible_devices
from workflows.experiment import Experiment
from workflows.experiment.shares import in_steps
from workflows.part import Part, Seeds, trained_for
from workflows.provenance import ROOT
from workflows.steps.cost_rows import vocabulary
from workflows.steps.dry_step import StepCost, dry_step, steppable

FLOAT_BYTES = 4
TRAINED_FLOATS = 4
"""Floats a weight takes in training: itself, its gradient, AdamW's two averages."""
CHECKPOINT_FLOATS = 3
"""Floats a weight takes in a checkpoint, which has no gradients."""


@dataclass(frozen=True)
class Finding:
    """What a run needs and what there is; `missing` says what to do where that is not enough."""

    what: str
    needed: str
    found: str
    missing: str | None = None


def look(experiment: Experiment, where: str, asked: Part, results: Path) -> Iterator[Finding]:
    """All that is known without a step: seconds, whatever the experiment's size."""
    yield packages()
    yield data(experiment, results)
    methods = checked_methods(experiment, where, None, lambda system: vocabulary(experiment, system, None))
    seeds = trained_for(experiment, asked)
    trained = {name: methods[name] for name in seeds}
    yield from hub_weights(trained)
    yield disk(experiment, trained, seeds, results)
    yield devices(experiment, trained)


def step(experiment: Experiment, where: str, asked: Part, data: Path) -> Iterator[Finding]:
    """Memory and time, from a step of each system that can be stepped alone: minutes for a large experiment on CPUs.
    `data` is the folder of the prepared corpus, which may not be there yet."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    methods = checked_methods(experiment, where, None, lambda system: vocabulary(experiment, system, None))
    trained = trained_for(experiment, asked)
    costs, unknown = {}, []
    for name in trained:
        if not methods[name].stages(experiment.training_of(name)):
            continue
        if steppable(methods[name]):
            costs[name] = dry_step(experiment, name, methods[name], device)
        else:
            unknown.append(name)
    if costs:
        yield memory(costs, device)
        yield hours(experiment, costs, trained, unknown, speech_seconds(data))


def memory(costs: dict[str, StepCost], device: torch.device) -> Finding:
    """The largest training against what its device has."""
    name = max(costs, key=lambda each: costs[each].memory_bytes)
    needed, (taken, whole) = costs[name].memory_bytes, costs[name].of
    total = device_bytes(device)
    how = f"{whole} utterances" if taken == whole else f"{whole} utterances, from {taken}"
    missing = None
    if needed > total:
        missing = (
            f"{name}: a training step takes {size(needed)}, there are {size(total)}; make training.batch_seconds (or "
            "batch_utterances) smaller and training.accumulate larger"
        )
    return Finding("memory", f"{size(needed)}: {name}, {how}", f"{size(total)} {device.type}", missing)


def device_bytes(device: torch.device) -> int:
    """Memory of the device, or what the system can still give: what it keeps of files on disk counts as free."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().available


def speech_seconds(data: Path) -> float:
    """The length of the training set, without bound where the corpus is not prepared."""
    prepared = data / "corpus.json"
    return read_json(prepared)["sets"]["train"]["seconds"] if prepared.is_file() else math.inf


def hours(
    experiment: Experiment, costs: dict[str, StepCost], seeds: Seeds, unknown: list[str], speech: float = math.inf
) -> Finding:
    """The time of all trainings, as measured steps times their number; nothing else is foreseen. Passes are counted
    over so many seconds of `speech`, as many as are allowed where its length is not known."""
    steps = {name: in_steps(experiment.training_of(name), speech).steps for name in costs}
    seconds = {name: cost.seconds * steps[name] for name, cost in costs.items()}
    total = sum(each * experiment.training_of(name).devices * len(seeds[name]) for name, each in seconds.items())
    places = len(visible_devices()) or max(1, (os.cpu_count() or 1) // experiment.threads)
    longest = max(seconds, key=seconds.__getitem__)
    left_out = f"; {len(unknown)} not stepped" if unknown else ""
    return Finding(
        "time",
        f"{duration(total)}: {_trainings(costs, seeds)} of {_range(steps.values())} steps{left_out}",
        f"{duration(total / places)} on {places} at a time; the longest, {longest}, {duration(seconds[longest])}",
    )


def _trainings(systems: Collection[str], seeds: Seeds) -> str:
    """How many trainings some systems are: `systems 3 x seeds 2`, or their number where seeds are not as many."""
    numbers = {len(seeds[name]) for name in systems}
    if len(numbers) == 1:
        return f"systems {len(systems)} x seeds {numbers.pop()}"
    return f"systems {len(systems)}, {sum(len(seeds[name]) for name in systems)} trainings"


def _range(numbers: Collection[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least}" if least == most else f"{least} to {most}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def packages() -> Finding:
    """Versions of the lock against those that are installed."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    other = []
    for name, version in locked.items():
        try:
            installed = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "not installed"
        if installed != version:
            other.append(f"{name} {version} ({installed})")
    missing = f"packages are not those of requirements.lock: {', '.join(other)}; run make setup" if other else None
    return Finding("packages", f"{len(locked)} of requirements.lock", f"{len(locked) - len(other)} of them", missing)


def data(experiment: Experiment, results: Path) -> Finding:
    """The prepared corpus, or what it is prepared from."""
    name, settings = experiment.corpus.name, experiment.corpus.settings
    prepared = results / "data" / name / "corpus.json"
    if prepared.is_file():
        return Finding("data", f"corpus {name}", f"prepared, {size(bytes_below(prepared.parent))}")
    try:
        found = check_source(name, settings)
    except UserError as error:
        return Finding("data", f"corpus {name}", "missing", str(error))
    return Finding("data", f"corpus {name}", "nothing to look for" if found is None else size(found))


def hub_weights(methods: dict[str, Method]) -> Iterator[Finding]:
    """Published models: on this machine, or to be had from the hub without fetching them now."""
    from asr.backbones.hub import check_reachable, find

    seen = set()
    for method in methods.values():
        if not isinstance(method, Foundation) or (method.config.source, method.config.revision) in seen:
            continue
        source, revision = method.config.source, method.config.revision
        seen.add((source, revision))
        try:
            folder = find(source, revision)
            found = (
                "on this machine" if folder is not None else f"on the hub, {size(check_reachable(source, revision))}"
            )
        except UserError as error:
            yield Finding("weights", source, "missing", str(error))
        else:
            yield Finding("weights", source, found)


def disk(experiment: Experiment, methods: dict[str, Method], seeds: Seeds, results: Path) -> Finding:
    """What all systems leave, and what those that are trained at a time take on the way, against free space. Features
    and audio that a run writes count once they are there."""
    kept = working = 0
    for name, method in methods.items():
        weights = FLOAT_BYTES * weights_of(method)
        kept += weights * len(seeds[name])
        working = max(working, working_bytes(experiment.training_of(name), weights))
    at_once = max(len(visible_devices()), 1)
    needed = kept + at_once * working
    place = next(folder for folder in (results, *results.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    words = f"{size(needed)}: models {size(kept)}, checkpoints {size(at_once * working)}"
    missing = f"{place}: {size(free)} are free, about {size(needed)} are needed" if free < needed else None
    return Finding("disk", words, f"{size(free)} free", missing)


def working_bytes(training: TrainingSettings, weights: int) -> int:
    """What a training of a model of so many bytes holds at most: a checkpoint, the one that is being written beside it,
    and the kept states."""
    states = {"last": 0, "best": 1, "average": training.keep_states}[training.keep]
    return weights * (2 * CHECKPOINT_FLOATS + states)


def devices(experiment: Experiment, methods: dict[str, Method]) -> Finding:
    """GPUs that the largest training takes. Without any, training is on CPUs; on a cluster the scheduler knows."""
    needed = max((experiment.training_of(name).devices for name in methods), default=1)
    found = visible_devices()
    missing = None
    if 0 < len(found) < needed and "SLURM_JOB_ID" not in os.environ:
        missing = f"training.devices is {needed}, this machine shows {len(found)} GPUs"
    return Finding("devices", str(needed), f"{len(found)} GPUs" if found else "no GPU: training is on CPUs", missing)


def weights_of(method: Method) -> int:
    """Weights of a system, or of its backbone where the method's own shape is not known before training."""
    outline = method.outline()
    return number_of_weights(method.backbone.outline() if outline is None else outline)


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size(number: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
