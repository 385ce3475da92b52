"""Every method and baseline through the contract: found by file name, and named only to fit a setting to small data."""

import dataclasses
import subprocess
import sys

import pytest

from asr.backbones import BACKBONES
from common.errors import UserError
from methods.contract import load_method, make_method
from methods.names import method_names
from tests.models import STILL, factory, small_encoder
from tests.published import publish
from tests.workflows.commands import ROOT, one_clear_error
from workflows.steps import contract_cases
from workflows.steps.contract_cases import BrokenContract, finished, save
from workflows.steps.contract_checks import CHECKS
from workflows.systems import load_system, save_system

PACKAGES = ["tests.toys"]
METHODS = method_names(PACKAGES)
SMALLER = {"baselines.masked_prediction": {"clusters": 8}}


def is_broken(name, packages=PACKAGES):
    try:
        load_method(name, "test", packages)
    except UserError:
        return True
    return False


def backbones_of(name, packages=PACKAGES):
    """One of each kind of input that the method works on; of a file that cannot be read one, whose tests say why."""
    named = ("conformer",) if is_broken(name, packages) else load_method(name, "test", packages).backbones
    return [backbone for backbone in ("conformer", "wav2vec2") if named is None or backbone in named]


def case(name, backbone, folder, packages=PACKAGES):
    settings = dict(SMALLER.get(name, {}))
    if name == "baselines.foundation":
        settings["source"] = str(publish(folder / "published", small_encoder()))
    return contract_cases.case(name, backbone, settings, packages)


