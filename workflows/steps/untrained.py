"""Systems as training would leave them, but for its steps: random weights, and what stands on them built on those.

What a method prunes, rounds or factorises before and after training is done; where it takes training batches, it gets
noise. Nothing is read: published models have random weights too, and layers are dropped in any order.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr.batch_norm import statistics_of
from methods.contract import Method, Point, TrainedSystem, all_points, make_method, number_of_weights
from workflows.experiment import Experiment
from workflows.steps.children import in_child
from workflows.steps.heard import Noise
from workflows.steps.measure import Asked, measure_system, points_of
from workflows.steps.operations import counted_costs
from workflows.steps.recognition import Speech
from workflows.steps.wanted import points_by_cost
from workflows.systems import save_system

NOT_ZERO = 1e-3
Costs = tuple[list[Point], dict[str, dict[str, Any]]]
"""The points of a system, and by their ids what they cost: at least of the first of those that cost the same."""


def untrained_system(experiment: Experiment, methods: Mapping[str, Method], name: str) -> TrainedSystem:
    """System `name` in evaluation mode; `methods` are those of all systems, checked."""
    entry, known = experiment.systems[name], methods[name]
    needed = known.needs(known.config)
    inputs = {role: untrained_system(experiment, methods, other) for role, other in needed.items()}
    where = f"systems.{name}"
    method = make_method(entry.method, entry.settings, known.backbone, inputs, where, experiment.packages)
    torch.manual_seed(0)
    module, heard, vocabulary = method.untrained(), Noise(experiment, name), known.backbone.vocabulary
    leave_zero(module)
    for stage in method.stages(experiment.training_of(name)):
        module = method.begin_stage(module, stage, heard.calibration(vocabulary, stage.labelled))
    module = method.finish(module.eval(), heard.calibration(vocabulary, labelled=True))
    module.eval().requires_grad_(False)
    layers = method.backbone.config.layers
    return TrainedSystem(name, module, method, tuple(range(layers, 0, -1)), statistics_of(module))


@torch.no_grad()
def leave_zero(module: nn.Module) -> None:
    """Biases begin at zero, and are not after the first step: zeros are those that a method makes."""
    for parameter in module.parameters():
        if parameter.requires_grad and not parameter.any():
            parameter.fill_(NOT_ZERO)


def save_untrained(experiment: Experiment, methods: Mapping[str, Method], name: str, folder: Path) -> list[Point]:
    """Write the same system as training does; its points."""
    system = untrained_system(experiment, methods, name)
    method = system.method
    description = {
        "name": name,
        "seed": 0,
        "method": experiment.systems[name].method,
        "settings": method.config.model_dump(mode="json"),
        "vocabulary": method.backbone.vocabulary,
    }
    save_system(folder, system.module, method, description, system.running_statistics)
    return points_of(experiment, system)


def expected_costs(experiment: Experiment, methods: Mapping[str, Method], name: str, asked: Asked) -> Costs:
    """What is counted of the untrained system, and measured where that is asked for: the entries of `costs.json`."""
    if any(asked):
        with tempfile.TemporaryDirectory() as folder:
            points = in_child(name, save_untrained, experiment, methods, name, Path(folder))
            measured = measure_system(experiment, name, None, Path(folder), asked)
        about = {"device": measured["device"], "threads": measured["threads"]}
        return points, {point: {**about, **found} for point, found in measured["points"].items()}
    system = untrained_system(experiment, methods, name)
    points = points_of(experiment, system)
    first = [alike[0] for alike in points_by_cost(experiment, name, system.method, points)]
    speech = Speech(Noise(experiment, name), experiment.measure.audio_seconds, torch.device("cpu"))
    return points, {point.id: counted_costs(system, point, speech) for point in first}


def expected_parameters(experiment: Experiment, methods: Mapping[str, Method], name: str) -> Costs:
    """The weights that a system stores, alone: on its outline, where its method gives one."""
    method = methods[name]
    outline = method.outline()
    if outline is not None:
        points = all_points(method, outline, experiment.further_paths(name))
        return points, {point.id: {"parameters_stored": number_of_weights(outline)} for point in points}
    system = untrained_system(experiment, methods, name)
    points = points_of(experiment, system)
    found = {point.id: system.method.parameters(system.module, point).stored for point in points}
    return points, {point: {"parameters_stored": stored} for point, stored in found.items()}
