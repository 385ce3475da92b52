"""The Conformer against ESPnet's own encoder, the paper's sizes, and its promises about padding."""

import csv
from pathlib import Path

import pytest
import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

from asr.backbones import Batch, LayerDrop
from asr.backbones.conformer import folded_encoder_state, load_espnet_encoder, run_block
from common.errors import UserError
from tests.models import SMALL, STILL, batch, conformer, factory

PUBLISHED = Path("analysis/published/param_counts.csv")


def published_sizes():
    with PUBLISHED.open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "conformer"]
    return [(int(row["input_dim"]), int(row["physical_layers"]), int(row["total"])) for row in rows]


@pytest.mark.parametrize(("input_dim", "layers", "total"), published_sizes())
def test_sizes_of_the_paper(input_dim, layers, total):
    from asr.backbones import BackboneFactory

    with torch.device("meta"):
        model = BackboneFactory("conformer", {"layers": layers, "input_dim": input_dim}, 2002)
        config = model.config
    # One block, the front end and the rest are counted on a real model of one layer: layers have one shape.
    one = BackboneFactory("conformer", {**config.model_dump(exclude={"layers"}), "layers": 1}, 2002).build()
    block = sum(p.numel() for p in one.layer_module(0).parameters())
    assert block == 2_639_616
    assert sum(p.numel() for p in one.parameters()) + (layers - 1) * block == total


def espnet_encoder(**changes):
    encoder = ConformerEncoder(
        input_size=SMALL["input_dim"],
        output_size=SMALL["width"],
        attention_heads=SMALL["heads"],
        linear_units=SMALL["ffn"],
        num_blocks=SMALL["layers"],
        macaron_style=True,
        rel_pos_type="latest",
        cnn_module_kernel=SMALL["kernel"],
        **changes,
    )
    return encoder.eval()


@pytest.mark.parametrize("lengths", [(90, 90, 90), (90, 61, 40)])
def test_path_of_ones_equals_espnet(lengths):
    model = conformer(mask_padding=False).eval()
    peer = espnet_encoder()
    peer.load_state_dict(model.encoder.state_dict())
    data = batch(lengths)
    ours = model.encode(data.inputs, data.input_lengths)
    frames, lengths, _ = peer(data.inputs, data.input_lengths)
    assert torch.equal(ours.lengths, lengths)
    torch.testing.assert_close(ours.frames, frames, atol=1e-5, rtol=0)


def test_espnet_without_padding_equals_the_masked_model():
    model = conformer().eval()
    peer = espnet_encoder()
    peer.load_state_dict(model.encoder.state_dict())
    data = batch((90, 90, 90))
    frames, _, _ = peer(data.inputs, data.input_lengths)
    torch.testing.assert_close(model.encode(data.inputs, data.input_lengths).frames, frames, atol=1e-5, rtol=0)


