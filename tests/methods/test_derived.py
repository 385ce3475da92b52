"""Methods that stand on other methods: points and losses of the source, and chains of every way of holding weights."""

import dataclasses

import pytest
import torch

from asr.backbones import BackboneFactory
from baselines.magnitude import largest
from common.errors import UserError
from methods.contract import Step, TrainedSystem, load_method, make_method
from methods.names import method_names
from methods.shared.bitmap import bitmaps
from methods.shared.derived import Derived
from methods.shared.matrices import matrices, output_matrices, packed_matrices
from methods.shared.pruning import encoder_weights
from workflows.steps import contract_cases
from workflows.steps.contract_cases import SMALL, VOCABULARY, save
from workflows.steps.contract_checks import CHECKS
from workflows.systems import load_system

FOLDABLE = ("methods.unfolding", {"depth": 6, "training_path": "random"})
DERIVED = [name for name in method_names() if issubclass(load_method(name, "test"), Derived)]
BACKBONES = ("conformer", "wav2vec2")
CASES = [
    (name, backbone)
    for name in DERIVED
    for backbone in BACKBONES
    if backbone in (load_method(name, "test").backbones or BACKBONES)
]


def test_all_are_found():
    assert {"baselines.magnitude", "baselines.post_training", "baselines.statistics"} <= set(DERIVED)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "backbone"), CASES, ids=["-".join(pair) for pair in CASES])
def test_the_contract_holds_on_a_foldable_source(name, backbone, check, tmp_path):
    check(dataclasses.replace(contract_cases.case(name, backbone), source=FOLDABLE), tmp_path)


def factory(backbone):
    return BackboneFactory(backbone, SMALL[backbone], VOCABULARY[backbone])


def foldable(backbone, steps=40):
    """A foldable system with random weights, as it is loaded."""
    torch.manual_seed(0)
    method = make_method(*FOLDABLE, factory(backbone))
    return TrainedSystem("f4", method.build().eval().requires_grad_(False), method, steps=steps)


def derive(source, name, **settings):
    """A derived system after one step of every stage, and its method."""
    method = make_method(
        name, {"source": {"system": source.name}, **settings}, source.method.backbone, {"source": source}
    )
    case = dataclasses.replace(contract_cases.case(name, source.method.backbone.name), settings=settings)
    *_, (_, module) = contract_cases.in_stages(case, method)
    name = f"{source.name}_{name.rpartition('.')[2]}"
    return TrainedSystem(name, module.requires_grad_(False), method, steps=source.steps + 4)


def frames(system, point):
    data = contract_cases.case("baselines.all_physical", system.method.backbone.name).batch()
    with torch.no_grad():
        return system.method.at(system.module, point).encode(data.inputs, data.input_lengths).frames


@pytest.mark.parametrize("backbone", BACKBONES)
def test_fold_then_prune_then_quantise(backbone, tmp_path):
    folded = foldable(backbone)
    pruned = derive(folded, "baselines.magnitude", sparsity=0.5)
    packed = derive(pruned, "baselines.post_training", bits=4)
    points = folded.method.points(folded.module)
    assert points == pruned.method.points(pruned.module) == packed.method.points(packed.module) and len(points) > 5

    for name, part in matrices(pruned.module).items():
        zeros = part.weight == 0
        assert int(zeros.sum()) == round(0.5 * part.weight.numel()), "a step was taken, and zeros are zeros"
        assert not torch.equal(part.weight, matrices(folded.module)[name].weight)
        assert (packed_matrices(packed.module)[name].weight[zeros] == 0).all()
    assert (
        packed_matrices(packed.module).keys() == matrices(folded.module).keys() | output_matrices(folded.module).keys()
    )

    counts = [each.method.parameters(each.module, points[-1]) for each in (folded, pruned, packed)]
    assert counts[0].stored == counts[1].stored == counts[2].stored
    assert counts[0].nonzero > counts[1].nonzero >= counts[2].nonzero
    sizes = [each.method.stored_bytes(each.module, points) for each in (folded, pruned, packed)]
    assert sizes[0] == sizes[1] > 2 * sizes[2]

    save(contract_cases.case("baselines.post_training", backbone), packed.method, packed.module, tmp_path)
    loaded = load_system(tmp_path)
    assert loaded.method.points(loaded.module) == points and isinstance(loaded.method.made_by, Derived)
    assert type(loaded.method.first).__module__ == "methods.unfolding" and loaded.method.first.config.depth == 6
    for point in points:
        assert torch.equal(frames(loaded, point), frames(packed, point))
    assert (tmp_path / "model.safetensors").stat().st_size < sizes[0] / 2


