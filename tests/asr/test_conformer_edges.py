"""The Conformer's numbers one by one: its defaults and bounds, first weights, losses by hand."""

import pytest
import torch
from espnet.nets.pytorch_backend.transformer.label_smoothing_loss import LabelSmoothingLoss
from torch import nn

from asr.backbones import LayerDrop, Outputs
from asr.backbones.conformer import Config, decoder_settings, encoder_settings, run_block
from asr.backbones.conformer_decoder import label_smoothing, said
from common.errors import UserError
from tests.models import SMALL, STILL, VOCABULARY, batch, conformer, factory


def test_the_defaults_are_the_papers():
    """arXiv 2505.21237, section 3, and ESPnet's Switchboard recipe."""
    config = Config()
    assert (config.layers, config.input_dim, config.width, config.heads, config.ffn, config.kernel) == (
        *(12, 80, 256, 4, 2048, 31),
    )
    assert (config.decoder_layers, config.decoder_heads, config.decoder_ffn) == (6, 4, 2048)
    assert (config.dropout, config.attention_dropout, config.layer_drop) == (0.1, 0.0, 0.1)
    assert (config.ctc_weight, config.label_smoothing) == (0.3, 0.1)
    assert (config.branch_scale, config.output_init, config.mask_padding) == (1.0, 1.0, True)
    assert config.spec_augment.model_dump() == {
        "time_warp_window": 5,
        "frequency_masks": 2,
        "frequency_width": 30,
        "time_masks": 2,
        "time_width": 40,
        "time_width_ratio": None,
    }


@pytest.mark.parametrize(
    ("key", "accepted", "refused"),
    [
        ("layers", [1], [0]),
        ("input_dim", [7], [6]),
        ("decoder_layers", [1], [0]),
        ("layer_drop", [0.0, 0.99], [-0.01, 1.0]),
        ("ctc_weight", [0.0, 1.0], [-0.01, 1.01]),
        ("branch_scale", [0.01], [0.0]),
        ("output_init", [0.01], [0.0]),
        ("width", [36], [34, 33]),
        ("kernel", [1, 7], [8]),
    ],
)
def test_bounds_of_settings(key, accepted, refused):
    for value in accepted:
        assert getattr(factory(**{"heads": 4, "decoder_heads": 6, "width": 36, key: value}).config, key) == value
    for value in refused:
        with pytest.raises(UserError, match=key):
            _ = factory(**{"heads": 4, "decoder_heads": 6, "width": 36, key: value}).config


def test_espnets_names_get_the_right_values():
    config = Config(
        layers=3, width=36, heads=6, ffn=5, kernel=9, dropout=0.2, attention_dropout=0.3, decoder_layers=2,
        decoder_heads=4, decoder_ffn=7,
    )  # fmt: skip
    assert encoder_settings(config) == {
        "output_size": 36,
        "attention_heads": 6,
        "linear_units": 5,
        "num_blocks": 3,
        "dropout_rate": 0.2,
        "positional_dropout_rate": 0.2,
        "attention_dropout_rate": 0.3,
        "macaron_style": True,
        "rel_pos_type": "latest",
        "cnn_module_kernel": 9,
    }
    assert decoder_settings(config) == {
        "attention_heads": 4,
        "linear_units": 7,
        "num_blocks": 2,
        "dropout_rate": 0.2,
        "positional_dropout_rate": 0.2,
    }


def test_first_weights_are_xaviers_and_biases_zero():
    torch.manual_seed(0)
    model = factory(**STILL).build()
    for name, module in model.named_modules():
        for kind, parameter in module.named_parameters(recurse=False):
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm1d)):
                assert (parameter == (1.0 if kind == "weight" else 0.0)).all(), name
            elif isinstance(module, nn.Embedding):
                assert float(parameter.detach().std()) == pytest.approx(1.0, abs=0.15), name
            elif parameter.dim() > 1:
                fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(parameter)
                bound = (6 / (fan_in + fan_out)) ** 0.5
                assert 0.8 * bound < float(parameter.detach().abs().max()) <= bound, name
            elif kind == "bias":
                assert not parameter.any(), name


