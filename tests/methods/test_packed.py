"""Packed weights: codes and scales against a calculation by hand, and what the file holds."""

import itertools

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from baselines.post_training import PostTraining
from methods.shared.matrices import bits_a_weight, matrices, stored_bits
from methods.shared.packed import Packed, largest_code, pack, quantised, rounded, unpack
from tests.models import conformer, factory


def dense(outputs=5, inputs=40, seed=0, pointwise=False):
    torch.manual_seed(seed)
    part = nn.Conv1d(inputs, outputs, 1) if pointwise else nn.Linear(inputs, outputs)
    with torch.no_grad():
        part.weight.normal_()
    return part


def test_int8_by_hand():
    part = nn.Linear(3, 2)
    with torch.no_grad():
        part.weight.copy_(torch.tensor([[1.0, -0.5, 0.0], [0.25, 2.0, -1.0]]))
    packed = Packed.of(part, 8)
    scales = [torch.tensor(largest / 127).half().item() for largest in (1.0, 2.0)]
    assert packed.scales.flatten().tolist() == scales
    rows = [[round(w / scales[0]) for w in (1.0, -0.5, 0.0)], [round(w / scales[1]) for w in (0.25, 2.0, -1.0)]]
    assert packed.codes.tolist() == rows and rows[0][0] == rows[1][1] == 127
    assert torch.equal(packed.weight, torch.tensor(rows) * packed.scales.float())
    assert torch.equal(packed.bias, part.bias)


def test_the_scale_of_four_bits_leaves_the_smallest_error_of_the_grid():
    weight = dense(6, 64).weight.detach().view(6, 2, 32)
    codes, scales = quantised(weight, 4, search=True)
    assert codes.abs().max() <= 7 == largest_code(4)

    def error(scale):
        rounded = (weight / scale[..., None]).round().clamp(-7, 7) * scale[..., None]
        return (rounded - weight).square().sum(-1)

    found = error(scales.float())
    for share in torch.linspace(0.5, 1.0, 26):
        assert (found <= error((share * weight.abs().amax(-1) / 7).half().float()) + 1e-9).all()
    assert (found < error(weight.abs().amax(-1) / 7) * 0.999).any(), "clipping the largest weight pays somewhere"
    torch.testing.assert_close(
        codes.float() * scales.float()[..., None], weight, atol=float(weight.abs().max()) / 2, rtol=0
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_every_code_comes_back(bits):
    limit = largest_code(bits)
    codes = torch.arange(-limit, limit + 1, dtype=torch.int8).repeat(3, 1)
    assert torch.equal(unpack(pack(codes, bits), bits)[:, : codes.size(1)], codes)
    pairs = torch.tensor(list(itertools.product(range(-7, 8), repeat=2)), dtype=torch.int8)
    assert torch.equal(unpack(pack(pairs, 4), 4), pairs)


@pytest.mark.parametrize("pointwise", [False, True])
@pytest.mark.parametrize(("bits", "group", "inputs"), [(8, None, 40), (4, 32, 64), (4, 32, 40), (4, 5, 15), (4, 1, 3)])
def test_packed_and_unpacked_weights_give_equal_outputs(bits, group, inputs, pointwise):
    part = dense(6, inputs, pointwise=pointwise)
    packed = Packed.of(part, bits, group)
    again = dense(6, inputs, 1, pointwise)
    with torch.no_grad():
        again.weight.copy_(packed.weight)
        again.bias.copy_(packed.bias)
    x = torch.randn(2, inputs, 9) if pointwise else torch.randn(2, 9, inputs)
    assert torch.equal(packed(x), again(x))
    assert packed.weight.shape == part.weight.shape and packed.weight_count() == (
        6 * inputs,
        int((packed.weight != 0).sum()),
    )
    assert torch.equal(Packed.of(again, bits, group).weight == 0, packed.weight == 0)


def test_zero_stays_zero():
    part = dense(8, 64)
    with torch.no_grad():
        part.weight[:, ::2] = 0
        part.weight[3] = 0
    for bits, group in ((8, None), (4, 32)):
        weight = Packed.of(part, bits, group).weight
        assert (weight[:, ::2] == 0).all() and (weight[3] == 0).all() and weight.isfinite().all()


def test_bits_a_weight_are_those_of_the_file(tmp_path):
    for bits, group, inputs, expected in (
        (8, None, 256, 8 + 16 / 256),
        (4, 32, 256, 4.5),
        (4, 32, 48, (64 * 4 + 2 * 16) / 48),
    ):
        packed = Packed.of(dense(16, inputs), bits, group)
        save_file(packed.state_dict(), tmp_path / "packed.safetensors")
        held = sum(t.nbytes for name, t in load_file(tmp_path / "packed.safetensors").items() if name != "bias")
        assert 8 * held / (16 * inputs) == stored_bits(packed) / (16 * inputs) == pytest.approx(expected)


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 32), (4, 5)])
def test_rounding_without_packing_gives_the_weights_that_packing_gives(bits, group):
    for part in (dense(6, 40), dense(6, 40, pointwise=True)):
        found = rounded(part.weight, bits, group)
        assert found.shape == part.weight.shape and torch.equal(found, Packed.of(part, bits, group).weight)


