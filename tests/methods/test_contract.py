"""Every method and baseline through the contract: found by file name, named nowhere else."""

import dataclasses
import typing
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from common.errors import UserError
from methods.contract import (
    Method,
    Step,
    SystemReference,
    TrainedSystem,
    all_points,
    load_method,
    make_method,
)
from methods.names import method_names
from tests.models import STILL, VOCABULARY, batch, factory
from workflows.systems import load_system, save_system

TOYS = [f"tests.toys.{path.stem}" for path in sorted(Path("tests/toys").glob("[a-z]*.py"))]
METHODS = [*method_names(), *TOYS]


@dataclasses.dataclass
class Made:
    name: str
    settings: dict
    method: Method
    module: torch.nn.Module


def settings_for(kind):
    """The least settings: a reference to a system where the method needs one."""
    fields = kind.Config.model_fields
    return {
        name: {"system": "source"}
        for name, field in fields.items()
        if field.is_required() and SystemReference in (field.annotation, *typing.get_args(field.annotation))
    }


def make(name, backbone=None):
    """A method with its settings and a module with random weights, as after its last stage."""
    backbone = backbone or factory(**STILL)
    torch.manual_seed(0)
    settings = settings_for(load_method(name, "test"))
    source = make_method("baselines.all_physical", {}, backbone)
    inputs = {role: TrainedSystem("source", source.build().eval(), source) for role in settings}
    method = make_method(name, settings, backbone, inputs)
    module = method.build()
    for stage in method.stages(TRAINING):
        module = method.begin_stage(module, stage, iter([batch(), batch(seed=3)]))
    return Made(name, settings, method, module)


def training_settings():
    from asr.settings import TrainingSettings

    return TrainingSettings(steps=4, schedule={"kind": "linear", "warmup_steps": 1})


TRAINING = training_settings()


@pytest.fixture(params=METHODS)
def made(request):
    return make(request.param)


def finished(made):
    module = made.method.finish(made.module.eval(), iter([batch(), batch(seed=3)]))
    return module.eval()


def last_stage(made):
    stages = made.method.stages(TRAINING)
    if not stages:
        pytest.skip("nothing is trained")
    return stages[-1]


def test_gradient_reaches_every_physical_parameter(made):
    stage = last_stage(made)
    made.module.train()
    terms = made.method.losses(made.module, batch(), Step(stage.name, 0, 0))
    assert terms["total"].shape == () and torch.isfinite(terms["total"])
    terms["total"].backward()
    without = [name for name, p in made.module.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    grouped = [p for group in made.method.parameter_groups(made.module, stage) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in made.module.parameters() if p.requires_grad}


def test_same_seed_gives_the_same_first_loss(made):
    stage = last_stage(made)
    step = Step(stage.name, 0, 7)
    losses = []
    for _ in range(2):
        again = make(made.name)
        again.module.train()
        torch.manual_seed(3)
        losses.append(float(again.method.losses(again.module, batch(), step)["total"].detach()))
    assert losses[0] == losses[1]


def test_no_weight_is_stored_twice(made):
    module = finished(made)
    pointers = [tensor.data_ptr() for tensor in module.state_dict().values() if tensor.numel() > 1]
    assert len(pointers) == len(set(pointers))


@torch.no_grad()
def test_save_and_load_give_equal_outputs_at_every_point(made, tmp_path):
    module = finished(made)
    description = {"name": "x", "seed": 0, "method": made.name, "settings": made.settings, "vocabulary": VOCABULARY}
    save_system(tmp_path, module, made.method, description)
    loaded = load_system(tmp_path)
    data = batch()
    points = all_points(made.method, module, [])
    assert points and len({point.id for point in points}) == len(points)
    together = dict(
        (point.id, encoded)
        for point, encoded in made.method.encode_points(module, data.inputs, data.input_lengths, points)
    )
    for point in points:
        encoded = loaded.method.at(loaded.module, point).encode(data.inputs, data.input_lengths)
        log_probs = loaded.method.at(loaded.module, point).ctc_log_probs(encoded)
        assert log_probs.shape[::2] == (len(data.ids), VOCABULARY)
        assert encoded.lengths.tolist() == made.method.output_lengths(module, data.input_lengths.tolist())
        torch.testing.assert_close(together[point.id].frames, encoded.frames, atol=1e-5, rtol=0)


def test_costs_are_positive_and_agree_with_the_file(made, tmp_path):
    module = finished(made)
    points = all_points(made.method, module, [])
    for point in points:
        count = made.method.parameters(module, point)
        assert 0 < count.executed <= count.stored
        assert 0 < count.nonzero <= count.stored
    description = {"name": "x", "seed": 0, "method": made.name, "settings": made.settings, "vocabulary": VOCABULARY}
    save_system(tmp_path, module, made.method, description)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a mapping
    assert made.method.stored_bytes(module, points) == sum(t.numel() * t.element_size() for t in tensors)
    assert made.method.stored_bytes(module, points[:1]) > 0


def test_a_wrong_setting_gives_a_clear_error(made):
    with pytest.raises(UserError, match="unknown key 'no_such_key'"):
        make_method(made.name, {**made.settings, "no_such_key": 1}, factory())


def test_unknown_method_names_the_closest():
    with pytest.raises(UserError, match="did you mean 'methods.unfolding'"):
        load_method("methods.unfoldin", "systems.f6.method")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    made = make("baselines.all_physical")
    description = {"name": "x", "seed": 0, "method": made.name, "settings": {}, "vocabulary": VOCABULARY}
    save_system(tmp_path, made.module, made.method, description)
    other = make("baselines.all_physical", factory(**STILL, layers=3))
    save_system(tmp_path / "other", other.module, other.method, description)
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="belongs to another configuration") as error:
        load_system(tmp_path)
    assert "model.safetensors" in str(error.value)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    made = make("baselines.all_physical")
    description = {"name": "x", "seed": 0, "method": made.name, "settings": {}, "vocabulary": VOCABULARY}
    save_system(tmp_path, made.module, made.method, description)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_system(tmp_path)
