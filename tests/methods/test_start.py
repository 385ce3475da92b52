"""Starting from a trained system with fewer layers."""

import pytest
import torch

from asr.backbones import BackboneFactory
from baselines.all_physical import AllPhysical
from common.errors import UserError
from methods.contract import TrainedSystem
from methods.shared.start import Start, kept_layers
from methods.unfolding import Unfolding
from tests.models import SMALL_ENCODER, batch, factory, small_encoder, waves

ORDER = (2, 5, 1, 4, 3)


def source(module=None, drop_order=ORDER):
    module = module or small_encoder(layers=5).eval()
    return TrainedSystem("w5", module, AllPhysical(AllPhysical.Config(), encoders(5)), drop_order)


def encoders(layers, name="wav2vec2"):
    return BackboneFactory(name, {**SMALL_ENCODER, "layers": layers}, 32)


def start(**settings):
    return {"start": {"system": "w5", **settings}}


@pytest.mark.parametrize(
    ("layers", "count", "kept"),
    [
        ("all", 5, [1, 2, 3, 4, 5]),
        ("first", 2, [1, 2]),
        ("sensitivity", 4, [1, 3, 4, 5]),
        ("sensitivity", 3, [1, 3, 4]),
        ("sensitivity", 1, [3]),
        ([2, 4], 2, [2, 4]),
    ],
)
def test_which_layers_are_kept(layers, count, kept):
    assert kept_layers(Start(system="w5", layers=layers), source(), count) == kept


@pytest.mark.parametrize("kind", [AllPhysical, Unfolding])
def test_the_module_is_the_source_at_the_path_that_leaves_layers_out(kind):
    trained = source()
    settings = start(layers="sensitivity") | ({"depth": 6} if kind is Unfolding else {})
    method = kind(kind.Config(**settings), encoders(3), {"start": trained})
    module, speech = method.build().eval(), waves()
    with torch.no_grad():
        expected = trained.module.encode(speech.inputs, speech.input_lengths, (1, 0, 1, 1, 0))
        found = module.encode(speech.inputs, speech.input_lengths)
        torch.testing.assert_close(found.frames, expected.frames, atol=1e-6, rtol=0)
        torch.testing.assert_close(module.ctc_log_probs(found), trained.module.ctc_log_probs(expected))
    before = trained.module.layer_module(0).feed_forward.output_dense.weight.clone()
    with torch.no_grad():
        module.layer_module(0).feed_forward.output_dense.weight.zero_()
    assert torch.equal(trained.module.layer_module(0).feed_forward.output_dense.weight, before), "copied, not shared"


def test_a_conformer_may_start_from_a_conformer():
    whole = AllPhysical(AllPhysical.Config(), factory())
    trained = TrainedSystem("a4", whole.build().eval(), whole)
    method = AllPhysical(
        AllPhysical.Config(start={"system": "a4", "layers": [1, 4]}), factory(layers=2), {"start": trained}
    )
    module, speech = method.build().eval(), batch()
    with torch.no_grad():
        expected = trained.module.encode(speech.inputs, speech.input_lengths, (1, 0, 0, 1)).frames
        torch.testing.assert_close(module.encode(speech.inputs, speech.input_lengths).frames, expected)


def test_start_is_needed_but_not_in_training():
    config = Unfolding.Config(**start(layers="sensitivity"))
    assert Unfolding.needs(config) == {"start": "w5"}
    assert Unfolding.needs_in_training(config) == set()
    assert Unfolding.needs(Unfolding.Config()) == {}


@pytest.mark.parametrize(
    ("settings", "count", "trained", "message"),
    [
        ({"layers": "first"}, 6, source(), "6 physical layers are asked for; 'w5' has 5"),
        ({}, 3, source(), "say which are kept with settings.start.layers"),
        ({"layers": "sensitivity"}, 3, source(drop_order=None), "sensitivity of 'w5' has not been measured"),
        ({"layers": [1, 6]}, 2, source(), r"\[1, 6\] is not 2 ascending numbers between 1 and 5"),
        ({"layers": [2, 1]}, 2, source(), r"\[2, 1\] is not"),
        ({"layers": [1, 2]}, 3, source(), r"\[1, 2\] is not 3 ascending"),
        ({"layers": "first"}, 2, source(factory().build()), "no wav2vec2 that a wav2vec2 could start from"),
        ({"layers": "first"}, 2, source(small_encoder("hubert", layers=5)), "do not fit this backbone"),
        ({"layers": "first"}, 2, source(small_encoder(layers=5, width=64)), "do not fit this backbone"),
    ],
)
def test_bad_starts(settings, count, trained, message):
    method = AllPhysical(AllPhysical.Config(**start(**settings)), encoders(count), {"start": trained})
    with pytest.raises(UserError, match=message):
        method.build()