def test_rounding_to_two_bits_leaves_three_values_of_a_group():
    weight = dense(4, 64).weight
    found = rounded(weight, 2, 32).view(4, 2, 32)
    for group in found.flatten(0, 1):
        assert {*group.unique().tolist()} <= {-group.abs().max().item(), 0.0, group.abs().max().item()}
    assert (found.view_as(weight) - weight).square().sum() < weight.square().sum()


def test_bits_a_weight_of_a_model_are_those_of_its_layers_matrices():
    module = conformer(width=32, ffn=64)
    assert bits_a_weight(module) == 32.0
    sizes = [part.weight.numel() for part in matrices(module).values()]
    inputs = [part.weight.size(1) for part in matrices(module).values()]
    for bits, group in ((8, None), (4, 32)):
        settings = PostTraining.Config.model_validate({"source": {"system": "x"}, "bits": bits})
        packed = PostTraining(settings, factory(width=32, ffn=64))._with(conformer(width=32, ffn=64), Packed.of)
        scales = sum(16 * size / (group or width) for size, width in zip(sizes, inputs, strict=True))
        assert bits_a_weight(packed) == pytest.approx(bits + scales / sum(sizes))
        assert group is None or bits_a_weight(packed) == 4.5, "every group is full here"
    assert bits_a_weight(nn.Linear(2, 2)) is None


class Shared(nn.Module):
    """16 values for all weights, as the documented codebook has them."""

    def __init__(self, part):
        super().__init__()
        self.bias, self.size = part.bias, part.weight.numel()
        self.values = nn.Parameter(torch.zeros(16))
        self.register_buffer("codes", torch.zeros(part.weight.size(0), part.weight.size(1) // 2, dtype=torch.uint8))

    def weight_count(self):
        return self.size, self.size


def test_bits_a_weight_of_other_holders_are_what_they_hold_and_of_silent_ones_not_known():
    module = conformer(width=32, ffn=64)
    sizes = [part.weight.numel() for part in matrices(module).values()]
    for name, part in matrices(module).items():
        module.set_submodule(name, Shared(part))
    assert bits_a_weight(module) == pytest.approx(4 + 16 * 32 * len(sizes) / sum(sizes))
    silent = conformer(width=32, ffn=64)
    silent.layer_module(0).register_buffer("codes", torch.zeros(2, 2, dtype=torch.int8))
    assert bits_a_weight(silent) is None


def test_other_numbers_of_bits_are_refused():
    with pytest.raises(ValueError, match="codes of 3 bits"):
        Packed(2, 2, True, 3)
