"""All-in-one models: sub-nets are the nets they stand for, one code holds all precisions, sizes are those of files."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCTC

import asr.exported.huggingface  # noqa: F401
from asr.backbones import BackboneFactory, Outputs
from asr.batch_norm import KEPT, batch_norms, estimating, statistics_of
from asr.seeds import seed_step
from common.errors import UserError
from common.files import read_json
from methods.contract import AtPath, Step, TrainedSystem, make_method
from methods.shared import subnets
from methods.shared.divergence import KL, divergence
from methods.shared.fakequant import straight_through
from methods.shared.matrices import matrices, packed_matrices
from methods.shared.nested import codes_of, most_significant, value_of
from methods.shared.subnets import layer_matrices
from tests.models import SMALL, SMALL_ENCODER, STILL, batch, waves
from tests.systems import system_folder
from tests.workflows.test_experiment import changed, refused_by_check
from workflows.experiment import load_experiment
from workflows.steps import contract_cases
from workflows.steps.choice import Chooser, table_points
from workflows.steps.contract_checks import CHECKS
from workflows.steps.export.folder import export_system
from workflows.steps.operations import counted_costs
from workflows.systems import load_system, save_system

BACKBONES = ("conformer", "wav2vec2")
NAME = "methods.allinone"
STEP = Step("train", 3, 7)
DEV = Step("train", 3, 7, training=False)
GRID = {"widths": [1, 0.5], "bits": [32, 8, 2]}
WHO = ("name", "seed", "method", "settings", "vocabulary")
QUIET = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layer_drop": 0.0}


def backbone(name, **changes):
    still = {**SMALL, **STILL} if name == "conformer" else {**SMALL_ENCODER, **QUIET}
    return BackboneFactory(name, {**still, **changes}, 12 if name == "conformer" else 32)


def allinone(name="conformer", changes=None, **settings):
    """The method and its module, with norms and statistics away from their neutral start."""
    method = make_method(NAME, {**GRID, **settings}, backbone(name, **(changes or {})))
    torch.manual_seed(0)
    return method, moved(method.build())


@torch.no_grad()
def moved(module):
    for key, value in [*module.named_parameters(), *module.named_buffers()]:
        if key.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif "norm" in key and value.dim() == 1:
            value.add_(0.2 * torch.randn_like(value))
    return module


def speech(name):
    return batch() if name == "conformer" else waves()


def finished(method, module):
    return method.finish(module.eval(), iter(())).eval().requires_grad_(False)


def frames(method, module, point, name):
    data = speech(name)
    with torch.no_grad():
        return method.at(module, point).encode(data.inputs, data.input_lengths).frames


def named(method, module):
    return {point.id: point for point in method.points(module)}


# What each sub-net is.


@pytest.mark.parametrize("name", BACKBONES)
def test_without_anything_nested_it_is_all_physical_to_the_last_bit(name):
    """Layer drop, dropout and SpecAugment draw the same numbers."""
    changes = {"dropout": 0.1, "layer_drop": 0.3} | ({} if name == "wav2vec2" else {"spec_augment": {"time_width": 5}})
    layers = backbone(name).config.layers
    totals, gradients = [], []
    for method in ("baselines.all_physical", NAME):
        settings = {"depths": [layers], "widths": [1], "bits": [32]} if method == NAME else {}
        made = make_method(method, settings, backbone(name, **changes))
        torch.manual_seed(0)
        module = made.build().train()
        assert not any(key.startswith("statistics.") for key in module.state_dict())
        seed_step(7, "train", 3, 0)
        total = made.losses(module, speech(name), STEP)["total"]
        total.backward()
        totals.append(total.detach())
        gradients.append([p.grad for p in module.parameters() if p.grad is not None])
    assert torch.equal(*totals)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def built_alone(method, module, name, depth, share, bits):
    """A dense backbone of the point's own shape, with slices of the weights, rounded apart from what is tested."""
    whole, ffn = method.backbone.config, round(share * method.backbone.config.ffn)
    alone = backbone(name, layers=depth, ffn=ffn).build().eval()
    state, own = {}, alone.state_dict()
    source = module.state_dict()
    if bits < 32:
        for key, part in matrices(module).items():
            source[f"{key}.weight"] = rounded_by_hand(part.weight, bits)
    norms = [key for key in batch_norms(module) if not key.startswith("statistics.")]
    net = f"w{round(100 * share):03d}b{bits:02d}"
    for number, key in enumerate(norms if (share, bits) != (1, 32) else ()):
        for tensor in ("running_mean", "running_var", "num_batches_tracked"):
            source[f"{key}.{tensor}"] = source[f"statistics.{net}.{number}.{tensor}"]
    for key, value in own.items():
        found = source[key]
        for dimension, (wanted, there) in enumerate(zip(value.shape, found.shape, strict=True)):
            assert wanted == there or (there, wanted) == (whole.ffn, ffn)
            found = found.narrow(dimension, 0, wanted)
        state[key] = found.clone()
    alone.load_state_dict(state)
    return alone


