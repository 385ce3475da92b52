"""Matrices as products of two thin ones: the decomposition, what it is weighted by, and what is saved."""

import dataclasses

import pytest
import torch
from torch import nn

from baselines.low_rank import Factors, directions, one_by_one, products_of_inputs, root_of
from common.errors import UserError
from methods.contract import TrainedSystem, make_method
from methods.shared.matrices import matrices, packed_matrices
from tests.methods.test_derived import derive, factory, foldable, frames
from workflows.steps import contract_cases
from workflows.steps.contract_cases import save
from workflows.steps.export.system import read_system
from workflows.steps.operations import count_macs
from workflows.systems import load_system

BACKBONES = ("conformer", "wav2vec2")


def random_root(size, seed=0):
    """A root of a covariance that is far from round."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, size, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, size).double()
    return root_of(x.T @ x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("make", [lambda: nn.Linear(12, 7), lambda: nn.Linear(7, 12), lambda: nn.Conv1d(6, 9, 1)])
def test_at_full_rank_the_factors_are_the_matrix(make, weighted):
    torch.manual_seed(0)
    part = make()
    inputs = part.weight.size(1)
    vectors, _ = directions(part.weight.flatten(1), random_root(inputs) if weighted else None)
    factors = Factors(part, min(part.weight.shape[:2])).set_to(part, vectors)
    x = torch.randn(2, inputs, 5) if isinstance(part, nn.Conv1d) else torch.randn(2, 5, inputs)
    torch.testing.assert_close(factors(x), part(x), atol=1e-5, rtol=1e-4)
    rows, columns = factors[0].weight.flatten(1).norm(dim=1), factors[1].weight.flatten(1).norm(dim=0)
    torch.testing.assert_close(rows, columns), "both factors carry half"


def test_no_other_matrix_of_the_rank_is_nearer_to_the_outputs():
    """The squared error is the sum of the squared singular values that go: Eckart, Young and Mirsky."""
    torch.manual_seed(1)
    part, root = nn.Linear(10, 8), random_root(10)
    weight = part.weight.detach().double()

    def error(vectors):
        first, second = Factors(part, 3).set_to(part, vectors[:, :3])
        kept = (second.weight @ first.weight).detach().double()
        return float(((weight - kept) @ root).square().sum())

    vectors, energies = directions(part.weight, root)
    assert error(vectors) == pytest.approx(float(energies[3:].sum()), rel=1e-4)
    plain, _ = directions(part.weight, None)
    assert error(vectors) < 0.9 * error(plain)


def test_what_matrices_are_given_is_summed_up_without_padding():
    torch.manual_seed(2)
    linear, pointwise = nn.Linear(3, 2), nn.Conv1d(3, 2, 1)
    x = torch.randn(2, 4, 3)
    parts = {"linear": linear, "pointwise": pointwise}
    found = products_of_inputs(parts, lambda: (linear(x), linear(2 * x), pointwise(x.transpose(1, 2))))
    by_hand = sum(torch.outer(row, row) for row in x.flatten(0, 1).double())
    torch.testing.assert_close(found["linear"], 5 * by_hand)
    torch.testing.assert_close(found["pointwise"], by_hand)
    assert not linear._forward_pre_hooks
    data = contract_cases.case("baselines.all_physical", "conformer").batch()
    alone = list(one_by_one([data]))
    assert [inputs.shape[:2] for inputs, _ in alone] == [(1, int(n)) for n in data.input_lengths]


def test_the_root_is_of_the_damped_covariance():
    product = torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    root = root_of(product)
    expected = product + 0.01 * (4 / 3) * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(root @ root.T, expected)
    assert torch.equal(root_of(torch.zeros(3, 3)), torch.eye(3)), "a matrix that nothing ran through"


def rank_of(weight, **settings):
    settings = {"source": {"system": "a4"}, **settings}
    method = make_method("baselines.low_rank", settings, factory("conformer"))
    part = nn.Linear(weight.size(1), weight.size(0))
    part.weight = nn.Parameter(weight)
    return method._rank(part, directions(weight, None)[1])


def test_the_rank_is_the_largest_of_a_share_or_the_smallest_of_an_energy():
    wide = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    assert rank_of(wide, keep=0.5) == 6, "6 * (20 + 30) = 300 of 600; 7 would hold 350"
    assert rank_of(wide, keep=0.001) == 1
    values = torch.zeros(20, 30)
    values[range(4), range(4)] = torch.tensor([4.0, 2.0, 2.0, 1.0])  # squares: 16, 4, 4, 1 of 25
    assert [rank_of(values, by="energy", keep=keep) for keep in (0.6, 0.65, 0.9, 0.97)] == [1, 2, 3, 4]
    assert rank_of(wide, by="energy", keep=0.999) is None, "no rank that saves keeps so much of a random matrix"
    assert rank_of(wide, keep=1) is rank_of(values, by="energy", keep=1) is None


@pytest.mark.parametrize("backbone", BACKBONES)
def test_with_everything_kept_outputs_are_those_of_the_source_bit_for_bit(backbone):
    source = foldable(backbone)
    settings = {"source": {"system": "f4"}, "keep": 1}
    method = make_method("baselines.low_rank", settings, source.method.backbone, {"source": source})
    case = contract_cases.case("baselines.low_rank", backbone)
    module = method.begin_stage(method.build(), method.stages(contract_cases.TRAINING)[0], case.batches()).eval()
    for point in source.method.points(source.module):
        assert torch.equal(frames(TrainedSystem("same", module, method), point), frames(source, point))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_matrix_of_the_layers_is_factorised_trained_and_then_packed(backbone, tmp_path):
    source = foldable(backbone)
    thin = derive(source, "baselines.low_rank", keep=0.5)
    factors = {name: part for name, part in thin.module.named_modules() if isinstance(part, Factors)}
    assert factors.keys() == matrices(source.module).keys()
    assert matrices(thin.module).keys() == {f"{name}.{number}" for name in factors for number in (0, 1)}
    if backbone == "conformer":
        assert {"pointwise_conv1", "pointwise_conv2"} <= {name.rpartition(".")[2] for name in factors}
    points = thin.method.points(thin.module)
    assert points == source.method.points(source.module)

    before, after = (each.method.parameters(each.module, points[-1]) for each in (source, thin))
    held = sum(part.weight.numel() for part in matrices(source.module).values())
    now = sum(part.weight.numel() for part in matrices(thin.module).values())
    assert now <= 0.5 * held and before.stored - after.stored == held - now == before.executed - after.executed
    assert thin.method.stored_bytes(thin.module, points) == source.method.stored_bytes(source.module, points) - 4 * (
        held - now
    )

    packed = derive(thin, "baselines.post_training", bits=4)
    assert matrices(thin.module).keys() <= packed_matrices(packed.module).keys()
    save(contract_cases.case("baselines.post_training", backbone), packed.method, packed.module, tmp_path)
    loaded = load_system(tmp_path)
    for point in points:
        assert torch.equal(frames(loaded, point), frames(packed, point))
    count = packed.method.parameters(packed.module, points[-1])
    assert count.stored == after.stored and packed.method.stored_bytes(packed.module, points) < 4 * after.stored


def test_fewer_products_are_taken():
    source = foldable("conformer")
    thin = derive(source, "baselines.low_rank", keep=0.5)
    point = source.method.points(source.module)[-1]
    costs = [count_macs(lambda each=each: frames(each, point)) for each in (source, thin)]
    assert costs[1] < 0.9 * costs[0]


def test_factors_of_factors_and_what_trains_them_are_rebuilt(tmp_path):
    thin = derive(foldable("conformer"), "baselines.low_rank", keep=0.6)
    thinner = derive(thin, "baselines.low_rank", by="energy", keep=0.7)
    assert any(name.count(".0.") > 1 or name.endswith(".1.1") for name in matrices(thinner.module))
    save(contract_cases.case("baselines.low_rank", "conformer"), thinner.method, thinner.module, tmp_path)
    loaded = load_system(tmp_path)
    for point in thinner.method.points(thinner.module)[-1:]:
        assert torch.equal(frames(loaded, point), frames(thinner, point))


def test_calibration_depends_on_no_padding_and_leaves_the_source_alone():
    made = {}
    for padding in (0, 25):
        source = foldable("conformer")
        case = contract_cases.case("baselines.low_rank", "conformer")
        data = case.batch()
        padded = dataclasses.replace(data, inputs=nn.functional.pad(data.inputs, (0, 0, 0, padding), value=9.0))
        settings = {"source": {"system": "f4"}}
        method = make_method("baselines.low_rank", settings, source.method.backbone, {"source": source})
        module = method.begin_stage(method.build().train(), method.stages(contract_cases.TRAINING)[0], [padded])
        assert module.training
        made[padding] = module.state_dict()
    assert all(torch.equal(made[0][name], made[25][name]) for name in made[0])
    running = {name for name in made[0] if name.endswith("running_mean")}
    assert running and all(torch.equal(made[0][name], source.module.state_dict()[name]) for name in running)


def test_what_has_zeros_is_refused_and_what_is_thin_is_pruned_and_not_exported(tmp_path):
    source = foldable("conformer")
    with pytest.raises(UserError, match="'f4_magnitude' are pruned, and a product .* has no zeros; factorise first"):
        derive(derive(source, "baselines.magnitude"), "baselines.low_rank")
    thin = derive(source, "baselines.low_rank")
    pruned = derive(thin, "baselines.magnitude", sparsity=0.5)
    for part in matrices(pruned.module).values():
        assert int((part.weight == 0).sum()) == round(0.5 * part.weight.numel()), "factors are pruned like any matrix"
    with pytest.raises(UserError, match="are packed; name a source of dense ones"):
        derive(derive(thin, "baselines.post_training"), "baselines.low_rank")
    save(contract_cases.case("baselines.low_rank", "conformer"), thin.method, thin.module, tmp_path)
    with pytest.raises(UserError, match="baselines.low_rank left weights of another shape or type than the backbone's"):
        read_system(tmp_path, None)


def test_zeros_of_a_trained_source_do_not_stop_training():
    """A few weights may be zero by chance: they are in no factor."""
    source = foldable("conformer")
    name, part = next(iter(matrices(source.module).items()))
    part.weight.data[0, 0] = 0.0
    assert isinstance(derive(source, "baselines.low_rank").module.get_submodule(name), Factors)


def test_a_plain_decomposition_needs_no_speech():
    source = foldable("conformer")
    settings = {"source": {"system": "f4"}, "weighting": "none"}
    method = make_method("baselines.low_rank", settings, source.method.backbone, {"source": source})
    module = method.begin_stage(method.build(), method.stages(contract_cases.TRAINING)[0], iter(()))
    name, part = next(iter(matrices(source.module).items()))
    found = module.get_submodule(name)
    left, values, right = torch.linalg.svd(part.weight)
    rank = found.rank
    expected = left[:, :rank] * values[:rank] @ right[:rank]
    torch.testing.assert_close(found[1].weight @ found[0].weight, expected, atol=1e-5, rtol=1e-4)
