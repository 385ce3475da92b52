"""USM-Lite: masks, rounding and gradients against calculations by hand, what is packed against what was trained,
chains, sizes, and settings that are refused."""

import csv
import dataclasses
import itertools
import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from asr.backbones import BackboneFactory
from asr.seeds import seed_step
from benchmarks.sizes import grid, size_of
from common.errors import UserError
from methods.contract import Step, TrainedSystem, make_method
from methods.shared.fakequant import coded, fake_quantised, half_up, straight_through
from methods.shared.matrices import bits_a_weight, matrices, output_matrices, packed_matrices
from methods.shared.nm import keep_largest
from methods.shared.packed import Packed, pack_unsigned
from methods.shared.views import with_weights
from methods.usmlite import compressed, packed
from tests.methods.test_derived import BACKBONES, FOLDABLE, derive, foldable, frames
from tests.workflows.commands import ROOT
from workflows.steps import contract_cases
from workflows.steps.contract_cases import SMALL, VOCABULARY, save
from workflows.steps.contract_checks import CHECKS
from workflows.systems import load_system, load_trainable

NAME = "methods.usmlite"
JOINT = {"bits": 4, "n": 2, "m": 4}
FORMS = [
    {"bits": bits, "n": n, "m": m}
    for bits, (n, m) in itertools.product((None, 8, 4, 2), ((None, None), (2, 4), (1, 4), (3, 8)))
    if bits or m
]
FORMS += [{"bits": 4, "n": 2, "m": 4, "group": 8}, {"bits": 2, "group": 12}, {"bits": 4, "n": 1, "m": 4, "group": 20}]
IDS = ["-".join(f"{key}{value}" for key, value in form.items()) for form in FORMS]


def weights(outputs=6, inputs=64, seed=0):
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


def dense(weight, pointwise=False):
    outputs, inputs = weight.shape
    part = nn.Conv1d(inputs, outputs, 1) if pointwise else nn.Linear(inputs, outputs)
    with torch.no_grad():
        part.weight.copy_(weight.view_as(part.weight))
    return part


def compressing(source, **settings):
    """The method on a source, and the module that it would train."""
    settings = {"source": {"system": source.name}, **settings}
    method = make_method(NAME, settings, source.method.backbone, {"source": source})
    torch.manual_seed(0)
    return method, method.build()


def batch(backbone="conformer"):
    return contract_cases.case("baselines.all_physical", backbone).batch()


# Masks, rounding, gradients.


def test_the_largest_of_every_group_are_kept_and_ties_go_to_the_lower_index():
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5, 1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, -9.0, 0.0, 0.1]])
    expected = [[0, 1, 1, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 1, 0, 1]]
    assert keep_largest(weight, 2, 4).int().tolist() == expected
    assert keep_largest(weight[:, :, None], 2, 4).shape == (2, 8, 1)
    weight = weights(16, 48)
    for n, m in ((2, 4), (1, 4), (5, 16), (1, 3)):
        mask = keep_largest(weight, n, m)
        groups, kept = weight.abs().view(16, -1, m), mask.view(16, -1, m)
        assert (kept.sum(-1) == n).all()
        smallest = groups.masked_fill(~kept, torch.inf).amin(-1)
        assert (smallest >= groups.masked_fill(kept, -torch.inf).amax(-1)).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.int8])
def test_what_is_kept_is_what_a_stable_sort_puts_first(kind):
    """Also where numbers are equal, in any type, whichever way a group of this size is sorted out."""
    few = torch.randint(-2, 3, (12, 48), generator=torch.Generator().manual_seed(3)).to(kind)
    for weight in (few, torch.zeros_like(few), (100 * weights(12, 48)).to(kind)):
        for n, m in ((1, 2), (2, 4), (1, 4), (3, 8), (5, 16), (7, 24)):
            sizes = weight.abs().view(12, -1, m)
            order = sizes.argsort(dim=-1, descending=True, stable=True)
            expected = torch.zeros_like(sizes, dtype=torch.bool).scatter_(-1, order[..., :n], True)
            assert torch.equal(keep_largest(weight, n, m), expected.view_as(weight)), (n, m)