CASES = [(name, backbone) for name in METHODS for backbone in backbones_of(name)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "backbone"), CASES, ids=["-".join(pair) for pair in CASES])
def test_contract(name, backbone, check, tmp_path):
    check(case(name, backbone, tmp_path), tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_with_statistics_for_each_execution(check, tmp_path):
    settings = {"source": {"system": "source"}, "use": "execution"}
    for path in ({}, {"path": [1, 1, 2, 2]}):
        check(contract_cases.case("baselines.statistics", "conformer", settings | path), tmp_path)


# What a method may do wrong: the check that must say so, its words, and the method.
START = """
    class Config(Settings):
        source: SystemReference

    def build(self):
        module = self.backbone.build()
        module.load_state_dict(self.inputs["source"].module.state_dict())
        return module
"""
WRONG = {
    "packed matrices that it does not name": (
        "check_packing",
        "hold no dense weights any more: set `packs = True`",
        """
    def finish(self, module, calibration):
        for name, linear in encoder_linears(module).items():
            module.set_submodule(name, Int8Linear.from_float(linear, 1.0))
        return module
""",
    ),
    "another type after rebuild": (
        "check_file",
        "is torch.float32 and comes back from `rebuild` as torch.float64",
        """
    def rebuild(self, architecture):
        return self.backbone.build().double()
""",
    ),
    "packed weights that come back as floats": (
        "check_file",
        "w_1.weight is torch.int8 and comes back from `rebuild` as torch.float32",
        """
    def finish(self, module, calibration):
        for name, linear in encoder_linears(module).items():
            module.set_submodule(name, Int8Linear.from_float(linear, 1.0))
        return module

    def rebuild(self, architecture):
        module = self.finish(self.backbone.build(), None)
        for linear in module.modules():
            if isinstance(linear, Int8Linear):
                linear.weight = linear.weight.float()
        return module
""",
    ),
    "a source changed in place": (
        "check_sources",
        "was changed in place",
        START
        + """
    def begin_stage(self, module, stage, batches):
        for parameter in self.inputs["source"].module.parameters():
            parameter.data.mul_(0.5)
        return module
""",
    ),
    "a source that is trained": (
        "check_sources",
        "is the source's own tensor, not a copy",
        START.replace("module = self.backbone.build()", "return self.inputs['source'].module.requires_grad_(True)"),
    ),
    "a source left in training mode": (
        "check_sources",
        "was left in training mode",
        START
        + """
    def losses(self, module, batch, step):
        self.inputs["source"].module.train()
        return super().losses(module, batch, step)
""",
    ),
    "stages that read the source": (
        "check_without_inputs",
        "`stages` reads self.inputs['source']",
        START
        + """
    def stages(self, training):
        steps = self.inputs["source"].module.layers
        return [Stage("train", training.model_copy(update={"steps": steps}))]
""",
    ),
    "stages that differ without the source": (
        "check_without_inputs",
        "`stages` depends on self.inputs",
        START
        + """
    def stages(self, training):
        return [Stage("train" if self.inputs else "nothing", training)]
""",
    ),
    "points that read the source": (
        "check_without_inputs",
        "`points` reads self.inputs['source']",
        START
        + """
    def points(self, module):
        return path_points([(1,) * self.inputs["source"].module.layers], ())
""",
    ),
    "parameters that read the source": (
        "check_without_inputs",
        "`parameters` reads self.inputs['source']",
        START
        + """
    def parameters(self, module, point):
        return super().parameters(self.inputs["source"].module, point)
""",
    ),
    "a rebuild that reads the source": (
        "check_without_inputs",
        "`rebuild` reads self.inputs['source']",
        START
        + """
    def rebuild(self, architecture):
        return self.backbone.build(layers=self.inputs["source"].module.layers)
""",
    ),
    "packed weights that are not counted": (
        "check_costs",
        "packed ones in buffers among them",
        """
    def finish(self, module, calibration):
        for name, linear in encoder_linears(module).items():
            module.set_submodule(name, Int8Linear.from_float(linear, 1.0))
        return module

    def rebuild(self, architecture):
        return self.finish(self.backbone.build(), None)
""",
    ),
    "nothing trainable": (
        "check_stages",
        "stage 'train': nothing is trainable",
        """
    def build(self):
        return self.backbone.build().requires_grad_(False)
""",
    ),
    "nothing trainable in the first of two stages": (
        "check_stages",
        "stage 'first': nothing is trainable",
        """
    def stages(self, training):
        return [Stage("first", training), Stage("second", training)]

    def begin_stage(self, module, stage, batches):
        return module.requires_grad_(stage.name == "second")
""",
    ),
    "parameters that no group names": (
        "check_stages",
        "parameter_groups does not name every trainable parameter once",
        """
    def parameter_groups(self, module, stage):
        return [{"params": list(module.ctc.parameters())}]
""",
    ),
    "no points": (
        "check_points",
        "a method that recognises offers points",
        """
    def points(self, module):
        return []
""",
    ),
    "other points than were said": (
        "check_points",
        "`expected_points` names other points",
        """
    def expected_points(self):
        return path_points([(2,) * self.backbone.config.layers], ())
""",
    ),
    "two points of one name": (
        "check_points",
        "two points have one id",
        """
    def points(self, module):
        return super().points(module) * 2
""",
    ),
    "any setting is taken": (
        "check_settings",
        "an unknown key among the settings is accepted",
        """
    class Config(Settings):
        start: None = None

        @model_validator(mode="before")
        @classmethod
        def _anything(cls, data):
            return {}
""",
    ),
    "bytes that are not those of the file": (
        "check_costs",
        "`stored_bytes` of all points is",
        """
    def stored_bytes(self, module, points):
        return super().stored_bytes(module, points) // 2
""",
    ),
    "a weight under two names": (
        "check_storage",
        "are one tensor",
        """
    def build(self):
        module = self.backbone.build()
        module.layer_module(1).feed_forward = module.layer_module(0).feed_forward
        return module

    rebuild = lambda self, architecture: self.build()
""",
    ),
    "a loss that is read": (
        "check_host_waits",
        "stage 'train': a step waits for the device: _local_scalar_dense at ",
        """
    def losses(self, module, batch, step):
        terms = super().losses(module, batch, step)
        return {**terms, "total": terms["total"] / max(1.0, float(terms["ctc"]))}
""",
    ),
    "frames chosen by a boolean index": (
        "check_host_waits",
        "stage 'train': a step waits for the device: index with booleans at ",
        """
    def losses(self, module, batch, step):
        state = module.front_end(batch.inputs, batch.input_lengths)
        terms = super().losses(module, batch, step)
        return {**terms, "total": terms["total"] + state.x[state.valid].square().mean()}
""",
    ),
    "a mask that is sent at every step": (
        "check_host_waits",
        "stage 'train': a step waits for the device: copy to the device without non_blocking at ",
        """
    def after_step(self, module, step):
        for parameter in module.parameters():
            parameter.data.mul_(torch.ones(parameter.shape).to(parameter.device))
""",
    ),
    "layers that each device draws for itself": (
        "check_same_layers",
        "stage 'train': two devices that share their batch norm run other layers",
        """
    def losses(self, module, batch, step):
        drop = module.draw_layer_drop(module.layers, step.generator("layer drop"))
        state = module.run_path((1,) * module.layers, module.front_end(batch.inputs, batch.input_lengths), drop)
        return module.loss(module.outputs(module.finish(state), batch), batch)
""",
    ),
    "a loss that another run does not repeat": (
        "check_first_loss",
        "the same seed gives first losses",
        """
    def losses(self, module, batch, step):
        terms = super().losses(module, batch, step)
        return {**terms, "total": terms["total"] * (1 + time.perf_counter_ns() % 1000)}
""",
    ),
}
HEAD = """
import time

import torch
from pydantic import model_validator

from baselines import all_physical
from common.settings import Settings
from methods.contract import Stage, SystemReference, path_points
from tests.toys.int8 import Int8Linear, encoder_linears


class Wrong(all_physical.AllPhysical):
    backbones = ("conformer",)
"""


@pytest.fixture
def wronglab(tmp_path, monkeypatch):
    """`write(name, text)` adds a module to a package of somebody else's methods."""
    package = tmp_path / "wronglab"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (package / f"{name}.py").write_text(text)
        return f"wronglab.{name}"

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "wronglab"]:
        del sys.modules[name]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_breaks_the_contract_is_refused(wrong, wronglab, tmp_path):
    name, message, body = WRONG[wrong]
    module = wronglab("method", HEAD + body)
    (check,) = [check for check in CHECKS if check.__name__ == name]
    with pytest.raises(BrokenContract) as error:
        check(case(module, "conformer", tmp_path, ["wronglab"]), tmp_path)
    assert message in str(error.value)