@pytest.mark.parametrize("backbone", BACKBONES)
def test_fold_then_gate_then_quantise_and_gate_again(backbone, tmp_path):
    """Bitmaps lose nothing: what stands on them gets dense matrices, with the zeros, and keeps these."""
    folded = foldable(backbone)
    gated = derive(folded, "methods.selfpinching", target=0.5)
    points = folded.method.points(folded.module)
    assert bitmaps(gated.module).keys() == matrices(folded.module).keys() and not gated.method.packed
    packed = derive(gated, "baselines.post_training", bits=4)
    again = derive(gated, "methods.selfpinching", target=0.6)
    thinned = derive(gated, "baselines.magnitude", sparsity=0.8)
    zeros = {name: part.weight == 0 for name, part in bitmaps(gated.module).items()}
    gone = [round(target * encoder_weights(folded.module)) for target in (0.5, 0.6)]
    assert sum(int(found.sum()) for found in zeros.values()) == gone[0]
    assert sum(int((part.weight == 0).sum()) for part in bitmaps(again.module).values()) == gone[1]
    for name, found in zeros.items():
        for held in (packed_matrices(packed.module), bitmaps(again.module), matrices(thinned.module)):
            assert (held[name].weight[found] == 0).all()
        assert int((matrices(thinned.module)[name].weight == 0).sum()) >= round(0.8 * found.numel())
    assert not bitmaps(packed.module) and not bitmaps(thinned.module)
    for number, system in enumerate((gated, packed, again, thinned)):
        case = contract_cases.case(type(system.method).__module__, backbone)
        save(case, system.method, system.module, tmp_path / str(number))
        loaded = load_system(tmp_path / str(number))
        assert loaded.method.points(loaded.module) == points
        assert all(torch.equal(frames(loaded, point), frames(system, point)) for point in points)
        file = tmp_path / str(number) / "model.safetensors"
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert file.stat().st_size == header + system.method.stored_bytes(system.module, points)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_with_nothing_compressed_outputs_are_those_of_the_source_bit_for_bit(backbone):
    source = foldable(backbone)
    method = make_method(
        "baselines.magnitude", {"source": {"system": "f4"}, "sparsity": 0}, source.method.backbone, {"source": source}
    )
    same = TrainedSystem("f4_same", method.build().eval(), method)
    for point in source.method.points(source.module):
        assert torch.equal(frames(same, point), frames(source, point))


def test_outputs_of_eight_bits_are_near_those_of_the_source_and_four_bits_are_less_so():
    source = foldable("conformer")
    distance = {}
    for bits in (8, 4):
        packed = derive(source, "baselines.post_training", bits=bits)
        points = source.method.points(source.module)
        distance[bits] = [
            float((frames(packed, p) - frames(source, p)).norm() / frames(source, p).norm()) for p in points
        ]
    assert max(distance[8]) < 0.02 < min(distance[4])


def test_what_is_packed_is_neither_pruned_nor_packed_again():
    packed = derive(foldable("conformer"), "baselines.post_training")
    for name in ("baselines.magnitude", "baselines.post_training"):
        with pytest.raises(UserError, match="the weights of 'f4_post_training' are packed; name a source"):
            derive(packed, name)


