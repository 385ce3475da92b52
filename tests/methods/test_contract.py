"""Every method and baseline through the contract: found by file name, and named only to fit a setting to small data."""

import dataclasses
import typing
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from asr.backbones import BACKBONES, BackboneFactory
from asr.training import seed_step
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
from tests.models import SMALL_ENCODER, STILL, batch, factory, small_encoder, waves
from tests.published import publish
from workflows.systems import load_system, save_system

PACKAGES = ["tests.toys"]
TOYS = [f"tests.toys.{path.stem}" for path in sorted(Path("tests/toys").glob("[a-z]*.py"))]
METHODS = [*method_names(), *TOYS]
SMALLER = {"baselines.masked_prediction": {"clusters": 8}}
LETTERS = 32


def small_backbone(name):
    """With nothing random: passes can be compared."""
    if name == "conformer":
        return factory(**STILL)
    still = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layer_drop": 0.0}
    return BackboneFactory(name, {**SMALL_ENCODER, **still}, LETTERS)


def backbones_of(name):
    """One of each kind of input that the method works on."""
    named = load_method(name, "test", PACKAGES).backbones
    return [backbone for backbone in ("conformer", "wav2vec2") if named is None or backbone in named]


CASES = [(name, backbone) for name in METHODS for backbone in backbones_of(name)]


@dataclasses.dataclass
class Made:
    name: str
    settings: dict
    method: Method
    module: torch.nn.Module

    def batch(self, seed=1):
        return batch(seed=seed) if self.method.backbone.name == "conformer" else waves(seed=seed)

    def description(self):
        names = {"name": "x", "seed": 0, "method": self.name}
        return {**names, "settings": self.settings, "vocabulary": self.method.backbone.vocabulary}


def settings_for(name, folder):
    """The least settings: a reference to a system, or the folder of a published model, where the method needs one."""
    kind, settings = load_method(name, "test", PACKAGES), dict(SMALLER.get(name, {}))
    for key, field in kind.Config.model_fields.items():
        if field.is_required() and SystemReference in (field.annotation, *typing.get_args(field.annotation)):
            settings[key] = {"system": "source"}
        elif field.is_required():
            settings[key] = str(publish(folder / "published", small_encoder()))
    return settings


def make(name, folder, backbone=None):
    """A method with its settings and a module with random weights, as after its last stage."""
    backbone = backbone or small_backbone(backbones_of(name)[0])
    settings = settings_for(name, folder)
    torch.manual_seed(0)
    source = make_method("baselines.all_physical", {}, backbone)
    references = [role for role, value in settings.items() if isinstance(value, dict)]
    inputs = {role: TrainedSystem("source", source.build().eval(), source) for role in references}
    method = make_method(name, settings, backbone, inputs, packages=PACKAGES)
    made = Made(name, settings, method, method.build())
    for stage in method.stages(TRAINING):
        made.module = method.begin_stage(made.module, stage, iter([made.batch(), made.batch(seed=3)]))
    return made


def training_settings():
    from asr.settings import TrainingSettings

    return TrainingSettings(steps=4, schedule={"kind": "linear", "warmup_steps": 1})


TRAINING = training_settings()


@pytest.fixture(params=CASES, ids="-".join)
def made(request, tmp_path):
    name, backbone = request.param
    return make(name, tmp_path, small_backbone(backbone))


def finished(made):
    module = made.method.finish(made.module.eval(), iter([made.batch(), made.batch(seed=3)]))
    return module.eval()


def last_stage(made):
    stages = made.method.stages(TRAINING)
    if not stages:
        pytest.skip("nothing is trained")
    return stages[-1]


