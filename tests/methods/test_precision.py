"""bf16-mixed in training: every method on every backbone, and what stays float32 while it runs."""

import dataclasses
import json
from collections import defaultdict

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from asr.backbones import BACKBONES, BackboneFactory
from asr.batches import StageData
from asr.clusters import Clusters
from asr.precision import float32_products, no_autocast, precision_of, what_runs
from asr.settings import TrainingSettings
from asr.training import make_fabric, run_stage
from methods.contract import Method, Step, load_method
from tests.methods.test_contract import METHODS, PACKAGES, case
from tests.models import SMALL_ENCODER, STILL, batch, factory, waves
from workflows.steps.contract_cases import Case
from workflows.steps.evaluate import in_precision
from workflows.steps.train import _AtStage, describe_precision

CPU = torch.device("cpu")
LETTERS = 32
LARGE = {"pre_norm": True, "conv_norm": "layer", "checkpoint_layers": True, "freeze_feature_encoder": True}
"""What the larger published encoders have, and what saves memory."""
MASKS = {"spec_augment": {"frequency_width": 4, "time_width": 8}}
"""Of short inputs wider ones would leave nothing."""
LOSSES = {"ctc_loss", "log_softmax", "kl_div", "cross_entropy", "mse_loss", "cosine_similarity", "cdist"}


def cases():
    for name in METHODS:
        named = load_method(name, "test", PACKAGES).backbones
        for backbone in BACKBONES:
            if (named is None or backbone in named) and name != "baselines.foundation":  # fetched, not trained
                yield pytest.param(name, backbone, {}, id=f"{name}-{backbone}")
    yield pytest.param("methods.unfolding", "wav2vec2", LARGE, id="methods.unfolding-large wav2vec2")


def random_backbone(name, changes):
    """Everything random is on: dropout, layer drop, masks."""
    if name == "conformer":
        return factory(**MASKS, **changes)
    return BackboneFactory(name, {**SMALL_ENCODER, **changes}, LETTERS)


@dataclasses.dataclass
class Made:
    method: Method
    module: nn.Module


def make(name, folder, backbone=None):
    """A method and a module with random weights, as its first stage finds it."""
    backbone = backbone or factory(**STILL)
    small = Case(name, backbone, case(name, backbone.name, folder).settings, PACKAGES)
    method = small.method(small.sources())
    torch.manual_seed(0)
    module = method.build()
    for stage in method.stages(TrainingSettings(**SETTINGS, **RATES)):
        module = method.begin_stage(module, stage, small.batches(stage.labelled))
    return Made(method, module)


class Watch(TorchFunctionMode):
    """Dtypes of what torch's functions are given inside."""

    def __init__(self):
        self.given = defaultdict(set)
        self.masks = set()

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        name = getattr(function, "__name__", "")
        floats = {each.dtype for each in arguments[:2] if isinstance(each, Tensor) and each.is_floating_point()}
        self.given[name] |= floats
        if name in ("masked_fill", "masked_fill_"):
            self.masks.add(arguments[1].dtype)
        if name == "scaled_dot_product_attention" and keywords.get("attn_mask") is not None:
            self.masks.add(keywords["attn_mask"].dtype)
        if name == "batch_norm":
            self.given["statistics"] |= {each.dtype for each in arguments[1:3] if each is not None}
        return function(*arguments, **keywords)


class Watched:
    """A method at a stage, which notes what its losses are made of."""

    def __init__(self, objective):
        self.objective = objective
        self.watch, self.terms, self.inputs = Watch(), set(), set()

    def __getattr__(self, name):
        return getattr(self.objective, name)

    def losses(self, module, batch, index, micro_batch, rank, training):
        self.inputs.add(batch.inputs.dtype)
        with self.watch:
            terms = self.objective.losses(module, batch, index, micro_batch, rank, training)
        self.terms |= {value.dtype for value in terms.values()}
        return terms


def stage_of(made, stage):
    """Two steps on two batches of the kind that the stage reads."""
    small = batch if made.method.backbone.name == "conformer" else waves
    batches = [small(seed=1), small(seed=3)]
    if not stage.labelled:
        batches = [dataclasses.replace(each, targets=None, target_lengths=None) for each in batches]
    return StageData(lambda start, rank, world: iter(batches * 2), lambda: iter(batches))


SETTINGS = {"steps": 2, "accumulate": 2, "validate_every": 1, "log_every": 1, "tensorboard": False, "keep": "best"}
RATES = {"optimiser": {"learning_rate": 1e-3}, "schedule": {"kind": "linear", "warmup_steps": 0, "final_ratio": 1.0}}


