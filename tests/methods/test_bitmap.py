"""Bitmaps: the weights that are not zero and a bit for each, against a calculation by hand, and what the file holds."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from asr.portable.bitmap import unpack_bits
from methods.shared.bitmap import Bitmap, bitmaps, dense_again, in_storage_form, pack_bits, storage_form, stored_as
from methods.shared.matrices import bits_a_weight, matrices, matrix_counts, stored_bits
from tests.models import conformer


def pruned(outputs=6, inputs=40, share=0.65, pointwise=False, bias=True):
    """A matrix of which exactly the share of the weights is zero."""
    torch.manual_seed(0)
    part = nn.Conv1d(inputs, outputs, 1, bias=bias) if pointwise else nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        weight = part.weight.normal_().flatten()
        weight[torch.randperm(len(weight))[: round(share * len(weight))]] = 0
        part.weight.copy_(weight.view_as(part.weight))
    return part


def test_by_hand():
    part = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        part.weight.copy_(torch.tensor([[0.0, 1.5, 0.0], [0.0, 0.0, -2.0], [3.0, 0.0, 4.0]]))
    held = Bitmap.of(part)
    # Row by row 0 1 0 0 0 1 1 0 | 1: the first weight in the lowest bit.
    assert held.bitmap.tolist() == [0b01100010, 0b1] and held.values.tolist() == [1.5, -2.0, 3.0, 4.0]
    assert torch.equal(held.weight, part.weight) and held.weight_count() == (9, 4)


@pytest.mark.parametrize("number", [1, 7, 8, 9, 64, 1001])
def test_bits_come_back(number):
    held = torch.rand(number, generator=torch.Generator().manual_seed(number)) < 0.4
    packed = pack_bits(held)
    assert packed.dtype == torch.uint8 and len(packed) == -(-number // 8)
    assert torch.equal(unpack_bits(packed)[:number], held) and not unpack_bits(packed)[number:].any()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pointwise", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.65, 1.0])
def test_nothing_is_lost(share, pointwise, bias):
    part = pruned(share=share, pointwise=pointwise, bias=bias)
    held = Bitmap.of(part)
    x = torch.randn(2, 40, 9) if pointwise else torch.randn(2, 9, 40)
    assert torch.equal(held(x), part(x)) and torch.equal(held.weight, part.weight)
    again = held.dense()
    assert type(again) is type(part) and torch.equal(again.weight, part.weight) and again.weight.requires_grad
    assert (again.bias is None) == (not bias) and (not bias or torch.equal(again.bias, part.bias))


@pytest.mark.parametrize("share", [0.5, 0.65, 0.765])
def test_the_file_takes_a_bit_a_weight_and_32_for_each_that_is_not_zero(share, tmp_path):
    """As arXiv 2505.22608's 65 % and 76.5 %: 12.2 and 8.52 bits of 32, 2.62 and 3.76 times smaller."""
    part = pruned(64, 200, share)
    save_file(Bitmap.of(part).state_dict(), tmp_path / "held.safetensors")
    tensors = load_file(tmp_path / "held.safetensors")
    size = sum(tensor.nbytes for name, tensor in tensors.items() if name != "bias")
    assert 8 * size == stored_bits(Bitmap.of(part)) == pytest.approx(((1 - share) * 32 + 1) * 12800)
    header = 8 + int.from_bytes((tmp_path / "held.safetensors").read_bytes()[:8], "little")
    assert (tmp_path / "held.safetensors").stat().st_size == header + size + 4 * 64
    assert 32 / (8 * size / 12800) == pytest.approx({0.5: 1.88, 0.65: 2.62, 0.765: 3.76}[share], abs=0.005)


def test_a_model_is_stored_and_is_dense_again():
    module, same = conformer(), conformer()
    with torch.no_grad():
        for each in (module, same):
            for part in matrices(each).values():
                part.weight[:, ::2] = 0
    names = list(matrices(module))
    counts = matrix_counts(module)
    assert [each["name"] for each in counts] == names and {each["layer"] for each in counts} == {1, 2, 3, 4}
    assert all(2 * each["nonzero"] == each["weights"] for each in counts)

    assert stored_as(module, "dense") is module and not bitmaps(module) and storage_form(module) == {}
    stored_as(module, "bitmap")
    assert list(bitmaps(module)) == names and not matrices(module) and matrix_counts(module) == counts
    assert bits_a_weight(module) == 17.0

    empty = in_storage_form(conformer(1), storage_form(module))
    empty.load_state_dict(module.state_dict())
    for each in (dense_again(module), dense_again(empty)):
        assert list(matrices(each)) == names
        assert all(torch.equal(value, same.state_dict()[name]) for name, value in each.state_dict().items())
        assert each.state_dict().keys() == same.state_dict().keys()