def test_gradient_reaches_every_physical_parameter(made):
    stage = last_stage(made)
    made.module.train()
    terms = made.method.losses(made.module, made.batch(), Step(stage.name, 0, 0))
    assert terms["total"].shape == () and torch.isfinite(terms["total"])
    terms["total"].backward()
    without = [name for name, p in made.module.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    grouped = [p for group in made.method.parameter_groups(made.module, stage) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in made.module.parameters() if p.requires_grad}


def test_same_seed_gives_the_same_first_loss(made, tmp_path):
    stage = last_stage(made)
    step = Step(stage.name, 0, 7)
    losses = []
    for _ in range(2):
        again = make(made.name, tmp_path, made.method.backbone)
        again.module.train()
        seed_step(7, stage.name, 0, 0)
        losses.append(float(again.method.losses(again.module, again.batch(), step)["total"].detach()))
    assert losses[0] == losses[1]


def test_no_weight_is_stored_twice(made):
    module = finished(made)
    pointers = [tensor.data_ptr() for tensor in module.state_dict().values() if tensor.numel() > 1]
    assert len(pointers) == len(set(pointers))


@torch.no_grad()
def test_save_and_load_give_equal_outputs_at_every_point(made, tmp_path):
    module = finished(made)
    save_system(tmp_path, module, made.method, made.description())
    loaded = load_system(tmp_path, packages=PACKAGES)
    state = loaded.module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    data = made.batch()
    points = all_points(made.method, module, [])
    assert points == all_points(loaded.method, loaded.module, [])
    assert points or made.method.kind == "foundation model", "only such a model recognises nothing yet"
    assert len({point.id for point in points}) == len(points)
    together = dict(
        (point.id, encoded)
        for point, encoded in made.method.encode_points(module, data.inputs, data.input_lengths, points)
    )
    for point in points:
        encoded = loaded.method.at(loaded.module, point).encode(data.inputs, data.input_lengths)
        log_probs = loaded.method.at(loaded.module, point).ctc_log_probs(encoded)
        assert log_probs.shape[::2] == (len(data.ids), made.method.backbone.vocabulary)
        assert encoded.lengths.tolist() == made.method.output_lengths(module, data.input_lengths.tolist())
        torch.testing.assert_close(together[point.id].frames, encoded.frames, atol=1e-5, rtol=0)


def test_costs_are_positive_and_agree_with_the_file(made, tmp_path):
    module = finished(made)
    points = all_points(made.method, module, [])
    for point in points:
        count = made.method.parameters(module, point)
        assert 0 < count.executed <= count.stored
        assert 0 < count.nonzero <= count.stored
    save_system(tmp_path, module, made.method, made.description())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a mapping
    assert made.method.stored_bytes(module, points) == sum(t.numel() * t.element_size() for t in tensors)
    assert made.method.stored_bytes(module, points[:1]) > 0


def test_a_wrong_setting_gives_a_clear_error(made):
    with pytest.raises(UserError, match="unknown key 'no_such_key'"):
        make_method(made.name, {**made.settings, "no_such_key": 1}, made.method.backbone, packages=PACKAGES)


@pytest.mark.parametrize("name", [name for name in METHODS if load_method(name, "test", PACKAGES).backbones])
def test_another_backbone_gives_a_clear_error(name, tmp_path):
    kind = load_method(name, "test", PACKAGES)
    other = next(backbone for backbone in BACKBONES if backbone not in kind.backbones)
    with pytest.raises(UserError, match=f"systems.x: this method works on .*, not on {other}"):
        make_method(name, settings_for(name, tmp_path), small_backbone(other), where="systems.x", packages=PACKAGES)


def test_unknown_method_names_the_closest():
    with pytest.raises(UserError, match="did you mean 'methods.unfolding'"):
        load_method("methods.unfoldin", "systems.f6.method")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    made = make("baselines.all_physical", tmp_path)
    save_system(tmp_path, made.module, made.method, made.description())
    other = make("baselines.all_physical", tmp_path, factory(**STILL, layers=3))
    save_system(tmp_path / "other", other.module, other.method, other.description())
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="belongs to another configuration") as error:
        load_system(tmp_path)
    assert "model.safetensors" in str(error.value)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    made = make("baselines.all_physical", tmp_path)
    save_system(tmp_path, made.module, made.method, made.description())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_system(tmp_path)
