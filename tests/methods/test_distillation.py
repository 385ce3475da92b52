"""Distillation from a trained system: the mathematics of its terms, and the foldable student."""

import dataclasses

import pytest
import torch

from asr.backbones import EncoderState
from baselines.distillation import hidden_distance, matching, observe
from common.errors import UserError
from methods.contract import Step, TrainedSystem, make_method
from methods.unfolding import KL, divergence
from tests.models import SMALL_ENCODER, STILL, batch, conformer, factory, small_encoder, waves
from workflows.steps import contract_cases
from workflows.steps.contract_cases import BackboneFactory
from workflows.steps.contract_checks import CHECKS

STEP = Step("train", 3, 0)
ENCODER = {**SMALL_ENCODER, "layers": 4, "pre_norm": True}
DATA = {"conformer": batch(), "wav2vec2": waves()}
ONES = (1, 1)


def teacher(backbone, seed=0):
    """A system of 4 layers with random weights, as it is loaded."""
    if backbone == "conformer":
        module, made = conformer(seed, **STILL), factory(**STILL)
    else:
        module, made = small_encoder(seed=seed, **{**ENCODER}), BackboneFactory("wav2vec2", ENCODER, 32)
    method = make_method("baselines.all_physical", {}, made)
    return TrainedSystem("a4", module.eval().requires_grad_(False), method)


def distillation(backbone="conformer", layers=2, given=None, **settings):
    """A student of the first layers, and its method."""
    given = given or teacher(backbone)
    start = {"system": "a4", "layers": "first"}
    own = given.method.backbone
    made = BackboneFactory(backbone, {**own.settings, "layers": layers}, own.vocabulary)
    settings = {"teacher": {"system": "a4"}, "start": start, **settings}
    method = make_method("baselines.distillation", settings, made, {"teacher": given, "start": given})
    return method, method.build().eval()


def terms_of(method, module, backbone="conformer", step=STEP):
    with torch.no_grad():
        return method.losses(module, DATA[backbone], step)


def seen(module, path, data):
    with torch.no_grad():
        return observe(module, path, module.front_end(data.inputs, data.input_lengths), data)


@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
def test_a_student_that_is_the_teacher_learns_nothing_from_it(backbone):
    method, module = distillation(backbone, layers=4)
    terms = terms_of(method, module, backbone)
    assert float(terms["kl"]) == float(terms["hidden"]) == 0.0
    other, moved = distillation(backbone, layers=4)
    with torch.no_grad():
        next(moved.layer_module(3).parameters()).mul_(1.5)
    assert float(terms_of(other, moved, backbone)["kl"]) > 0 < float(terms_of(other, moved, backbone)["hidden"])