def test_codes_by_hand_are_rounded_half_up():
    assert half_up(torch.tensor([2.5, -2.5, 0.5, -0.5, 1.4])).tolist() == [3, -2, 1, 0, 1]
    codes, scales = coded(torch.tensor([[7.0, 2.5, -2.5, 0.4], [0.0, 0.0, 0.0, 0.0]]), 4)
    assert codes.tolist() == [[[7, 3, -2, 0]], [[0, 0, 0, 0]]] and float(scales[0]) == 1.0
    codes, _ = coded(torch.tensor([[1.0, 0.6, -0.6, 0.4, -1.0]]), 2)
    assert codes.tolist() == [[[1, 1, -1, 0, -1]]], "three values: the level -2 is never used"


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("group", [None, 16, 24])
def test_rounding_is_never_further_away_than_half_a_step(bits, group):
    weight = weights(40, 64) * torch.logspace(-4, 1, 40)[:, None]
    scales = coded(weight, bits, group)[1].float().repeat_interleave(group or 64, 1)[:, :64]
    assert ((fake_quantised(weight, bits, group) - weight).abs() <= 0.500001 * scales).all()
    assert (scales <= weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1) * 1.001 + 2**-24).all()


def test_pruning_comes_first():
    """The largest weight of a row survives, so scales agree; only where codes tie does the order matter."""
    row = torch.tensor([[1.0, 0.6, 0.7, 0.1]])
    assert compressed(row, 2, n=2, m=4).tolist() == [[1.0, 0.0, 1.0, 0.0]]
    codes = fake_quantised(row, 2)
    assert (codes * keep_largest(codes, 2, 4)).tolist() == [[1.0, 1.0, 0.0, 0.0]]


def test_a_straight_through_value_is_exact_and_has_the_gradient_of_the_weight():
    weight, value, gradient = weights().requires_grad_(), weights(seed=1), weights(seed=2)
    through = straight_through(value, weight)
    assert torch.equal(through, value)
    (through * gradient).sum().backward()
    assert torch.equal(weight.grad, gradient)


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_gradients_reach_what_is_kept_as_if_nothing_were_rounded(form):
    gradient = weights(seed=1)
    for everywhere in (False, True):
        weight = weights().requires_grad_()
        (compressed(weight, **form, all_gradients=everywhere) * gradient).sum().backward()
        mask = torch.ones_like(weight) if form.get("m") is None else keep_largest(weight, form["n"], form["m"])
        assert torch.equal(weight.grad, gradient if everywhere else mask * gradient)


def gradients(source, **settings):
    method, module = compressing(source, **settings)
    method.losses(module, batch(), Step("train", 0, 7))["total"].backward()
    return {name: (part.weight.detach(), part.weight.grad) for name, part in matrices(module).items()}


def test_pruned_weights_of_a_model_get_no_gradient_and_with_sr_ste_theirs_and_a_pull_to_zero():
    source = foldable("conformer")
    plain = gradients(source, **JOINT)
    weak, strong = (gradients(source, **JOINT, sr_ste=share) for share in (0.5, 1.5))
    for name, (weight, gradient) in plain.items():
        mask = keep_largest(weight, 2, 4)
        assert (gradient[~mask] == 0).all() and gradient[mask].abs().sum() > 0
        torch.testing.assert_close(weak[name][1][mask], gradient[mask])
        pull = strong[name][1] - weak[name][1]
        torch.testing.assert_close(pull, ~mask * weight, rtol=1e-3, atol=1e-5)
        own = weak[name][1] - 0.5 * ~mask * weight
        assert own[~mask].abs().sum() > 0, "the loss itself reaches pruned weights too"


def test_the_pull_is_a_term_of_training_alone():
    method, module = compressing(foldable("conformer"), **JOINT, sr_ste=2e-4)
    assert "sr_ste" in method.losses(module, batch(), Step("train", 0, 7))
    assert "sr_ste" not in method.losses(module, batch(), Step("train", 0, 7, training=False))