def rounded_by_hand(weight, bits):
    """q = round(w / s); of it the h leading bits; the centre of the bin that they leave."""
    flat = weight.detach().flatten(1)
    largest = (flat.abs().amax(1, keepdim=True) / 127).numpy()
    half = largest.astype(np.float16)
    scale = torch.from_numpy(np.where(half < largest, np.nextafter(half, np.float16(1)), half)).float()
    code = np.floor((flat / scale + 0.5).numpy()).clip(-127, 127).astype(np.int64)
    kept = code >> (8 - bits)
    centre = (kept << (8 - bits)) + (2 ** (8 - bits) - 1) / 2
    return (torch.from_numpy(centre).float() * scale).view_as(weight)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_point_is_a_smaller_backbone_that_was_built_alone(name):
    method, module = allinone(name)
    module = finished(method, module)
    data = speech(name)
    points = method.points(module)
    together = {
        point.id: encoded for point, encoded in method.encode_points(module, data.inputs, data.input_lengths, points)
    }
    assert len(points) == len(method.depths) * 2 * 3 and together.keys() == named(method, module).keys()
    distinct = set()
    for point in points:
        alone = built_alone(method, module, name, point.depth, point.settings["width"], point.settings["bits"])
        with torch.no_grad():
            expected = alone.encode(data.inputs, data.input_lengths)
        own = frames(method, module, point, name)
        torch.testing.assert_close(own, expected.frames, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(together[point.id].frames, expected.frames, atol=1e-6, rtol=1e-5)
        distinct.add(round(float(own.sum()), 4))
    assert len(distinct) == len(points)


@pytest.mark.parametrize("name", BACKBONES)
def test_narrower_heads_are_the_first_ones(name):
    """The same as the whole attention whose other heads, and whose other units, are multiplied by zero."""
    method, module = allinone(name, heads=True, bits=[32])
    if name == "conformer":  # one set of statistics, so that the sums are the same
        norms = [norm for key, norm in batch_norms(module).items() if not key.startswith("statistics.")]
        for held, norm in zip(module.statistics["w050b32"], norms, strict=True):
            held.load_state_dict({key: getattr(norm, key) for key in KEPT})
    module = finished(method, module)
    deepest = [point for point in method.points(module) if point.depth == method.depths[0]]
    before = frames(method, module, deepest[0], name)
    narrow = frames(method, module, deepest[1], name)
    config = method.backbone.config
    outer = {"linear_out": config.width, "out_proj": config.width, "w_2": config.ffn, "output_dense": config.ffn}
    with torch.no_grad():
        for key, part in matrices(module).items():
            if (kind := key.rpartition(".")[2]) in outer:
                part.weight[:, outer[kind] // 2 :] = 0
    masked = frames(method, module, deepest[0], name)
    torch.testing.assert_close(narrow, masked, atol=1e-5, rtol=1e-4)
    assert (before - narrow).abs().max() > 0.01
    counts = [method.parameters(module, point).executed for point in deepest]
    width, positions = config.width, name == "conformer"
    halves = 2 if positions else 1
    attention = (4 + positions) * width * (width // 2) + 3 * (width // 2) + positions * width  # biases of q, k, v; u, v
    feed_forward = halves * (config.ffn // 2) * (2 * width + 1)
    assert counts[0] - counts[1] == config.layers * (attention + feed_forward)


# Precisions.


def test_all_codes_are_nested_and_the_centre_is_at_most_half_a_bin_away():
    codes = torch.arange(-128, 128).float()
    for bits in range(1, 9):
        kept = most_significant(codes, bits)
        assert kept.tolist() == [code >> (8 - bits) for code in range(-128, 128)]
        assert kept.unique().tolist() == list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
        for fewer in range(1, bits + 1):
            again = torch.floor(kept / 2 ** (bits - fewer))
            assert torch.equal(again, most_significant(codes, fewer))
        errors = value_of(kept, bits) - codes
        assert float(errors.abs().max()) == (2 ** (8 - bits) - 1) / 2 and float(errors.mean()) == 0
        floors = value_of(kept, bits, "floor") - codes
        assert float(floors.mean()) == -(2 ** (8 - bits) - 1) / 2, "biased by half a bin"


def test_a_scale_belongs_to_an_output_channel_or_to_the_matrix():
    part = nn.Conv1d(2, 2, 1)
    with torch.no_grad():
        part.weight.copy_(torch.tensor([[[127.0], [-60.0]], [[4.0], [-1.0]]]))
    codes, scales = codes_of(part, "channel")
    assert codes.tolist() == [[127, -60], [127, -32]]
    torch.testing.assert_close(scales, torch.tensor([[1.0], [4 / 127]]), atol=0, rtol=1e-3)
    codes, scales = codes_of(part, "tensor")
    assert codes.tolist() == [[127, -60], [4, -1]] and scales.tolist() == [[1.0], [1.0]]


def test_gradients_go_straight_through():
    method, module = allinone()
    name, part = next(iter(matrices(module).items()))
    given = torch.randn_like(part.weight)
    for bits in (8, 2):
        part.weight.grad = None
        view = method.nets._rounded(name, part, bits, {})
        assert not torch.equal(view, part.weight)
        (view * given).sum().backward()
        assert torch.equal(part.weight.grad, given)
    value = torch.randn_like(part.weight)
    assert torch.equal(straight_through(value, part.weight), value)


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_packed_is_what_was_trained(name):
    """Without float masters: the finished file's outputs are those of the views of training, at all bits."""
    method, module = allinone(name, bits=[8, 4, 2], depths=None)
    module.eval()
    data, dense = speech(name), {}
    with torch.no_grad():
        for net in method.nets.all:
            encoded = method.nets.run(module, net, type(module).encode, data.inputs, data.input_lengths)
            dense[net.id] = encoded.frames
    weights = {key: part.weight.detach().clone() for key, part in matrices(module).items()}
    module = finished(method, module)
    assert packed_matrices(module).keys() == weights.keys() and not matrices(module)
    for point in method.points(module):
        if point.depth == method.depths[0]:
            found = frames(method, module, point, name)
            torch.testing.assert_close(found, dense[point.id[3:]], atol=1e-6, rtol=1e-5)
            assert isinstance(method.at(module, point), AtPath) == (point.id[3:] == "w100b08")
    whole = sum(4 * weight.numel() for weight in weights.values())
    held = method.nets.matrix_bytes(module, [method.nets.all[0]], range(module.layers))
    rows = sum(len(weight) for weight in weights.values())
    assert held == (whole // 4 + 2 * rows, whole // 4)


def test_an_unfinished_stage_is_dense_and_comes_back_so():
    method, module = allinone(bits=[8, 2])
    assert method.architecture(module) == {"packed": False}
    again = method.rebuild(method.architecture(module))
    again.load_state_dict(module.state_dict())
    assert method.packed and matrices(again).keys() == matrices(module).keys()
    module = finished(method, module)
    packed = method.rebuild(method.architecture(module))
    packed.load_state_dict(module.state_dict())
    assert method.packed and not matrices(packed)
    trained = method.as_trained(packed)
    total = method.losses(trained.train(), batch(), STEP)["total"]
    total.backward()
    assert all(part.weight.grad is not None for part in matrices(trained).values()), "a step is measured on what trains"


# Losses.


def test_the_total_is_what_the_documentation_says():
    method, module = allinone(alpha=0.7, alpha_kl=0.2, sampling="all")
    module.eval()
    data = batch()
    outputs = {}
    for point, encoded in method.encode_points(module, data.inputs, data.input_lengths, method.points(module)):
        outputs[point.id] = module.outputs(encoded, data)
    largest = outputs.pop("n04w100b32")
    nested = [module.loss(each, data)["total"] for each in outputs.values()]
    apart = [divergence(largest, each, module.ctc_weight, KL(), data) for each in outputs.values()]
    expected = module.loss(largest, data)["total"] + 0.7 * sum(nested) / 17 + 0.2 * sum(apart) / 17
    assert len(nested) == 17
    for step in (STEP, DEV):
        terms = method.losses(module, data, step)
        torch.testing.assert_close(terms["total"], expected)
        torch.testing.assert_close(terms["largest.ctc"], module.loss(largest, data)["ctc"])
        torch.testing.assert_close(terms["smallest.ctc"], module.loss(outputs["n02w050b02"], data)["ctc"])
    assert method.selection_term(terms) == "largest.ctc" and terms["blank_fraction"] == terms["largest.blank_fraction"]


def test_the_divergence_teaches_one_way():
    teacher, student = (torch.randn(2, 3, 5, requires_grad=True) for _ in range(2))
    lengths = torch.tensor([3, 2])
    value = divergence(Outputs(teacher, lengths), Outputs(student, lengths), 1.0, KL(), batch())
    value.backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    same = Outputs(teacher, lengths)
    assert divergence(same, same, 1.0, KL(), batch()).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("sampling", "passes"), [("all", 6), ("sandwich", 3), (None, 3)])
def test_one_pass_through_the_layers_serves_all_depths(sampling, passes):
    method, module = allinone(sampling=sampling)
    executed = []
    run_layer = module.run_layer
    module.run_layer = lambda layer, *rest: (executed.append(layer), run_layer(layer, *rest))[1]
    method.losses(module.train(), batch(), STEP)
    assert executed == [0, 1, 2, 3] * passes
    executed.clear()
    method.losses(module.eval(), batch(), DEV)
    assert len(executed) == 4 * 6, "on the dev set all, so that validations compare"
    executed.clear()
    list(method.encode_points(module, batch().inputs, batch().input_lengths, method.points(module)))
    assert len(executed) == 4 * 6


def test_a_step_trains_the_largest_the_smallest_and_one_between():
    method, _ = allinone()
    first, *between, last = method.nets.all
    drawn = [method.drawn(Step("train", index, 0)) for index in range(40)]
    assert {(each[0], each[-1], len(each)) for each in drawn} == {(first, last, 3)}
    assert {each[1] for each in drawn} == set(between)
    few, _ = allinone(bits=[32, 2])
    assert few.drawn(STEP) == few.nets.all and len(few.nets.all) == 4
    assert method.drawn(DEV) == method.nets.all


def test_the_divergence_sets_in_when_it_is_told():
    method, module = allinone(kl={"start_step": 10})
    assert "kl" not in method.losses(module.eval(), batch(), STEP)
    assert "kl" in method.losses(module, batch(), Step("train", 10, 7))
    assert "kl" in method.losses(module, batch(), DEV)


# Statistics of batch norm.


def test_each_sub_net_has_statistics_of_its_own_in_training():
    method, module = allinone(sampling="sandwich")
    before = statistics_of(module)
    trained = {net.id for net in method.drawn(STEP)[1:]}
    method.losses(module.train(), batch(), STEP)["total"].backward()
    after = statistics_of(module)
    moved_ones = {key.split(".")[1] for key in after if key.startswith("statistics.") and not equal(key, before, after)}
    assert moved_ones == trained
    own = [key for key in after if not key.startswith("statistics.")]
    assert own and not any(equal(key, before, after) for key in own)


def equal(key, before, after):
    return torch.equal(before[key], after[key])


def test_statistics_are_estimated_for_each_width_and_precision_as_for_a_net_alone():
    """And one estimate serves all depths: that of the layers of a shallower one is the same."""
    method, module = allinone()
    module = finished(method, module)
    data = batch()
    alone = {
        (depth, net): built_alone(method, module, "conformer", depth, net.width, net.bits)
        for depth in method.depths
        for net in method.nets.all
    }
    asked = method.statistics_points(module, Step("statistics", 0, 0))
    assert {point.depth for point in asked} == {4} and len(asked) == 6
    with estimating(module):
        for point in asked:
            method.at(module, point).encode(data.inputs, data.input_lengths)
    found = statistics_of(module)
    norms = [key for key in batch_norms(module) if not key.startswith("statistics.")]
    for (depth, net), model in alone.items():
        with estimating(model):
            model.encode(data.inputs, data.input_lengths)
        for number, key in enumerate(list(batch_norms(model))):
            held = norms[number] if net == method.nets.all[0] else f"statistics.{net.id}.{number}"
            for kind in ("running_mean", "running_var"):
                own = getattr(model.get_submodule(key), kind)
                torch.testing.assert_close(found[f"{held}.{kind}"], own, atol=1e-5, rtol=1e-4)
        assert len(batch_norms(model)) == depth


def test_statistics_are_counted_in_the_file():
    grid, single = (allinone(**settings)[1] for settings in ({}, {"widths": [1], "bits": [32], "depths": [4, 2]}))
    sizes = [sum(t.nbytes for t in module.state_dict().values()) for module in (grid, single)]
    assert sizes[0] - sizes[1] == 5 * 4 * (2 * 4 * SMALL["width"] + 8), "5 nets, 4 norms: means, variances, a number"


# Sizes.


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", BACKBONES)
def test_the_bytes_of_a_point_are_those_of_a_packed_file_that_gives_its_outputs(name, bits):
    """Codes of h bits are packed for real, read back, and put into a small dense backbone."""
    method, module = allinone(name, bits=[8, bits] if bits < 8 else [8])
    module = finished(method, module)
    depth, share = method.depths[-1], 0.5
    point = named(method, module)[f"n{depth:02d}w050b{bits:02d}"]
    alone = built_alone_packed(method, module, name, depth, share, bits)
    state, size = alone.state_dict(), 0
    for key, part in layer_matrices(module).items():
        if f"{key}.weight" not in state:
            continue
        rows, columns = state[f"{key}.weight"].shape[:2]
        codes = part.codes[:rows, :columns].numpy().astype(np.int64) >> (8 - bits)
        shifts = np.arange(bits)
        packed = np.packbits(((codes.reshape(-1, 1) >> shifts) & 1).astype(np.uint8), bitorder="little")
        scales = part.scales[:rows].numpy()
        size += packed.nbytes + scales.nbytes
        bits_back = np.unpackbits(packed, count=codes.size * bits, bitorder="little").reshape(-1, bits).astype(np.int64)
        back = (bits_back << shifts).sum(1)
        back = np.where(back >= 2 ** (bits - 1), back - 2**bits, back).reshape(rows, columns)
        step = 2 ** (8 - bits)
        values = (torch.from_numpy(back).float() * step + (step - 1) / 2) * torch.from_numpy(scales).float()
        state[f"{key}.weight"] = values.view_as(state[f"{key}.weight"])
    codes = {f"{key}.weight" for key in layer_matrices(module)}
    size += sum(tensor.nbytes for key, tensor in state.items() if key not in codes)
    assert method.stored_bytes(module, [point]) == size
    alone.load_state_dict(state)
    data = speech(name)
    with torch.no_grad():
        expected = alone.encode(data.inputs, data.input_lengths).frames
    torch.testing.assert_close(frames(method, module, point, name), expected, atol=1e-6, rtol=1e-5)
    held, weights = method.nets.matrix_bytes(module, [method._net(point)], range(depth))
    assert method.bits_a_weight(module, point) == 8 * held / weights > bits


def built_alone_packed(method, module, name, depth, share, bits):
    """A dense backbone in the shape of a point, with everything but its matrices."""
    alone = backbone(name, layers=depth, ffn=round(share * method.backbone.config.ffn)).build().eval()
    state, source = alone.state_dict(), module.state_dict()
    norms = [key for key in batch_norms(module) if not key.startswith("statistics.")]
    net = f"w{round(100 * share):03d}b{bits:02d}"
    for number, key in enumerate(norms):
        for kind in ("running_mean", "running_var", "num_batches_tracked"):
            source[f"{key}.{kind}"] = source[f"statistics.{net}.{number}.{kind}"]
    for key, value in state.items():
        if key in source:
            found = source[key]
            state[key] = (found[: len(value)] if found.dim() else found).clone()
    alone.load_state_dict(state)
    return alone


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("bits", [[32, 8, 2], [8, 4]])
def test_bytes_grow_with_what_is_asked_for_and_end_at_the_file(name, bits):
    method, module = allinone(name, bits=bits)
    module = finished(method, module)
    points = method.points(module)
    file = sum(tensor.nbytes for tensor in module.state_dict().values())
    assert method.stored_bytes(module, points) == file
    sizes = {point.id: method.stored_bytes(module, [point]) for point in points}
    assert all(size < file for size in sizes.values() if name == "conformer")
    deepest, low = method.depths[0], min(bits)
    order = [f"n{deepest:02d}w100b{low:02d}", f"n{deepest:02d}w050b{low:02d}", f"n02w050b{low:02d}"]
    assert sizes[order[0]] > sizes[order[1]] > sizes[order[2]]
    by_id = named(method, module)
    both = method.stored_bytes(module, [by_id[order[2]], by_id[f"n{deepest:02d}w100b{max(bits):02d}"]])
    sets = deepest * (2 * 4 * SMALL["width"] + 8) if name == "conformer" else 0
    assert both == sizes[f"n{deepest:02d}w100b{max(bits):02d}"] + sets
    executed = [method.parameters(module, by_id[key]).executed for key in order]
    stored = method.parameters(module, by_id[order[0]]).stored
    assert stored == executed[0] > executed[1] > executed[2]
    assert stored == sum(p.numel() for p in backbone(name).build().parameters())


def test_costs_are_those_of_the_point():
    """Fewer layers and units are fewer multiplications; fewer bits are not: weights are floats when they are run."""
    method, module = allinone()
    system, data = TrainedSystem("aio", finished(method, module), method), batch()
    speech = SimpleNamespace(features=lambda: (data.inputs, data.input_lengths))
    costs = {key: counted_costs(system, point, speech) for key, point in named(method, module).items()}
    macs = [costs[key]["macs"] for key in ("n04w100b32", "n04w050b32", "n02w050b32")]
    assert macs == sorted(macs, reverse=True) and len(set(macs)) == 3
    assert costs["n04w100b02"]["macs"] == macs[0]
    rows = sum(len(part.weight) for part in matrices(module).values())
    weights = sum(part.weight.numel() for part in matrices(module).values())
    assert costs["n04w100b02"]["bits_a_weight"] == pytest.approx(2 + 16 * rows / weights)
    assert costs["n04w050b32"]["bits_a_weight"] == 32
    keys = {method.cost_key(point) for point in method.points(module)}
    assert len(keys) == len(costs), "each is measured itself"


def times_smaller(factory, bits_of):
    """How many times fewer bits the parameters of a backbone take than in float32, each by its name."""
    with torch.device("meta"):
        named_parameters = dict(factory.build().named_parameters())
    whole = sum(32 * p.numel() for p in named_parameters.values())
    return whole / sum(bits_of(key, p) * p.numel() for key, p in named_parameters.items())


CONFORMER = BackboneFactory("conformer", {"input_dim": 83}, 2002)
BASE = BackboneFactory("wav2vec2", {}, 32)


def test_the_published_sizes_follow_from_one_reading_of_the_paper():
    """12.8 times: encoder in 2 bits, decoder and CTC layer in 4. 3.93 times: convolutions, attention, feed-forward and
    positional convolution in 8 bits, the rest in float32."""
    conformer = times_smaller(CONFORMER, lambda key, _: 2 if key.startswith("encoder.") else 4)
    assert round(conformer, 2) == 12.83

    def of_base(key, parameter):
        kept = ("feature_projection", "lm_head", "norm", "bias", "masked_spec_embed")
        return 32 if any(part in key for part in kept) or parameter.dim() == 1 else 8

    assert round(times_smaller(BASE, of_base), 3) == 3.932


def test_our_sizes_at_the_papers_shapes_are_documented():
    """Only the matrices of the layers have few bits here: front end, decoder and CTC layer stay float32."""
    page = Path("docs/methods/allinone.md").read_text()
    for factory, point, bits in ((CONFORMER, "n12w100b02", [32, 8, 2]), (BASE, "n12w100b08", [32, 8, 2])):
        method = make_method(NAME, {"bits": bits}, factory)
        with torch.device("meta"):
            module = method.nets.add_statistics(factory.build())
        points = named(method, module)
        float32 = method.stored_bytes(module, [points["n12w100b32"]])
        times = float32 / method.stored_bytes(module, [points[point]])
        assert f"{point} of {factory.name} | {float32 / 1e6:.1f} MB | {times:.2f}" in page


# The contract, and what stands on it.

PACKED = {"widths": [1, 0.5], "bits": [8, 2]}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", BACKBONES)
def test_the_contract_holds_without_float_masters(name, check, tmp_path):
    check(contract_cases.case(NAME, name, PACKED), tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    ("derived", "name"), [("baselines.post_training", "conformer"), ("methods.selfpinching", "wav2vec2")]
)
def test_other_methods_stand_on_it(derived, name, check, tmp_path):
    source = (NAME, {"widths": [1, 0.5], "bits": [32, 2]})
    check(dataclasses.replace(contract_cases.case(derived, name), source=source), tmp_path)


def test_factors_are_refused_before_any_work():
    method, _ = allinone()
    low_rank = make_method("baselines.low_rank", {"source": {"system": "aio"}}, method.backbone)
    with pytest.raises(UserError, match="points of 'aio' run slices or roundings of its matrices"):
        low_rank.check_sources({"source": method})


@pytest.mark.parametrize("storage", ["dense", "bitmap"])
def test_what_was_pruned_is_zero_at_every_precision_and_narrow_points_weigh_less(storage):
    method, module = allinone(bits=[32, 8, 2])
    source = TrainedSystem("aio", finished(method, module), method)
    settings = {"source": {"system": "aio"}, "target": 0.4, "storage": storage}
    pruning = make_method("baselines.magnitude", settings, method.backbone, {"source": source})
    pruned = finished(pruning, pruning.build())
    zeros = {name: part.weight == 0 for name, part in layer_matrices(pruned).items()}
    assert sum(int(found.sum()) for found in zeros.values()) > 0.3 * sum(found.numel() for found in zeros.values())

    def runs(part):
        return {name: each.weight.detach().clone() for name, each in layer_matrices(part).items()}

    for net in method.nets.all[:3]:  # of the full width
        found = pruning.made_by.nets.run(pruned, net, runs)
        assert all(bool((found[name][zero] == 0).all()) for name, zero in zeros.items()), net
    sizes = {point.id: pruning.stored_bytes(pruned, [point]) for point in pruning.points(pruned)}
    assert sizes["n04w050b32"] < sizes["n04w100b32"] and sizes["n02w050b32"] < sizes["n04w050b32"]


def test_only_layers_that_run_are_rounded(monkeypatch):
    method, module = allinone()
    rounded = []
    real = subnets.codes_of
    monkeypatch.setattr(subnets, "codes_of", lambda part, scales: rounded.append(part) or real(part, scales))
    frames(method, finished(method, module), named(method, module)["n02w100b02"], "conformer")
    assert 2 * len(rounded) == len(layer_matrices(module))


def test_packing_what_rounds_itself_is_refused_before_any_work():
    method, _ = allinone()
    for settings, refused in (({"bits": 4}, True), ({"n": 2, "m": 4}, True), ({}, False)):
        derived = make_method("methods.usmlite", {"source": {"system": "aio"}, **settings}, method.backbone)
        if not refused:
            derived.check_sources({"source": method})
            continue
        with pytest.raises(UserError, match="points of 'aio' round or slice its matrices themselves"):
            derived.check_sources({"source": method})


def test_it_starts_from_a_trained_system():
    source = backbone("conformer").build()
    started = make_method(NAME, {**GRID, "start": {"system": "a4"}}, backbone("conformer"))
    started.inputs = {
        "start": TrainedSystem("a4", moved(source), make_method("baselines.all_physical", {}, backbone("conformer")))
    }
    state = started.build().state_dict()
    assert all(torch.equal(value, state[key]) for key, value in source.state_dict().items())
    own = state["encoder.encoders.1.conv_module.norm.running_var"]
    assert torch.equal(own, state["statistics.w050b02.1.running_var"]), "all begin with the source's statistics"


def test_others_start_from_its_largest():
    method, module = allinone()
    names = list(module.state_dict())
    other = make_method("baselines.all_physical", {"start": {"system": "aio"}}, backbone("conformer"))
    other.inputs = {"start": TrainedSystem("aio", module, method)}
    state = other.build().state_dict()
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in state.items())
    assert list(module.state_dict()) == names != list(state)


@pytest.mark.parametrize(("name", "bits"), [("conformer", [32, 2]), ("wav2vec2", [8, 2])])
def test_the_depths_of_the_largest_are_exported(tmp_path, capsys, name, bits):
    folder, out = system_folder(tmp_path, name, NAME, {"bits": bits}, name="aio"), tmp_path / "out"
    system, about = load_system(folder), read_json(folder / "system.json")
    module = system.method.finish(system.module, iter(()))
    save_system(folder, module, system.method, {key: about[key] for key in WHO})
    export_system(folder, out, None, None, None)
    config = read_json(out / "config.json")
    assert set(config["paths"]) == {"3", "2"} and config["chosen"]["2"] == "1 1 0"
    assert "without 6 points that are more than a path of these weights" in capsys.readouterr().out
    with safe_open(out / "model.safetensors", "pt") as file:
        size = sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118 - not a mapping
    largest = [point for point in system.method.points(module) if point.id.endswith(f"w100b{bits[0]:02d}")]
    assert size == system.method.stored_bytes(module, largest)
    if name == "wav2vec2":
        samples = waves((6000,), ((5,),)).inputs
        with torch.no_grad():
            found = AutoModelForCTC.from_pretrained(out, depth=2)(samples).logits.log_softmax(-1)
            recogniser = system.method.at(module, named(system.method, module)["n02w100b08"])
            expected = recogniser.ctc_log_probs(recogniser.encode(samples, torch.tensor([6000])))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# Bad input.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": [1, 0.01]}, "settings.widths: 0.01 of 48 feed-forward units leaves none"),
        ({"widths": [1, 0.2], "heads": True}, "settings.widths: 0.2 of 2 attention heads leaves none"),
        ({"widths": [1, 0.5, 0.51]}, "settings.widths: two of [1.0, 0.51, 0.5] leave as many of 48 units"),
        ({"widths": [0.5]}, "settings: widths: [0.5]: shares up to 1, 1 among them"),
        ({"widths": [1, 0.333]}, "settings: widths: [1.0, 0.333]: whole hundredths"),
        ({"depths": [5, 4]}, "settings.depths: [5, 4] are not all between 1 and the 4 layers"),
        ({"depths": [4, 0]}, "settings.depths: [4, 0] are not all between 1 and the 4 layers"),
        (
            {"depths": [3, 2]},
            "settings.depths: the backbone has 4 layers, of which those above 3 would never be trained",
        ),
        ({"depths": [4, 2, 2]}, "settings: depths: each stands once, not [4, 2, 2]"),
        ({"bits": [32, 16]}, "settings: bits: 16 bits are not offered; possible: 32, and 1 to 8"),
        ({"bits": [4, 2]}, "settings: bits: [4, 2]: 32 or 8 must be among them"),
        ({"alpha": 0, "alpha_kl": 0}, "settings: alpha and alpha_kl are both 0: only the largest"),
    ],
)
def test_bad_settings_are_refused_by_the_check(tmp_path, settings, message):
    def change(values):
        values["systems"]["aio"] = {"method": NAME, "backbone": {"ffn": 48}, "settings": settings}

    refused_by_check(changed(tmp_path, change), message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"point": "n03w100b04"}, "'aio' has no point 'n03w100b04'; did you mean 'n03w100b0"),
        (
            {"depth": 4},
            "'aio' is not offered at depth 4; a depth names none of its points, name one of them with `point`",
        ),
    ],
)
def test_a_point_that_was_not_trained_is_refused_by_the_check(tmp_path, row, message):
    def change(values):
        values["systems"]["aio"] = {"method": NAME, "settings": GRID}
        values["tables"]["table1"]["rows"]["X"] = {"system": "aio", **row}

    refused_by_check(changed(tmp_path, change), message)


def test_rows_name_points_and_no_median_is_taken_over_widths_and_precisions(tmp_path):
    def change(values):
        values["systems"]["aio"] = {"method": NAME, "settings": GRID, "evaluate": "rows"}
        rows = {f"X{point}": {"system": "aio", "point": point} for point in ("n04w100b32", "n02w050b08")}
        values["tables"]["table1"]["rows"] |= rows

    experiment = load_experiment(str(changed(tmp_path, change)))
    method, module = allinone()
    points = method.points(module)
    assert Chooser(experiment, points, {}).candidates == {}
    shown = table_points(experiment, "aio", points, {})
    assert [point.id for point in shown] == ["n04w100b32", "n02w050b08"]
