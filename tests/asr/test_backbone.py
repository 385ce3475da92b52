"""What every backbone shares: layer drop, the share of blanks, paths, weights taken from another model."""

import dataclasses

import pytest
import torch

from asr.backbones import BackboneFactory, LayerDrop, Outputs, _outline, blank_fraction
from common.errors import UserError
from tests.models import SMALL_ENCODER, STILL, batch, conformer, factory


def test_the_ramp_reaches_its_rate_at_the_last_execution():
    drop = LayerDrop(0.4, 4, [0.05, 0.25, 0.299, 0.4])
    assert [drop.probability(execution) for execution in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [drop.branch_scale(execution) for execution in range(4)] == pytest.approx([0.0, 1 / 0.8, 0.0, 1 / 0.6])


def test_uniform_drop_has_one_rate_and_scales_nothing():
    drop = LayerDrop(0.4, 4, [0.39, 0.4, 0.0, 1.0], "uniform")
    assert [drop.probability(execution) for execution in range(4)] == [0.4] * 4
    assert [drop.branch_scale(execution) for execution in range(4)] == [0.0, 1.0, 0.0, 1.0]


def test_the_share_of_skipped_executions_is_the_rate():
    generator = torch.Generator().manual_seed(0)
    drops = [LayerDrop.draw(0.5, 2, generator) for _ in range(4000)]
    skipped = [sum(drop.branch_scale(execution) == 0.0 for drop in drops) / 4000 for execution in range(2)]
    assert skipped == pytest.approx([0.25, 0.5], abs=0.03)
    kept = sum(drop.branch_scale(1) for drop in drops) / 4000
    assert kept == pytest.approx(1.0, abs=0.05), "scaled so that the mean stays"
    assert len(LayerDrop.draw(0.5, 7, generator, "uniform").draws) == 7


def test_a_model_without_layer_drop_draws_none():
    generator = torch.Generator().manual_seed(0)
    assert conformer(**STILL).draw_layer_drop(4, generator) is None
    drawn = conformer(**{**STILL, "layer_drop": 0.2}).draw_layer_drop(4, generator)
    assert (drawn.rate, drawn.depth, len(drawn.draws)) == (0.2, 4, 4)


def labelled(rows, lengths, labels=3) -> Outputs:
    return Outputs(torch.nn.functional.one_hot(torch.tensor(rows), labels).float(), torch.tensor(lengths))


def test_the_share_of_blanks_is_of_real_frames():
    rows = [[0, 0, 1, 0], [1, 2, 0, 0]]
    assert float(blank_fraction(labelled(rows, [4, 4]))) == pytest.approx(5 / 8)
    assert float(blank_fraction(labelled(rows, [3, 2]))) == pytest.approx(2 / 5)
    assert float(blank_fraction(labelled(rows, [2, 0]))) == 1.0
    assert float(blank_fraction(labelled(rows, [0, 1]))) == 0.0
    assert float(blank_fraction(labelled(rows, [1, 0]))) == 1.0
    assert float(blank_fraction(labelled(rows, [0, 0]))) == 0.0, "no frame, no blank, and no division by zero"


def test_the_share_of_blanks_takes_no_gradient():
    outputs = Outputs(torch.randn(1, 3, 4, requires_grad=True), torch.tensor([3]))
    assert not blank_fraction(outputs).requires_grad


def test_a_path_may_begin_at_a_later_layer():
    model, data, seen = conformer(**STILL).eval(), batch(), []
    run_layer = model.run_layer
    model.run_layer = lambda layer, state, drop=None: (seen.append((layer, drop)), run_layer(layer, state, drop))[1]
    drop = LayerDrop(0.0, 5, [1.0] * 5)
    state = model.run_path((2, 1, 0, 3), model.front_end(data.inputs, data.input_lengths), drop, first_layer=1)
    assert seen == [(1, drop), (3, drop), (3, drop), (3, drop)] and state.executed == 4
    seen.clear()
    model.encode(data.inputs, data.input_lengths)
    assert [layer for layer, _ in seen] == [0, 1, 2, 3]
    encoded, called = (f(data.inputs, data.input_lengths, (1, 0, 2, 0)) for f in (model.encode, model))
    assert torch.equal(encoded.frames, called.frames)


@pytest.mark.parametrize("made", [factory(), BackboneFactory("wav2vec2", SMALL_ENCODER, 32)])
def test_an_outline_draws_nothing(made):
    """Whoever asks for it first builds the same weights as who comes later."""
    _outline.cache_clear()
    before = torch.get_rng_state()
    made.outline()
    assert torch.equal(torch.get_rng_state(), before)


def test_kept_layers_come_in_the_order_that_is_asked_for():
    source, student = conformer(**STILL).eval(), conformer(seed=7, **{**STILL, "layers": 2}).eval()
    data = batch()
    student.take_weights(source, (3, 1))
    state = source.front_end(data.inputs, data.input_lengths)
    for layer in (3, 1):
        state = source.run_layer(layer, state)
    expected = source.finish(state)
    torch.testing.assert_close(student.encode(data.inputs, data.input_lengths).frames, expected.frames)
    torch.testing.assert_close(
        student.outputs(expected, data).decoder_logits, source.outputs(expected, data).decoder_logits
    )
    before = source.layer_module(3).norm_final.weight.clone()
    with torch.no_grad():
        student.layer_module(0).norm_final.weight.add_(1.0)
    assert torch.equal(source.layer_module(3).norm_final.weight, before), "copied, not shared"


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 layers are kept for a model of 2"):
        conformer(**{**STILL, "layers": 2}).take_weights(conformer(), (0, 1, 2))
    with pytest.raises(ValueError, match="another architecture: decoder"):
        conformer(**{**STILL, "layers": 2}).take_weights(conformer(**{**STILL, "decoder_layers": 2}), (0, 1))


def test_a_factory_builds_as_configured_or_changed():
    built = factory(**STILL)
    assert (built.build().layers, built.build(layers=2).layers, built.config.layers) == (4, 2, 4)
    with pytest.raises(UserError, match="did you mean 'layers'"):
        built.build(layer=2)


def test_a_batch_moves_and_its_lengths_stay():
    moved = batch().to(torch.device("meta"))
    assert moved.ids == batch().ids
    assert {moved.inputs.device.type, moved.targets.device.type} == {"meta"}
    for name in ("input_lengths", "target_lengths", "frames_needed"):
        assert torch.equal(getattr(moved, name), getattr(batch(), name))
    unlabelled = dataclasses.replace(batch(), targets=None, target_lengths=None, frames_needed=None)
    assert unlabelled.to(torch.device("meta")).targets is None