def test_errors_of_weights_are_those_of_the_page():
    """Rows of the table in docs/methods/usmlite.md: its numbers, and the share that 2 bits leave."""
    rows = re.findall(r"^\| (64|768) \| (.*) \|$", (ROOT / "docs/methods/usmlite.md").read_text(), re.MULTILINE)
    forms = [(8, None, None), (4, None, None), (None, 2, 4), (4, 2, 4), (None, 1, 4), (2, None, None)]
    assert [inputs for inputs, _ in rows] == ["64", "768"]
    for inputs, cells in rows:
        weight = weights(2000, int(inputs))
        said = re.findall(r"[\d.]+", cells)
        values = [compressed(weight, bits, n=n, m=m) for bits, n, m in forms]
        found = [float((value - weight).square().sum() / weight.square().sum()) for value in values]
        assert [f"{error:.2f}" for error in found] == said[:-1]
        assert f"{100 * float((values[-1] != 0).float().mean()):.0f}" == said[-1]


# What is packed is what was trained.


@pytest.mark.parametrize("pointwise", [False, True])
@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_what_is_packed_is_what_ran_bit_for_bit(form, pointwise, tmp_path):
    part = dense(weights(), pointwise)
    held = packed(part, **form)
    assert torch.equal(held.weight, compressed(part.weight, **form)) and torch.equal(held.bias, part.bias)
    assert held.weight_count() == (part.weight.numel(), int(held.weight.count_nonzero()))
    again = held.dense()
    assert type(again) is type(part) and torch.equal(again.weight, held.weight) and again.weight.requires_grad
    x = torch.randn(2, 64, 9) if pointwise else torch.randn(2, 9, 64)
    assert torch.equal(held(x), again(x))
    empty = Packed.like(part, **held.form)
    empty.load_state_dict(held.state_dict())
    assert torch.equal(empty.weight, held.weight)
    if form.get("group") is None:  # every group is full here
        bits, n, m = form["bits"] or 32, form["n"] or 1, form["m"] or 1
        share = (n * bits + n * math.ceil(math.log2(m))) / m
        stored = [tensor for name, tensor in held.named_buffers() if name != "scales"]
        assert sum(tensor.nbytes for tensor in stored) == share * part.weight.numel() / 8


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("n", "m"), [(None, None), (1, 3), (2, 4), (3, 8), (7, 16), (2, 24)])
def test_every_code_at_every_position_comes_back(bits, n, m):
    limit = 2 ** (bits - 1) - 1
    codes = torch.arange(-limit, limit + 1, dtype=torch.int8)
    if m is None:
        matrix = codes.repeat(3, 1)
    else:  # every row has the codes at other places
        rows = []
        for places in itertools.islice(itertools.combinations(range(m), n), 60):
            row = torch.zeros(-(-len(codes) // n), m, dtype=torch.int8)
            row[:, list(places)] = nn.functional.pad(codes, (0, -len(codes) % n)).view(-1, n)
            rows.append(row.flatten())
        matrix = torch.stack(rows)
    part = dense(torch.zeros(matrix.shape))
    held = Packed.like(part, bits, None, n, m).holding(part, matrix, torch.ones(len(matrix), 1))
    assert torch.equal(held.weight, matrix.float())
    assert held.weight_count() == (matrix.numel(), int(matrix.count_nonzero()))


def test_numbers_of_three_bits_by_hand():
    stored = pack_unsigned(torch.tensor([[5, 1, 7, 2]], dtype=torch.uint8), 3)
    assert stored.tolist() == [[0b11001101, 0b0101]], "5 is 101, then 001, then 111, then 010, from the lowest bits on"


def test_a_matrix_that_is_not_sparse_enough_is_not_packed_so():
    part = dense(torch.ones(2, 8))
    with pytest.raises(ValueError, match="more than 2 of 4 adjacent weights are not zero"):
        Packed.like(part, None, None, 2, 4).holding(part, part.weight.detach())
    for wrong in ((None, None, None, None), (4, None, 2, None), (4, None, 4, 4), (4, 6, 2, 4)):
        with pytest.raises(ValueError):
            Packed.like(part, *wrong)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_finished_system_says_what_it_said_in_training(backbone):
    source = foldable(backbone)
    method, module = compressing(source, **JOINT, output_bits=8)
    data, point = batch(backbone), method.points(module)[-1]

    def encode(module):
        return source.method.at(module, point).encode(data.inputs, data.input_lengths).frames

    module.eval()
    with torch.no_grad():
        trained = with_weights(module, method.views(module), encode)
        plain = encode(module)
        finished = method.finish(module, iter(()))
        assert torch.equal(encode(finished), trained) and not torch.equal(plain, trained)
    outputs = [packed_matrices(finished)[name] for name in output_matrices(foldable(backbone).module)]
    assert outputs and all(part.bits == 8 and part.m is None for part in outputs)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_with_nothing_compressed_losses_gradients_and_outputs_are_the_sources(backbone):
    source = foldable(backbone)
    method, module = compressing(source)
    data = batch(backbone)
    control = make_method(
        "baselines.fine_tuning", {"source": {"system": "f4"}}, source.method.backbone, {"source": source}
    )
    other = control.build()
    for training in (True, False):
        step = Step("train", 3, 7, training)
        pair = []
        for each, built in ((method, module), (control, other)):
            seed_step(7, "train", 3, 0)
            pair.append(each.losses(built, data, step))
        terms, expected = pair
        assert terms.keys() == expected.keys() and all(torch.equal(terms[name], expected[name]) for name in terms)
    terms["total"].backward()
    expected["total"].backward()
    for own, theirs in zip(module.parameters(), other.parameters(), strict=True):
        assert own.grad is theirs.grad is None or torch.equal(own.grad, theirs.grad)
    same = TrainedSystem("same", method.finish(method.build().eval(), iter(())), method)
    assert not packed_matrices(same.module) and not method.packed and not method.packs
    assert all(torch.equal(frames(same, p), frames(source, p)) for p in source.method.points(source.module))


def test_masks_and_scales_are_those_of_the_averaged_weights():
    """Two states with other patterns: their average has more places that are not zero, and is masked anew."""
    source = foldable("conformer")
    method, module = compressing(source, **JOINT)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append({name: value + 0.1 * torch.randn_like(value) for name, value in method.views(module).items()})
    average = {name: ((states[0][name].double() + states[1][name].double()) / 2).float() for name in states[0]}
    module.load_state_dict(average, strict=False)
    expected = {name: compressed(value, **JOINT) for name, value in average.items()}
    finished = packed_matrices(method.finish(module, iter(())))
    for name, part in finished.items():
        assert torch.equal(part.weight, expected[f"{name}.weight"])
        assert (part.weight.flatten(1).unflatten(1, (-1, 4)).count_nonzero(-1) <= 2).all()


def test_masks_chosen_once_stay_and_others_follow_the_weights():
    source = foldable("conformer")
    for masks in ("once", "each_step"):
        method, module = compressing(source, n=1, m=4, masks=masks)
        first = {name: keep_largest(part.weight, 1, 4) for name, part in matrices(source.module).items()}
        with torch.no_grad():
            for part in matrices(module).values():
                part.weight.copy_(torch.randn_like(part.weight))
        method.after_step(module, Step("train", 0, 0))
        finished = packed_matrices(method.finish(module, iter(())))
        moved = [bool(part.weight[~first[name]].any()) for name, part in finished.items()]
        assert all(moved) if masks == "each_step" else not any(moved)


# Chains and files.


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_contract_holds_when_it_packs(backbone, check, tmp_path):
    made = contract_cases.case(NAME, backbone, {**JOINT, "output_bits": 8})
    check(dataclasses.replace(made, source=FOLDABLE), tmp_path)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_fold_then_prune_then_compress(backbone, tmp_path):
    folded = foldable(backbone)
    pruned = derive(folded, "baselines.magnitude", sparsity=0.65)
    light = derive(pruned, NAME, **JOINT)
    points = folded.method.points(folded.module)
    assert light.method.points(light.module) == points and len(points) > 5
    for name, part in matrices(pruned.module).items():
        assert (packed_matrices(light.module)[name].weight[part.weight == 0] == 0).all()
    counts = [each.method.parameters(each.module, points[-1]) for each in (folded, pruned, light)]
    assert counts[0].stored == counts[2].stored and counts[1].nonzero > counts[2].nonzero

    save(contract_cases.case(NAME, backbone), light.method, light.module, tmp_path)
    loaded = load_system(tmp_path)
    for point in points:
        assert torch.equal(frames(loaded, point), frames(light, point))
    parts = matrices(folded.module)
    stored = load_file(tmp_path / "model.safetensors")
    codes, positions, scales = (
        sum(tensor.nbytes for name, tensor in stored.items() if name.endswith(f".{key}"))
        for key in ("codes", "positions", "scales")
    )
    count = sum(part.weight.numel() for part in parts.values())
    assert 8 * (codes + positions) == 3 * count and codes == 2 * positions
    assert scales == sum(2 * part.weight.size(0) for part in parts.values())
    assert bits_a_weight(light.module) == pytest.approx(3 + 8 * scales / count)


def test_a_kept_checkpoint_of_its_training_is_rebuilt_dense_and_a_finished_one_packed():
    source = foldable("conformer")
    method, module = compressing(source, **JOINT)
    alone = make_method(NAME, {"source": {"system": "f4"}, **JOINT}, source.method.backbone)
    described = json.loads(json.dumps(method.architecture(module)))
    again = alone.rebuild(described)
    again.load_state_dict(module.state_dict())
    assert not packed_matrices(again)
    finished = method.finish(module, iter(()))
    again = alone.rebuild(json.loads(json.dumps(method.architecture(finished))))
    again.load_state_dict(finished.state_dict())
    assert packed_matrices(again).keys() == matrices(source.module).keys()


def test_what_a_step_takes_is_measured_on_a_dense_module_with_the_finished_weights(tmp_path):
    light = derive(foldable("conformer"), NAME, **JOINT)
    save(contract_cases.case(NAME, "conformer"), light.method, light.module, tmp_path)
    trainable = load_trainable(tmp_path)
    parts = matrices(trainable.module)
    for name, part in packed_matrices(light.module).items():
        assert torch.equal(parts[name].weight, part.weight) and parts[name].weight.requires_grad
    trainable.method.losses(trainable.module.train(), batch(), Step("train", 3, 0, steps=4))["total"].backward()
    assert all(part.weight.grad.abs().sum() > 0 for part in parts.values())


# Sizes.


@pytest.fixture(scope="module")
def grids():
    return {name: grid(BackboneFactory(name, {}, tokens)) for name, tokens in (("wav2vec2", 32), ("conformer", 2002))}


@pytest.mark.parametrize("backbone", ["wav2vec2", "conformer"])
def test_sizes_at_the_papers_shapes_are_those_of_the_arithmetic(grids, backbone):
    with open(ROOT / "analysis/published/usmlite_size_arithmetic.csv", newline="") as file:
        published = {(row["precision"], row["sparsity"]): row for row in csv.DictReader(file)}
    assert len(grids[backbone]) == 12
    for size in grids[backbone]:
        row = published[size.precision, size.sparsity]
        assert size.bits_a_weight == float(row["bits_per_weight_incl_2bit_index"])
        assert size.percent_of_float32 == pytest.approx(float(row["size_pct_of_float32"]), abs=5e-4)
        assert size.bits_a_weight <= size.bits_with_scales < size.bits_a_weight + 0.1
        assert size.percent_of_float32 <= size.file_percent_of_float32 <= 100
    (joint,) = [size for size in grids[backbone] if (size.precision, size.sparsity) == ("int4", "2:4")]
    assert joint.percent_of_float32 == 9.375


def test_sizes_on_the_page_are_those_that_are_counted(grids):
    lines = (ROOT / "docs/methods/usmlite.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.count("|") == 7]
    rows = [row for row in rows if row[0] in ("int8", "int4", "int2", "2:4", "1:4", "int4 and 2:4")]
    assert len(rows) == 6
    cells = {name: {(size.precision, size.sparsity): size for size in found} for name, found in grids.items()}
    conformer = BackboneFactory("conformer", {}, 2002)
    for name, *said in rows:
        parts = name.split(" and ")
        precision = next((part for part in parts if part.startswith("int")), "float32")
        sparsity = next((part for part in parts if ":" in part), "dense")
        wide, deep = (cells[backbone][precision, sparsity] for backbone in ("wav2vec2", "conformer"))
        kept = None if sparsity == "dense" else tuple(map(int, sparsity.split(":")))
        bits = None if precision == "float32" else int(precision.removeprefix("int"))
        outputs = size_of(conformer, bits, kept, 4)
        found = [wide.percent_of_float32, 100 * wide.bits_with_scales / 32, wide.file_percent_of_float32]
        found += [deep.file_percent_of_float32, outputs.file_percent_of_float32]
        digits = [len(text.partition(".")[2]) for text in said]
        assert said == [f"{value:.{places}f}" for value, places in zip(found, digits, strict=True)], name


# Settings that are refused.


WRONG = {
    "a number of bits": ({"bits": 3}, "bits: Input should be 8, 4 or 2"),
    "bits of the outputs": ({"output_bits": 16}, "output_bits: Input should be 8, 4 or 2"),
    "n alone": ({"n": 2}, "n and m belong together"),
    "m alone": ({"m": 4}, "n and m belong together"),
    "n too small": ({"n": 0, "m": 4}, "n: Input should be greater than or equal to 1"),
    "n too large": ({"n": 4, "m": 4}, "n: 4 of 4 would prune nothing"),
    "m too large": ({"n": 4, "m": 512}, "m: Input should be less than or equal to 256"),
    "rows": ({"n": 2, "m": 5}, "settings.m: groups of 5 do not divide the 32 inputs of 'encoder."),
    "a group without bits": ({"n": 2, "m": 4, "group": 8}, "group: without bits there are no scales"),
    "a group across groups": ({**JOINT, "group": 10}, "group: 10 inputs are no whole groups of m: 4"),
    "sr_ste without pruning": ({"bits": 4, "sr_ste": 1e-4}, "sr_ste: it needs weights that are pruned"),
    "sr_ste with fixed masks": ({**JOINT, "sr_ste": 1e-4, "masks": "once"}, "sr_ste: it needs weights"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_settings_are_refused_before_any_work(wrong):
    settings, message = WRONG[wrong]
    backbone = BackboneFactory("conformer", SMALL["conformer"], VOCABULARY["conformer"])
    with pytest.raises(UserError) as error:
        make_method(NAME, {"source": {"system": "f4"}, **settings}, backbone, where="systems.x")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("systems.x: settings")


@pytest.mark.parametrize("source", ["baselines.post_training", NAME])
def test_a_packed_source_is_refused_before_any_work(source):
    settings = {"source": {"system": "f4"}, **({} if source != NAME else JOINT)}
    backbone = foldable("conformer").method.backbone
    made, method = (make_method(name, settings, backbone) for name in (source, source))
    method = make_method(NAME, {"source": {"system": "f4_int4"}, **JOINT}, backbone)
    made.check_sources({"source": foldable("conformer").method})
    with pytest.raises(UserError, match="settings.source: the weights of 'f4_int4' are packed; name a source of dense"):
        method.check_sources({"source": made})
    for other in ("baselines.magnitude", "baselines.fine_tuning"):
        after = make_method(other, {"source": {"system": "f4_int4"}}, backbone)
        with pytest.raises(UserError, match="the weights of 'f4_int4' are packed"):
            after.check_sources({"source": made})
