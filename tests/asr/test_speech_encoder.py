"""wav2vec2 and HuBERT along paths: against transformers' own models, and whatever else is in the batch."""

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertForCTC, Wav2Vec2Config, Wav2Vec2ForCTC

from asr.backbones import BackboneFactory, Batch, LayerDrop
from asr.decoding import greedy
from asr.portable.speech import base_of, with_spans_masked
from common.errors import UserError
from tests.models import SMALL_ENCODER, small_encoder, waves
from workflows.steps.host_waits import DEVICE, HostWaits

NAMES = ["wav2vec2", "hubert"]
THEIRS = {"wav2vec2": (Wav2Vec2ForCTC, Wav2Vec2Config), "hubert": (HubertForCTC, HubertConfig)}


def speech(*samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randn(count, generator=generator) for count in samples]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(samples)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [{}, {"pre_norm": True, "conv_norm": "layer", "conv_bias": True}])
def test_ones_give_the_logits_of_transformers(name, shape):
    ours = small_encoder(name, **shape).eval()
    kind, config = THEIRS[name]
    theirs = kind(config(**ours.config.transformers_settings(32))).eval()
    theirs.load_state_dict(ours.model.state_dict())
    inputs, lengths = speech(900)
    with torch.no_grad():
        found = ours.outputs(ours.encode(inputs, lengths), None).ctc_logits
        torch.testing.assert_close(found, theirs(inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_unmasked_padding_gives_the_logits_of_transformers_without_a_mask(name):
    ours = small_encoder(name, mask_padding=False).eval()
    inputs, lengths = speech(900, 500)
    with torch.no_grad():
        encoded = ours.encode(inputs, lengths)
        expected = ours.model(inputs).logits
        torch.testing.assert_close(ours.outputs(encoded, None).ctc_logits, expected, atol=1e-5, rtol=0)
    assert encoded.lengths.tolist() == [expected.size(1)] * 2


def test_a_path_runs_layers_in_place():
    """Against transformers' model with the layers copied out: 1 1 2 3 3 3."""
    ours = small_encoder("wav2vec2").eval()
    config = Wav2Vec2Config(**{**ours.config.transformers_settings(32), "num_hidden_layers": 6})
    theirs = Wav2Vec2ForCTC(config).eval()
    theirs.load_state_dict(ours.model.state_dict(), strict=False)
    for place, layer in enumerate([0, 0, 1, 2, 2, 2]):
        theirs.wav2vec2.encoder.layers[place].load_state_dict(ours.layer_module(layer).state_dict())
    inputs, lengths = speech(900)
    with torch.no_grad():
        found = ours.outputs(ours.encode(inputs, lengths, (2, 1, 3)), None).ctc_logits
        torch.testing.assert_close(found, theirs(inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_masked_spans_are_those_of_transformers(name):
    """The same draws, to the bit: time and channels, with and without padding, and spans that are given."""
    model = small_encoder(name, mask_time_prob=0.4, mask_feature_prob=0.3, mask_feature_length=4).train().model
    given = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) < 0.3
    for frames, masked in (([40, 22, 9], None), ([40, 40, 40], None), ([40, 22, 9], given)):
        frames, x = torch.tensor(frames), torch.randn(3, 40, 32)
        attention_mask = (torch.arange(40) < frames[:, None]).long()
        np.random.seed(3)
        expected = base_of(model)._mask_hidden_states(x.clone(), masked, attention_mask)
        np.random.seed(3)
        assert torch.equal(with_spans_masked(model, x, frames, masked), expected)
        assert not torch.equal(expected, x)


RANDOM = {"dropout": 0.1, "layer_drop": 0.2, "mask_time_prob": 0.3, "mask_feature_prob": 0.2, "mask_feature_length": 4}


@pytest.mark.parametrize(
    "settings",
    [
        RANDOM,
        {**RANDOM, "mask_padding": False, "ctc_reduction": "mean"},
        {**RANDOM, "pre_norm": True, "conv_norm": "layer", "checkpoint_layers": True, "freeze_feature_encoder": True},
    ],
)
def test_a_step_makes_no_host_wait_for_a_device(settings):
    with HostWaits() as host:
        model, batch = small_encoder("wav2vec2", **settings).to(DEVICE).train(), waves().to(DEVICE)
        host.waits.clear()
        drop = model.draw_layer_drop(4, torch.Generator().manual_seed(0))
        state = model.run_path((1, 1, 2), model.front_end(batch.inputs, batch.input_lengths), drop)
        model.loss(model.outputs(model.finish(state), batch), batch)["total"].backward()
    assert host.waits == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [{}, {"pre_norm": True, "conv_norm": "layer"}])
def test_an_utterance_does_not_depend_on_its_batch(name, shape):
    model = small_encoder(name, **shape).eval()
    inputs, lengths = speech(900, 500, 731)
    with torch.no_grad():
        together = model.encode(inputs, lengths, (1, 2, 2))
        for row, length in enumerate(lengths.tolist()):
            alone = model.encode(inputs[row : row + 1, :length], lengths[row : row + 1], (1, 2, 2))
            frames = int(alone.lengths)
            assert frames == int(together.lengths[row])
            torch.testing.assert_close(together.frames[row, :frames], alone.frames[0], atol=1e-5, rtol=1e-5)
    unmasked = small_encoder(name, mask_padding=False, **shape).eval()
    with torch.no_grad():
        padded = unmasked.encode(inputs, lengths).frames[1, :30]
        alone = unmasked.encode(inputs[1:2, :500], lengths[1:2]).frames[0, :30]
    assert (padded - alone).abs().max() > 1e-3, "padding does matter without the mask: the test can see it"


def test_eager_attention_gives_the_same():
    model = small_encoder("wav2vec2").eval()
    inputs, lengths = speech(900, 500)
    with torch.no_grad():
        fused = model.encode(inputs, lengths).frames
        with model.eager_attention():
            eager = model.encode(inputs, lengths).frames
    torch.testing.assert_close(fused[0], eager[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fused[1, :30], eager[1, :30], atol=1e-5, rtol=1e-5)
    assert model.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("layers", "parameters"),
    [(12, 94396320), (10, 80220576), (8, 66044832), (6, 51869088), (4, 37693344), (3, 30605472), (2, 23517600)],
)
def test_sizes_are_the_papers(name, layers, parameters):
    with torch.device("meta"):
        model = BackboneFactory(name, {"layers": layers}, 32).build()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_too_short_for_one_frame():
    """One frame of the small encoder needs 32 samples; less gives no frames and no words, and disturbs nobody."""
    model = small_encoder("wav2vec2").eval()
    shortest = next(count for count in range(1, 999) if model.output_lengths([count]) == [1])
    inputs, lengths = speech(900, shortest - 1)
    with torch.no_grad():
        together = model.encode(inputs, lengths)
        alone = model.encode(inputs[1:, : shortest - 1], lengths[1:])
        words = greedy(model.ctc_log_probs(together), together.lengths)
        torch.testing.assert_close(
            together.frames[0], model.encode(inputs[:1], lengths[:1]).frames[0], atol=1e-5, rtol=0
        )
    assert together.lengths.tolist()[1] == 0 and alone.lengths.tolist() == [0]
    assert words[1] == [] and torch.isfinite(together.frames).all()


def test_output_lengths_are_those_of_the_model():
    model = small_encoder("wav2vec2").eval()
    for samples in (32, 33, 333, 900):
        inputs, lengths = speech(samples)
        with torch.no_grad():
            assert model.output_lengths([samples]) == [model.encode(inputs, lengths).frames.size(1)]


def test_uniform_layer_drop_skips_and_scales_nothing():
    model = small_encoder("wav2vec2").train()
    state = model.front_end(*speech(900))
    dropped = model.run_layer(0, state, LayerDrop(0.5, 4, [0.4] * 4, "uniform"))
    assert torch.equal(dropped.x, state.x) and dropped.executed == 1
    drop = LayerDrop(0.1, 12, [0.5] * 12, "uniform")
    assert [drop.probability(each) for each in (0, 11)] == [0.1, 0.1]
    assert drop.branch_scale(0) == drop.branch_scale(11) == 1.0


def test_checkpointing_changes_memory_only():
    gradients = []
    for checkpoint_layers in (False, True):
        model = small_encoder("wav2vec2", checkpoint_layers=checkpoint_layers).train()
        torch.manual_seed(0)
        np.random.seed(0)  # transformers draws masked spans from it
        inputs, lengths = speech(900, 500)
        targets, target_lengths = torch.tensor([[5, 6], [7, -1]]), torch.tensor([2, 1])
        batch = Batch(("a", "b"), inputs, lengths, targets, target_lengths)
        loss = model.loss(model.outputs(model.encode(inputs, lengths, (1, 2, 2)), batch), batch)["total"]
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 40
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-5, rtol=1e-4)


def test_a_frozen_feature_encoder_gets_no_gradient():
    for freeze in (False, True):
        model = small_encoder("wav2vec2", freeze_feature_encoder=freeze).train()
        inputs, lengths = speech(900)
        batch = Batch(("a",), inputs, lengths, torch.tensor([[5, 6]]), torch.tensor([2]))
        model.loss(model.outputs(model.encode(inputs, lengths), batch), batch)["total"].backward()
        convolutions = model.model.wav2vec2.feature_extractor.conv_layers
        assert (convolutions[0].conv.weight.grad is None) == freeze
        assert model.layer_module(0).feed_forward.output_dense.weight.grad.abs().sum() > 0


def test_ctc_loss_by_hand():
    """One frame, one letter: the loss is minus the logarithm of the letter's probability; `sum` adds utterances."""
    model = small_encoder("wav2vec2").eval()
    inputs, lengths = speech(33, 33)
    batch = Batch(("a", "b"), inputs, lengths, torch.tensor([[5], [9]]), torch.tensor([1, 1]))
    with torch.no_grad():
        encoded = model.encode(inputs, lengths)
        log_probs = model.ctc_log_probs(encoded)
        assert log_probs.size(1) == 1
        loss = model.loss(model.outputs(encoded, batch), batch)
    assert float(loss["total"]) == pytest.approx(-float(log_probs[0, 0, 5] + log_probs[1, 0, 9]), rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_ctc_is_reduced_as_torch_does_it(reduction):
    model, batch = small_encoder("wav2vec2", ctc_reduction=reduction).eval(), waves()
    with torch.no_grad():
        outputs = model.outputs(model.encode(batch.inputs, batch.input_lengths), batch)
        found = model.loss(outputs, batch)["ctc"]
        log_probs = outputs.ctc_logits.log_softmax(-1).transpose(0, 1)
        labels = batch.targets.clamp(min=0)
        expected = torch.nn.functional.ctc_loss(
            log_probs, labels, outputs.lengths, batch.target_lengths, reduction=reduction
        )
    torch.testing.assert_close(found, expected)


def test_take_weights_of_the_kept_layers():
    source, target = small_encoder("wav2vec2", layers=5), small_encoder("wav2vec2", seed=2, layers=3)
    target.take_weights(source, [0, 2, 4])
    inputs, lengths = speech(900)
    with torch.no_grad():
        expected = source.eval().encode(inputs, lengths, (1, 0, 1, 0, 1)).frames
        torch.testing.assert_close(target.eval().encode(inputs, lengths).frames, expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="2 layers are kept for a model of 3"):
        target.take_weights(source, [0, 1])


def test_beam_search_is_refused():
    with pytest.raises(UserError, match="needs an attention decoder"):
        small_encoder("hubert").scorers()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30}, "width 30 is not a multiple of heads 4"),
        ({"positional_groups": 5}, "positional_groups 5"),
        ({"conv_dim": [8, 8]}, "differ in length"),
        ({"layer": 3}, "layer"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        BackboneFactory("wav2vec2", {**SMALL_ENCODER, **settings}, 32).build()