def test_output_init_shrinks_the_last_map_of_every_branch_and_nothing_else():
    built = []
    for output_init in (1.0, 0.25):
        torch.manual_seed(0)
        built.append(dict(factory(**STILL, output_init=output_init).build().named_parameters()))
    shrunk = {name for name, full in built[0].items() if not torch.equal(full, built[1][name])}
    last = ("feed_forward.w_2", "feed_forward_macaron.w_2", "self_attn.linear_out", "conv_module.pointwise_conv2")
    assert shrunk == {f"encoder.encoders.{layer}.{name}.weight" for layer in range(4) for name in last}
    for name in shrunk:
        torch.testing.assert_close(built[1][name], 0.25 * built[0][name])


@pytest.mark.parametrize("mask_padding", [True, False])
def test_a_kept_layer_is_scaled_by_drop_and_branch(mask_padding):
    model = conformer(**STILL, branch_scale=0.5, mask_padding=mask_padding).eval()
    data = batch()
    state = model.front_end(data.inputs, data.input_lengths)
    given = state.x, state.positions, state.valid
    after = model.run_layer(1, state, LayerDrop(0.75, 1, [0.9]))  # kept: branches times 1 / (1 - 0.75)
    assert torch.equal(after.x, run_block(model.layer_module(1), *given, 4.0 * 0.5, mask_padding))
    plain = model.run_layer(1, state)
    assert torch.equal(plain.x, run_block(model.layer_module(1), *given, 0.5, mask_padding))
    assert (state.executed, plain.executed, model.run_layer(2, plain).executed) == (0, 1, 2)