def test_a_right_method_of_somebody_else_passes_every_check(wronglab, tmp_path):
    """What the wrong ones are made of is not what is wrong with them."""
    made = case(wronglab("method", HEAD + START), "conformer", tmp_path, ["wronglab"])
    for check in CHECKS:
        check(made, tmp_path)


@pytest.mark.parametrize(("number", "name"), [(1, "thin_ffn"), (2, "codebook")])
def test_the_documented_examples_pass_every_check(wronglab, tmp_path, number, name):
    text = (ROOT / "docs/add_a_method.md").read_text()
    example = text.split("```python\n")[number].split("```", 1)[0]
    assert f"baselines/{name}.py" in text.split("```python\n")[number - 1][-400:] and len(example.splitlines()) <= 100
    made = case(wronglab(name, example), "conformer", tmp_path, ["wronglab"])
    for check in CHECKS:
        check(made, tmp_path)


def test_the_documented_derived_method_stands_on_a_foldable_system_and_a_pruned_one(wronglab, tmp_path):
    text = (ROOT / "docs/add_a_method.md").read_text()
    name = wronglab("codebook", text.split("```python\n")[2].split("```", 1)[0])
    for backbone in ("conformer", "wav2vec2"):
        made = case(name, backbone, tmp_path, ["wronglab"])
        made = dataclasses.replace(made, source=("methods.unfolding", {"depth": 6, "training_path": "random"}))
        for check in CHECKS:
            check(made, tmp_path)


BROKEN = {"syntax": "class Broken(:\n", "imports": "import no_such_package\n", "other": "1 / 0\n", "none": "x = 1\n"}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_stops_its_own_tests_only(kind, wronglab, tmp_path):
    name = wronglab(kind, BROKEN[kind])
    assert backbones_of(name, ["wronglab"]) == ["conformer"], "it is collected like any other"
    with pytest.raises(UserError, match=f"{name}: (method|module) '{name}'"):
        case(name, "conformer", tmp_path, ["wronglab"])


def test_the_command_says_what_is_broken(wronglab, tmp_path):
    def command(name):
        words = [sys.executable, "-m", "workflows.check_method", name, "--package", "wronglab"]
        environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "", "OMP_NUM_THREADS": "1"}
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)

    done = command(wronglab("method", HEAD + WRONG["no points"][2]))
    assert "conformer: BROKEN: a method that recognises offers points (check_points)" in done.stdout
    one_clear_error(done, "wronglab.method: the contract is broken in ")
    one_clear_error(command(wronglab("none", "class Broken(:\n")), "'wronglab.none' cannot be imported (SyntaxError")


@pytest.mark.parametrize("name", [name for name in METHODS if not is_broken(name)])
def test_another_backbone_gives_a_clear_error(name, tmp_path):
    kind = load_method(name, "test", PACKAGES)
    if kind.backbones is None:
        pytest.skip("works on all")
    made = case(name, backbones_of(name)[0], tmp_path)
    other = next(backbone for backbone in BACKBONES if backbone not in kind.backbones)
    elsewhere = contract_cases.BackboneFactory(other, contract_cases.SMALL[other], 32)
    with pytest.raises(UserError, match=f"systems.x: this method works on .*, not on {other}"):
        make_method(name, dict(made.settings), elsewhere, where="systems.x", packages=PACKAGES)


def test_unknown_method_names_the_closest():
    with pytest.raises(UserError, match="did you mean 'methods.unfolding'"):
        load_method("methods.unfoldin", "systems.f6.method")


@pytest.fixture
def saved(tmp_path):
    """A folder with a trained system."""
    made = case("baselines.all_physical", "conformer", tmp_path)
    method, module = finished(made)
    save(made, method, module, tmp_path)
    return tmp_path


def test_a_checkpoint_of_another_configuration_is_refused(saved):
    other = make_method("baselines.all_physical", {}, factory(**STILL, layers=3))
    description = {"name": "x", "seed": 0, "method": "baselines.all_physical", "settings": {}, "vocabulary": 12}
    save_system(saved / "other", other.build(), other, description)
    (saved / "other" / "model.safetensors").replace(saved / "model.safetensors")
    with pytest.raises(UserError, match="belongs to another configuration") as error:
        load_system(saved)
    assert "model.safetensors" in str(error.value)


def test_a_damaged_checkpoint_is_refused(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_system(saved)