def test_the_source_is_untouched_and_its_schedule_goes_on(monkeypatch):
    source = foldable("conformer", steps=40)
    before = {name: tensor.clone() for name, tensor in source.module.state_dict().items()}
    seen = []
    losses = type(source.method).losses

    def spy(self, module, batch, step):
        seen.append((step.index, step.steps))
        return losses(self, module, batch, step)

    monkeypatch.setattr(type(source.method), "losses", spy)
    pruned = derive(source, "baselines.magnitude")
    derive(pruned, "baselines.magnitude", sparsity=0.8)
    assert [index for index, _ in seen] == [40, 44], "a second link counts the first one's steps too, and no step twice"
    assert all(torch.equal(before[name], tensor) for name, tensor in source.module.state_dict().items())


def test_losses_that_read_a_teacher_say_so_when_it_is_missing():
    source = foldable("conformer")
    backbone, settings = source.method.backbone, {"teacher": {"system": "a4"}}
    taught = make_method("tests.toys.two_stages", settings, backbone, packages=["tests.toys"])
    method = make_method("baselines.magnitude", {"source": {"system": "t4"}}, backbone)
    method.check_sources({"source": taught})
    data = contract_cases.case("baselines.all_physical", "conformer").batch()
    with pytest.raises(UserError, match=r"settings.source: its losses read other systems \(a4\)"):
        method.losses(source.module, data, Step("train", 0, 0))


def test_the_largest_weights_are_kept_exactly_so_many():
    weight = torch.tensor([[3.0, -1.0, 0.5], [0.5, -4.0, 2.0]])
    assert largest(weight, 0.5).tolist() == [[True, False, False], [False, True, True]]
    assert largest(weight, 0.0).all() and int(largest(torch.ones(10, 10), 0.37).sum()) == 63


def test_another_backbone_than_the_source_is_refused_before_any_work():
    other = make_method(
        "baselines.magnitude",
        {"source": {"system": "f4"}},
        BackboneFactory("conformer", {**SMALL["conformer"], "layers": 2}, 12),
    )
    with pytest.raises(
        UserError, match="the backbone of 'f4' is another .different: layers.; leave out .backbone. and"
    ):
        other.check_sources({"source": foldable("conformer").method})


def test_every_link_after_a_taught_system_has_its_teacher():
    """Fine-tuning of fine-tuning of a student: the losses of all read the teacher, which the student's method has."""
    taught = derive_taught("wav2vec2")
    first = derive(taught, "baselines.fine_tuning")
    second = derive(first, "baselines.fine_tuning")
    assert second.method.first is taught.method and set(second.method.first.inputs) == {"teacher"}
    before, after = (dict(system.module.named_parameters()) for system in (first, second))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def derive_taught(backbone):
    """A student after one step, its method with its teacher."""
    case = contract_cases.case("baselines.distillation", backbone)
    sources = case.sources()
    method = case.method(sources)
    *_, (_, module) = contract_cases.in_stages(case, method)
    return TrainedSystem("taught", module.requires_grad_(False), method, steps=4)


def test_what_stands_on_bitmaps_and_prunes_nothing_is_stored_as_bitmaps(tmp_path):
    gated = derive(foldable("conformer"), "methods.selfpinching", target=0.3)
    tuned = derive(gated, "baselines.fine_tuning")
    other = derive(gated, "baselines.statistics", use="path", path="1 1 1 1")
    for system in (tuned, other):
        assert bitmaps(system.module).keys() == bitmaps(gated.module).keys()
        points = system.method.points(system.module)
        assert system.method.stored_bytes(system.module, points) <= gated.method.stored_bytes(gated.module, points)
    point = tuned.method.points(tuned.module)[0]
    case = contract_cases.case("baselines.fine_tuning", "conformer")
    save(case, tuned.method, tuned.module, tmp_path)
    again = load_system(tmp_path)
    assert bitmaps(again.module) and torch.equal(frames(again, point), frames(tuned, point))