@pytest.mark.parametrize(("name", "backbone", "changes"), cases())
def test_two_steps_of_bf16(name, backbone, changes, tmp_path):
    made = make(name, tmp_path, random_backbone(backbone, changes))
    training = TrainingSettings(**SETTINGS, **RATES, precision="bf16-mixed")
    stages = made.method.stages(training)
    if not stages:
        pytest.skip("nothing is trained")
    before = {key: value.clone() for key, value in made.module.state_dict().items()}
    outputs = defaultdict(set)
    for layer in made.module.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda layer, _, output: outputs[layer.training].add(output.dtype))
    for module in made.module.modules():
        if isinstance(module, Clusters):
            module.mfcc.register_forward_hook(lambda layer, _, output: outputs["features"].add(output.dtype))
    fabric = make_fabric(training)
    for number, stage in enumerate(stages):
        training = stage.training.model_copy(update={"steps": 2})
        objective = Watched(_AtStage(made.method, dataclasses.replace(stage, training=training), 0))
        data, folder = stage_of(made, stage), tmp_path / f"stage{number}"
        run_stage(fabric, made.module, objective, data, training, 0, folder, {}, stage.name)
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert all(torch.isfinite(torch.tensor(list(row.values())[1:])).all() for row in rows)
        watch = objective.watch
        read = set().union(*(watch.given[each] for each in LOSSES))
        assert objective.inputs == objective.terms == read == {torch.float32}
        assert watch.given["statistics"] == ({torch.float32} if backbone == "conformer" else set())
        assert watch.masks == {torch.bool}
    assert outputs[True] == {torch.bfloat16}
    assert outputs[False] == {torch.float32}, "validation is in float32"
    assert outputs["features"] == ({torch.float32} if "masked_prediction" in name else set())
    after = made.module.state_dict()
    assert {value.dtype for value in after.values() if value.is_floating_point()} == {torch.float32}
    trained = {key for key, parameter in made.module.named_parameters() if parameter.requires_grad}
    trained -= {key for key in trained if changes and ".feature_extractor." in key}  # asked to stay as they are
    same = {key for key in trained if key in before and torch.equal(before[key], after[key])}
    assert not same, "no gradient reaches them"
    assert describe_precision(made.method, TrainingSettings(**SETTINGS, precision="bf16-mixed"), CPU) == {
        "asked": "bf16-mixed",
        "ran": {stage.name: "bf16-mixed" for stage in stages},
        "device": "cpu",
    }


def test_labels_are_the_same_in_any_precision(tmp_path):
    """Those of the pre-training: clusters of features, nearest of many."""
    made = make("baselines.masked_prediction", tmp_path, random_backbone("wav2vec2", {}))
    speech, clusters = waves(), made.module.clusters
    heard = speech.inputs, speech.input_lengths
    expected, features = clusters(*heard), clusters.features(*heard)
    with precision_of("bf16-mixed", CPU):
        assert torch.equal(clusters(*heard), expected)
        assert torch.equal(clusters.features(*heard), features)


def test_statistics_are_float32_sums_of_what_the_norm_is_given(tmp_path):
    made = make("baselines.all_physical", tmp_path)
    norm = made.module.layer_module(0).conv_module.norm
    given = []
    norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach()))
    norm.running_mean.fill_(100.0)  # bfloat16 has steps of a half here
    with precision_of("bf16-mixed", CPU):
        made.method.losses(made.module.train(), batch(), Step("train", 0, 0))
    assert given[0].dtype == torch.bfloat16 and norm.running_mean.dtype == torch.float32
    torch.testing.assert_close(norm.running_mean, 90 + 0.1 * given[0].float().mean(0), rtol=0, atol=2e-5)


def test_float32_is_exact():
    """bfloat16 has 8 bits: 1 + 2^-20 would be 1."""
    layer, inputs = nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 2**-20]])
    with torch.no_grad():
        layer.weight.fill_(1.0)
        found = {}
        for precision in ("32-true", "tf32-mixed", "bf16-mixed"):
            with precision_of("bf16-mixed", CPU), precision_of(precision, CPU):
                found[precision] = float(layer(inputs))
    assert found == {"32-true": 1 + 2**-20, "tf32-mixed": 1 + 2**-20, "bf16-mixed": 1.0}
    with precision_of("bf16-mixed", CPU), no_autocast(CPU):
        assert layer(inputs).dtype == torch.float32


def test_what_runs_on_a_cpu():
    ran = {asked: what_runs(asked, CPU) for asked in ("32-true", "tf32-mixed", "bf16-mixed")}
    assert ran == {"32-true": "32-true", "tf32-mixed": "32-true", "bf16-mixed": "bf16-mixed"}


def switches():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def test_switches_are_put_back():
    """torch's own default lets convolutions run in TF32."""
    before = switches()
    try:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        with pytest.raises(KeyError), float32_products("32-true", CPU):
            assert switches() == ("highest", False)
            raise KeyError
        assert switches() == ("high", True)
        make_fabric(TrainingSettings(steps=1))
        assert switches() == ("highest", False)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tf32_on_a_gpu():
    """Products of numbers that TF32 cannot tell from 1 differ from float32's, inside the context only."""
    device = torch.device("cuda")
    matrix = torch.full((64, 64), 1 + 2**-12, device=device)
    found = {}
    for precision in ("32-true", "tf32-mixed", "32-true"):
        with precision_of(precision, device):
            found[precision] = float((matrix @ matrix)[0, 0])
            assert switches() == (("high", True) if precision == "tf32-mixed" else ("highest", False))
    assert found["32-true"] == pytest.approx(64 * (1 + 2**-12) ** 2, rel=1e-5)
    assert found["tf32-mixed"] == pytest.approx(64, rel=1e-5)


@torch.inference_mode()
def test_an_encoder_is_decoded_in_the_precision_that_the_decode_names(tmp_path):
    """Every point in it, the shared layers too; labels are found from float32."""
    made = make("methods.unfolding", tmp_path)
    module, points, data = made.module.eval(), made.method.points(made.module), batch()

    def encodings():
        return made.method.encode_points(module, data.inputs, data.input_lengths, points)

    exact = {point.id: encoded.frames for point, encoded in encodings()}
    for precision in ("32-true", "bf16-mixed"):
        for point, encoded in in_precision(encodings(), precision, CPU):
            assert encoded.frames.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
            assert torch.equal(encoded.frames, exact.pop(point.id)) == (precision == "32-true")
        assert not exact
        exact = {point.id: encoded.frames for point, encoded in encodings()}