def test_branch_scale_is_folded_on_the_way_to_espnet_and_back():
    model = conformer(branch_scale=0.3, output_init=0.5).eval()
    peer = espnet_encoder()
    peer.load_state_dict(folded_encoder_state(model))
    data = batch((90, 90, 90))
    expected, _, _ = peer(data.inputs, data.input_lengths)
    torch.testing.assert_close(model.encode(data.inputs, data.input_lengths).frames, expected, atol=1e-5, rtol=0)
    again = conformer(seed=5, branch_scale=0.7).eval()
    load_espnet_encoder(again, peer.state_dict())
    torch.testing.assert_close(again.encode(data.inputs, data.input_lengths).frames, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("path", [(1, 1, 1, 1), (1, 2, 1, 2), (3, 3, 3, 3), (1, 0, 1, 0)])
def test_a_path_is_its_layers_applied_by_hand(path):
    model = conformer().eval()
    data = batch()
    state = model.front_end(data.inputs, data.input_lengths)
    x = state.x
    for layer, count in enumerate(path):
        for _ in range(count):
            x = run_block(model.encoder.encoders[layer], x, state.positions, state.valid, 1.0, True)
    by_hand = model.encoder.after_norm(x)
    assert torch.equal(model.encode(data.inputs, data.input_lengths, path).frames, by_hand)


def alone(data, index):
    length = int(data.input_lengths[index])
    return data.inputs[index : index + 1, :length], data.input_lengths[index : index + 1]


def test_output_does_not_depend_on_the_batch():
    model = conformer().eval()
    data = batch()
    together = model.encode(data.inputs, data.input_lengths)
    for index in range(len(data.ids)):
        single = model.encode(*alone(data, index))
        kept = int(single.lengths)
        assert kept == int(together.lengths[index]) == model.output_lengths([int(data.input_lengths[index])])[0]
        torch.testing.assert_close(together.frames[index, :kept], single.frames[0, :kept], atol=1e-5, rtol=0)


def test_espnets_padding_reaches_real_frames():
    """The trap that `mask_padding` closes: without it the same utterance comes out differently."""
    model = conformer(mask_padding=False).eval()
    data = batch()
    together = model.encode(data.inputs, data.input_lengths)
    single = model.encode(*alone(data, 2))
    difference = (together.frames[2, : int(single.lengths)] - single.frames[0]).abs().max()
    assert difference > 1e-3


def test_batch_statistics_leave_padding_out():
    """Training mode: what stands in padded frames changes neither output nor running statistics."""
    data = batch()
    noisy = data.inputs.clone()
    for row, length in enumerate(data.input_lengths):
        noisy[row, length:] = 100.0
    results = []
    for inputs in (data.inputs, noisy):
        model = conformer(**STILL).train()
        encoded = model.encode(inputs, data.input_lengths)
        norm = model.encoder.encoders[0].conv_module.norm
        valid = torch.arange(encoded.frames.size(1)) < encoded.lengths[:, None]
        results.append((encoded.frames[valid], norm.running_mean.clone(), norm.running_var.clone()))
    for clean, dirty in zip(*results, strict=True):
        torch.testing.assert_close(clean, dirty, atol=1e-5, rtol=1e-5)


def test_loss_is_the_weighted_sum_and_ignores_padding():
    model = conformer(**STILL).eval()
    data = batch()
    outputs = model.outputs(model.encode(data.inputs, data.input_lengths), data)
    terms = model.loss(outputs, data)
    assert float(terms["total"]) == pytest.approx(0.7 * float(terms["attention"]) + 0.3 * float(terms["ctc"]), rel=1e-6)
    # Divided by the batch size: the batch loss is the mean over utterances decoded alone.
    singles = []
    for index in range(len(data.ids)):
        length = int(data.target_lengths[index])
        inputs, lengths = alone(data, index)
        one = Batch(
            (data.ids[index],), inputs, lengths, data.targets[index : index + 1, :length], torch.tensor([length])
        )
        singles.append(float(model.loss(model.outputs(model.encode(inputs, lengths), one), one)["total"]))
    assert float(terms["total"]) == pytest.approx(sum(singles) / len(singles), rel=1e-5)


def test_layer_drop_ramp_and_scale():
    drop = LayerDrop(0.1, 12, [1.0] * 11 + [0.0])
    assert drop.probability(11) == pytest.approx(0.1)
    assert drop.probability(5) == pytest.approx(0.05)
    assert drop.branch_scale(5) == pytest.approx(1 / 0.95)
    assert drop.branch_scale(11) == 0.0


def test_a_dropped_layer_is_the_identity():
    model = conformer(**STILL).eval()
    data = batch()
    state = model.front_end(data.inputs, data.input_lengths)
    after = model.run_layer(0, state, LayerDrop(0.5, 1, [0.4]))
    assert torch.equal(after.x, state.x)
    assert after.executed == 1


def test_short_input_gives_no_frames():
    model = conformer().eval()
    inputs = torch.randn(2, 6, SMALL["input_dim"])
    assert model.encode(inputs, torch.tensor([6, 3])).lengths.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"layer": 3}, "did you mean 'layers'"), ({"width": 33}, "not a multiple"), ({"kernel": 8}, "not odd")],
)
def test_wrong_settings_name_the_key(settings, message):
    with pytest.raises(UserError, match=message):
        factory(**settings).build()