@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
def test_the_total_against_a_hand_calculation(backbone):
    method, module = distillation(backbone, kl_weight=0.3, hidden_weight=2.0, kl={"reduction": "mean"})
    data, given = DATA[backbone], method.inputs["teacher"].module
    student, taught = seen(module, ONES, data), seen(given, (1, 1, 1, 1), data)
    total = 0.0
    for own, theirs in ((0, 1), (1, 3)):  # layers 1 and 2 of 2 learn from 2 and 4 of 4
        for row, count in enumerate(student.outputs.lengths.tolist()):
            for frame in range(count):
                found, wanted = student.states[own].x[row, frame], taught.states[theirs].x[row, frame]
                found, wanted = ((x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() for x in (found, wanted))
                total += float((found - wanted).square().mean())
    hidden = total / 2 / int(student.outputs.lengths.sum())
    kl = divergence(taught.outputs, student.outputs, module.ctc_weight, KL(reduction="mean"), data)
    terms = terms_of(method, module, backbone)
    assert float(terms["hidden"]) == pytest.approx(hidden, rel=1e-4)
    expected = float(module.loss(student.outputs, data)["total"]) + 0.3 * float(kl) + 2.0 * hidden
    assert float(terms["total"]) == pytest.approx(expected, rel=1e-5)
    assert method.selection_term(terms) == "ctc" in terms


@pytest.mark.parametrize(
    ("student", "teacher", "matched"),
    [
        (6, 12, [2, 4, 6, 8, 10, 12]),
        (8, 12, [2, 3, 5, 6, 8, 9, 11, 12]),
        (5, 12, [2, 5, 7, 10, 12]),
        (4, 4, [1, 2, 3, 4]),
        (6, 2, [1, 1, 1, 1, 2, 2]),
    ],
)
def test_which_layers_are_compared(student, teacher, matched):
    assert [matching(each, student, teacher) for each in range(1, student + 1)] == matched


def test_neither_padding_nor_the_size_of_a_residual_stream_counts():
    torch.manual_seed(0)
    valid = torch.tensor([[True, True, True], [True, False, False]])
    given, own = ([EncoderState(torch.randn(2, 3, 8), valid, valid.sum(1))] for _ in range(2))
    distance = hidden_distance(given, own)
    padded = [dataclasses.replace(own[0], x=torch.where(valid[..., None], own[0].x, 100.0))]
    assert torch.equal(hidden_distance(given, padded), distance)
    larger = [dataclasses.replace(own[0], x=7 * own[0].x)]
    torch.testing.assert_close(hidden_distance(given, larger), distance, rtol=1e-4, atol=0)


def test_the_teacher_hears_no_augmentation_and_stays_as_it_is():
    """Its own masks and dropout are off while the student trains."""
    noisy = {**STILL, "dropout": 0.3, "spec_augment": {}}
    given = TrainedSystem("a4", conformer(**noisy).eval().requires_grad_(False), teacher("conformer").method)
    method, module = distillation(given=given)
    found = [method._teacher(DATA["conformer"]).outputs.ctc_logits for _ in range(2)]
    assert torch.equal(*found) and not found[0].requires_grad
    method.losses(module.train(), DATA["conformer"], STEP)["total"].backward()
    assert not given.module.training and all(p.grad is None for p in given.module.parameters())


@pytest.mark.parametrize("target", ["teacher", "deep", "both"])
def test_a_foldable_student_against_a_hand_calculation(target):
    foldable = {"depth": 4, "alpha_p": 0.5, "alpha_kl": 0.2, "target": target}
    method, module = distillation(kl_weight=0.3, hidden_weight=2.0, foldable=foldable)
    data, given = DATA["conformer"], method.inputs["teacher"].module
    deep, seed, taught = seen(module, (2, 2), data), seen(module, ONES, data), seen(given, (1, 1, 1, 1), data)

    def kl(source, student):
        return float(divergence(source.outputs, student.outputs, module.ctc_weight, KL(), data))

    of_seed = {"teacher": kl(taught, seed), "deep": kl(deep, seed), "both": kl(taught, seed) + kl(deep, seed)}
    expected = float(module.loss(deep.outputs, data)["total"]) + 0.5 * float(module.loss(seed.outputs, data)["total"])
    expected += 0.3 * kl(taught, deep) + 2.0 * float(hidden_distance(taught.states, deep.states))
    terms = terms_of(method, module)
    assert float(terms["total"]) == pytest.approx(expected + 0.2 * of_seed[target], rel=1e-5)
    assert len(deep.states) == 4 and float(terms["seed.kl"]) == pytest.approx(of_seed[target], rel=1e-5)
    assert method.selection_term(terms) == "deep.ctc" in terms


def test_before_the_deep_pass_sets_in_a_foldable_student_trains_its_seed_alone():
    foldable = {"depth": 4, "alpha_p": 0.5, "alpha_kl": 0.2, "deep_from": 0.5}
    method, module = distillation(kl_weight=0.3, hidden_weight=2.0, foldable=foldable)
    data = batch()
    terms = method.losses(module, data, Step("train", 4, 0, steps=10))
    ones = module.loss(module.outputs(module.encode(data.inputs, data.input_lengths, (1, 1)), data), data)
    torch.testing.assert_close(terms["total"], 0.5 * ones["total"])
    assert terms.keys() == {"total", "blank_fraction", "seed.ctc", "seed.attention", "seed.blank_fraction"}
    later = method.losses(module, data, Step("train", 5, 0, steps=10))
    assert {"deep.ctc", "deep.hidden", "seed.kl"} <= later.keys()
    with pytest.raises(UserError, match="deep_from: until the deep pass sets in the seed trains alone"):
        distillation(foldable={"depth": 4, "alpha_p": 0, "deep_from": 0.5})


def test_without_a_teachers_weight_a_foldable_student_is_that_of_unfolding():
    settings = {"depth": 4, "alpha_p": 0.5, "alpha_kl": 0.2}
    method, module = distillation(kl_weight=0, hidden_weight=0, foldable={**settings, "target": "deep"})
    plain = make_method("methods.unfolding", settings, method.backbone)
    with torch.no_grad():
        expected = plain.losses(module, DATA["conformer"], STEP)["total"]
    torch.testing.assert_close(terms_of(method, module)["total"], expected)
    assert method.points(module) == plain.points(module) and len(method.points(module)) > 3
    last = Step("statistics", 0, 0)
    assert method.statistics_points(module, last) == plain.statistics_points(module, last)


def test_the_kl_terms_set_in_where_they_are_told_to():
    foldable = {"depth": 4, "alpha_p": 0.5}
    for extra, names in (({}, {"kl"}), ({"foldable": foldable}, {"deep.kl", "seed.kl"})):
        method, module = distillation(kl={"start_step": 10}, **extra)
        assert not names & terms_of(method, module, step=Step("train", 9, 0)).keys()
        assert names <= terms_of(method, module, step=Step("train", 10, 0)).keys()
        assert names <= terms_of(method, module, step=Step("train", 0, 0, training=False)).keys()


@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_holds_for_a_foldable_student(backbone, check, tmp_path):
    foldable = {"depth": 6, "training_path": "random"}
    check(contract_cases.case("baselines.distillation", backbone, {"foldable": foldable}), tmp_path)


def refused(match, settings=None, own=None, given=None):
    """Before any work: methods are there, weights are not."""
    with pytest.raises(UserError, match=match):
        settings = {"teacher": {"system": "a4"}, **(settings or {})}
        method = make_method("baselines.distillation", settings, own or factory())
        method.check_sources({"teacher": given or make_method("baselines.all_physical", {}, factory())})


def test_bad_input_is_refused_before_any_work():
    encoder = BackboneFactory("wav2vec2", SMALL_ENCODER, 32)
    refused("settings.hidden_weight: layers of width 64 .* of 'a4', of width 32; set it to 0", own=factory(width=64))
    refused("settings.teacher: 'a4' is a conformer, and does not teach a wav2vec2", own=encoder)
    pretrained = make_method("baselines.masked_prediction", {}, encoder)
    refused("settings.teacher: 'a4' recognises nothing before it is fine-tuned", own=encoder, given=pretrained)
    slices = make_method("tests.toys.width_slices", {}, factory(), packages=["tests.toys"])
    refused("settings.teacher: 'a4' does not run along paths alone", given=slices)
    refused("settings.foldable.depth: 2 is below the 4 physical layers", {"foldable": {"depth": 2}})
    refused("settings.foldable.training_path: 6 paths lead", {"foldable": {"depth": 6}})


def test_a_teacher_of_another_vocabulary_or_other_frames_is_refused():
    given = teacher("conformer")
    inputs, settings = {"teacher": given}, {"teacher": {"system": "a4"}}
    other = BackboneFactory("conformer", factory(**STILL).settings, 13)
    with pytest.raises(UserError, match="settings.teacher: 'a4' has another vocabulary"):
        make_method("baselines.distillation", settings, other, inputs).build()
    given = teacher("wav2vec2")
    other = BackboneFactory("wav2vec2", {**ENCODER, "conv_stride": [4, 4, 2]}, 32)
    with pytest.raises(UserError, match="settings.teacher: 'a4' leaves other frames of an utterance"):
        make_method("baselines.distillation", settings, other, {"teacher": given}).build()