def test_a_block_is_espnets_whatever_the_scale_of_one():
    model = conformer(**STILL).eval()
    data = batch((90, 90, 90))
    state = model.front_end(data.inputs, data.input_lengths)
    (theirs, _), _ = model.layer_module(0)((state.x, state.positions), None)
    torch.testing.assert_close(model.run_layer(0, state).x, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_input_that_is_too_short_is_padded_behind_its_end(frames):
    model = conformer(**STILL).eval()
    inputs = torch.randn(2, frames, SMALL["input_dim"])
    padded = torch.cat([inputs, torch.zeros(2, 7 - frames, SMALL["input_dim"])], 1)
    found, expected = (model.front_end(x, torch.tensor([frames, 1])) for x in (inputs, padded))
    assert torch.equal(found.x, expected.x) and not found.valid.any()


@pytest.mark.parametrize(("frames", "kept"), [(0, 0), (6, 0), (7, 1), (10, 1), (11, 2), (14, 2), (15, 3), (90, 21)])
def test_output_frames_that_see_no_padding(frames, kept):
    model = conformer(**STILL).eval()
    assert model.output_lengths([frames]) == [kept]
    if frames:
        valid = model.front_end(torch.randn(2, 100, SMALL["input_dim"]), torch.tensor([frames, 100])).valid
        assert valid.sum(1).tolist() == [kept, 24] and valid[0, :kept].all()


def test_inputs_are_augmented_in_training_only_and_never_changed_in_place():
    model = conformer(**{**STILL, "spec_augment": {"frequency_width": 9}})
    data = batch()
    kept = data.inputs.clone()
    still = [model.eval().front_end(data.inputs, data.input_lengths).x for _ in range(2)]
    moving = [model.train().front_end(data.inputs, data.input_lengths).x for _ in range(2)]
    assert torch.equal(*still) and not torch.equal(*moving)
    assert torch.equal(data.inputs, kept)


def test_what_the_decoder_reads_and_should_say():
    model, data = conformer(**STILL).eval(), batch()
    end = VOCABULARY - 1
    assert model.sos_eos == end
    assert said(data, end).tolist() == [[1, 2, 3, end], [4, 5, end, -1], [6, end, -1, -1]]
    encoded = model.encode(data.inputs, data.input_lengths)
    outputs = model.outputs(encoded, data)
    tokens = torch.tensor([[end, 1, 2, 3], [end, 4, 5, end], [end, 6, end, end]])
    theirs, _ = model.decoder(encoded.frames, encoded.lengths, tokens, torch.tensor([4, 3, 2]))
    torch.testing.assert_close(outputs.decoder_logits, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model.ctc_log_probs(encoded), outputs.ctc_logits.log_softmax(-1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_both_losses_by_hand(smoothing):
    model, data = conformer(**STILL, ctc_weight=0.4, label_smoothing=smoothing).eval(), batch()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 20, VOCABULARY, generator=generator), torch.randn(3, 4, VOCABULARY, generator=generator)
    terms = model.loss(Outputs(logits[0], torch.tensor([20, 12, 9]), logits[1]), data)
    targets = torch.nn.functional.ctc_loss
    log_probs, lengths = logits[0].log_softmax(-1).transpose(0, 1), torch.tensor([20, 12, 9])
    ctc = targets(log_probs, data.targets.clamp(min=1), lengths, data.target_lengths, reduction="sum") / 3
    attention, labels = 0.0, said(data, model.sos_eos).tolist()
    for row in range(3):
        for position, label in enumerate(labels[row]):
            if label != -1:
                smooth = torch.full((VOCABULARY,), smoothing / (VOCABULARY - 1))
                smooth[label] = 1 - smoothing
                log_q = logits[1][row, position].log_softmax(-1)
                entropy = (smooth * smooth.clamp(min=1e-30).log()).sum()
                attention += float(entropy - (smooth * log_q).sum()) / 3
    assert float(terms["ctc"]) == pytest.approx(float(ctc), rel=1e-4)
    assert float(terms["attention"]) == pytest.approx(attention, rel=1e-4)
    assert float(terms["total"]) == pytest.approx(0.6 * attention + 0.4 * float(ctc), rel=1e-4)


def test_a_batch_norm_with_hooks_is_called_with_the_real_frames():
    models = [conformer(**STILL).train() for _ in range(2)]
    data, seen = batch(), []
    models[0].layer_module(2).conv_module.norm.register_forward_hook(lambda _, given, made: seen.append(made))
    watched, plain = (model.encode(data.inputs, data.input_lengths) for model in models)
    assert [tuple(made.shape) for made in seen] == [(int(plain.lengths.sum()), SMALL["width"])]
    valid = models[0].front_end(data.inputs, data.input_lengths).valid
    torch.testing.assert_close(watched.frames[valid], plain.frames[valid], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_is_espnets(smoothing):
    logits = (3 * torch.randn(3, 5, VOCABULARY)).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (3, 5))
    targets[1, 3:], targets[2] = -1, -1
    theirs = LabelSmoothingLoss(VOCABULARY, -1, smoothing)(logits, targets)
    (expected,) = torch.autograd.grad(theirs, logits)
    ours = label_smoothing(logits, targets, smoothing)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(ours, logits)[0], expected, atol=1e-6, rtol=1e-6)


def test_bfloat16_leaves_the_table_of_positions_exact():
    model, data = conformer(**STILL).eval(), batch()
    before = model.front_end(data.inputs, data.input_lengths)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.front_end(data.inputs, data.input_lengths).positions.dtype == torch.bfloat16
    assert torch.equal(model.front_end(data.inputs, data.input_lengths).positions, before.positions)


def test_convolutions_with_hooks_and_others_in_their_place_are_called():
    """Calibration and pruning by hooks; a module that holds its weights otherwise."""
    model, data = conformer(**STILL).eval(), batch()
    expected = model.encode(data.inputs, data.input_lengths).frames
    seen = []
    part = model.layer_module(1).conv_module
    for convolution in (part.pointwise_conv1, part.depthwise_conv, part.pointwise_conv2):
        convolution.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(model.encode(data.inputs, data.input_lengths).frames, expected, atol=1e-5, rtol=0)
    assert len(seen) == 3

    class Doubled(torch.nn.Module):
        def __init__(self, convolution):
            super().__init__()
            self.convolution = convolution

        def forward(self, x):
            return 2 * self.convolution(x)

    part.pointwise_conv1 = Doubled(part.pointwise_conv1)
    assert not torch.allclose(model.encode(data.inputs, data.input_lengths).frames, expected, atol=1e-3)
