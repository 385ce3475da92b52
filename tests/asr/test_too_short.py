"""An utterance too short for its labels is an error that names it, in the losses of every backbone."""

import dataclasses
import math

import pytest
import torch

from asr.backbones import Outputs, check_frames, frames_needed
from common.errors import UserError
from tests.models import STILL, batch, conformer, small_encoder, waves

MODELS = {
    "conformer": (lambda: conformer(**STILL), batch),
    "wav2vec2": (lambda: small_encoder("wav2vec2"), waves),
    "hubert": (lambda: small_encoder("hubert"), waves),
}


def outputs_of(name, frames, targets):
    """The model's outputs for three utterances, cut to so many frames as a method that shortens them would."""
    make, data = MODELS[name]
    model, speech = make().eval(), data(targets=targets)
    whole = model.outputs(model.encode(speech.inputs, speech.input_lengths), speech)
    cut = dataclasses.replace(whole, ctc_logits=whole.ctc_logits[:, : max(frames)], lengths=torch.tensor(frames))
    return model, speech, cut


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("labels", "needed"), [((5, 6, 7), 3), ((5, 5, 6), 4), ((5, 5, 5), 5), ((5, 6, 5, 6), 4), ((5,), 1)]
)
def test_what_ctc_needs_is_enough_and_one_frame_less_is_said(name, labels, needed):
    targets = ((5, 6), labels, (7, 7))
    model, speech, outputs = outputs_of(name, [3, needed, 3], targets)
    assert math.isfinite(float(model.loss(outputs, speech)["total"].detach()))
    model, speech, outputs = outputs_of(name, [3, needed - 1, 3], targets)
    message = f"utterance s-1: {needed - 1} frames are left of it, and CTC needs {needed} for its {len(labels)} labels"
    with pytest.raises(UserError, match=message):
        model.loss(outputs, speech)


def test_the_rule_is_that_of_ctc():
    """A loss is infinite exactly where the rule says so."""
    for labels in ((1, 2, 3), (1, 1, 2), (1, 1, 1), (2, 1, 2, 1, 1), (3,)):
        speech = batch(lengths=(40,), targets=(labels,))
        for frames in range(1, 10):
            logits = torch.randn(1, frames, 5, generator=torch.Generator().manual_seed(frames))
            loss = torch.nn.functional.ctc_loss(
                logits.log_softmax(-1).transpose(0, 1), speech.targets, torch.tensor([frames]), speech.target_lengths
            )
            assert bool(torch.isfinite(loss)) == (frames >= frames_needed(labels))
            if not torch.isfinite(loss):
                with pytest.raises(UserError, match=f"s-0: {frames} frames"):
                    check_frames(Outputs(logits, torch.tensor([frames])).lengths, speech)


def test_no_frame_at_all_is_too_few():
    with pytest.raises(UserError, match="utterance s-0: 0 frames are left of it, and CTC needs 1"):
        check_frames(torch.tensor([0]), batch(lengths=(5,), targets=((1,),)))


def test_of_several_the_first_is_named():
    model, speech, outputs = outputs_of("conformer", [1, 3, 1], ((5, 6), (5, 6), (7, 7)))
    with pytest.raises(UserError, match="utterance s-0: 1 frames are left of it, and CTC needs 2"):
        model.loss(outputs, speech)
