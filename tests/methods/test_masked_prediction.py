"""HuBERT's objective: clusters, masks, the loss, and that it learns."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from asr.backbones import BackboneFactory
from asr.clusters import difference
from asr.settings import TrainingSettings
from baselines.masked_prediction import MaskedPrediction, Pretraining, masked_spans
from common.errors import UserError
from methods.contract import Step
from tests.models import SMALL_ENCODER, waves

TRAINING = TrainingSettings(steps=4, schedule={"kind": "linear", "warmup_steps": 1})
QUIET = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layer_drop": 0.0, "sampling_rate": 8000}


def tones(lengths=(2400, 2000, 1800), seed=0):
    """Tones of two pitches in turn, each 200 samples: what is masked can be told from its neighbours."""
    generator = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        pitch = np.where((np.arange(length) // 200 + generator.integers(2)) % 2, 500.0, 2000.0)
        rows.append(torch.tensor(np.sin(2 * np.pi * pitch * np.arange(length) / 8000), dtype=torch.float32))
    unlabelled = waves(lengths)
    inputs = torch.nn.utils.rnn.pad_sequence([(row - row.mean()) / row.std() for row in rows], batch_first=True)
    return type(unlabelled)(unlabelled.ids, inputs, unlabelled.input_lengths)


def method(**settings):
    config = MaskedPrediction.Config(**{"clusters": 4, "projection": 16, "span": 5, **settings})
    return MaskedPrediction(config, BackboneFactory("wav2vec2", {**SMALL_ENCODER, **QUIET}, 32))


def begun(made, seed=0):
    torch.manual_seed(seed)
    np.random.seed(seed)
    return made.begin_stage(made.build(), made.stages(TRAINING)[0], iter([tones(seed=1), tones(seed=2)]))


def test_labels_agree_with_the_encoder_in_number_and_tell_tones_apart():
    module, speech = begun(method()), tones()
    labels = module.clusters(speech.inputs, speech.input_lengths)
    counts = module.backbone.output_lengths(speech.input_lengths.tolist())
    assert labels.shape == (3, module.backbone.encode(speech.inputs, speech.input_lengths).frames.size(1))
    assert counts[0] == labels.size(1)
    middle = [labels[0, start + 4 : start + 9].mode().values.item() for start in range(0, 140, 12)]
    assert len(set(middle[::2])) <= 3 and set(middle[:1]) != set(middle[1:2])


def test_labels_of_an_utterance_do_not_depend_on_its_batch():
    """Alone and padded beside others, to the last frame; an utterance of one frame, and one without any, among them."""
    module = begun(method(clusters=30))
    lengths = (2400, 2395, 2000, 1799, 400, module.clusters.seen, module.clusters.seen - 1)
    speech = waves(lengths, targets=((1,),) * len(lengths))
    counts = module.backbone.output_lengths(lengths)
    assert counts[-2:] == [1, 0]
    labels = module.clusters(speech.inputs, speech.input_lengths)
    features = module.clusters.features(speech.inputs, speech.input_lengths)
    found = set()
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        alone = speech.inputs[row : row + 1, :length], torch.tensor([length])
        assert torch.equal(labels[row, :count], module.clusters(*alone)[0, :count])
        torch.testing.assert_close(features[row, :count], module.clusters.features(*alone)[0, :count])
        found |= set(labels[row, :count].tolist())
    assert len(found) > 10


def test_differences_by_hand():
    """Half of what the next frame has more than the last; the first and the last of each utterance stand for those that
    are not there."""
    frames = torch.tensor([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 4.0, 100.0]])[:, :, None]
    found = difference(frames, torch.tensor([4, 3]))[:, :, 0]
    assert found[0].tolist() == [0.5, 1.5, 3.0, 2.0] and found[1, :3].tolist() == [0.5, 1.5, 1.0]


def test_begin_stage_is_a_function_of_its_seed():
    made = method()
    first, second, other = begun(made), begun(made), begun(made, seed=1)
    assert torch.equal(first.clusters.centroids, second.clusters.centroids)
    assert not torch.equal(first.clusters.centroids, other.clusters.centroids)


def test_masked_spans():
    masked = masked_spans([50, 20, 3], 50, 0.5, 5, torch.Generator().manual_seed(0))
    assert masked.shape == (3, 50)
    assert not masked[1, 20:].any() and not masked[2, 3:].any()
    # 5, 2 and 1 spans of 5 frames: at most so many, and at least one span.
    assert 5 <= masked[0].sum() <= 25 and 5 <= masked[1].sum() <= 10 and 1 <= masked[2].sum() <= 3
    again = masked_spans([50, 20, 3], 50, 0.5, 5, torch.Generator().manual_seed(0))
    assert torch.equal(masked, again)


def test_the_loss_by_hand():
    """Cross-entropy of the cosine similarities over 0.1, averaged over the masked frames."""
    made = method(unmasked_weight=0.5)
    module, speech, step = begun(made).eval(), tones(), Step("pretrain", 3, 0, training=False)
    with torch.no_grad():
        terms = made.losses(module, speech, step)
        counts = module.backbone.output_lengths(speech.input_lengths.tolist())
        masked = masked_spans(counts, max(counts), 0.8, 5, step.generator("mask"))
        state = module.backbone.front_end(speech.inputs, speech.input_lengths, masked)
        frames = module.backbone.finish(module.backbone.run_path((1, 1, 1), state)).frames
        labels = module.clusters(speech.inputs, speech.input_lengths)
        losses = {True: [], False: []}
        for row, column in ((r, c) for r in range(3) for c in range(counts[r])):
            found = module.projection(frames[row, column])
            similarity = torch.stack([F.cosine_similarity(found, each, dim=0) for each in module.embeddings]) / 0.1
            value = float(torch.logsumexp(similarity, 0) - similarity[labels[row, column]])
            losses[bool(masked[row, column])].append(value)
    assert float(terms["masked"]) == pytest.approx(np.mean(losses[True]), rel=1e-4)
    assert float(terms["unmasked"]) == pytest.approx(np.mean(losses[False]), rel=1e-4)
    assert float(terms["total"]) == pytest.approx(np.mean(losses[True]) + 0.5 * np.mean(losses[False]), rel=1e-4)


def test_the_dev_set_is_masked_alike_at_every_validation():
    """Each of its batches otherwise; training batches are masked anew in each step and micro-batch."""
    made = method()
    module = begun(made).eval()

    def loss(**step):
        return float(made.losses(module, tones(), Step(stage="pretrain", seed=0, **step))["total"].detach())

    first = loss(index=3, training=False)
    assert loss(index=800, training=False) == first != loss(index=3, training=False, micro_batch=1)
    assert len({loss(index=3), loss(index=4), loss(index=3, micro_batch=1), loss(index=3, rank=1)}) == 4


def test_masked_frames_are_hidden_from_the_encoder():
    """What lies under a mask changes nothing but what the convolutions let through to frames beside it."""
    module, speech = begun(method()).eval(), tones((2400,))
    masked = torch.zeros(1, 149, dtype=torch.bool)
    masked[0, 40:60] = True
    changed = speech.inputs.clone()
    changed[0, 45 * 16 : 55 * 16] = 0.0
    with torch.no_grad():
        for norm in module.backbone.model.wav2vec2.feature_extractor.conv_layers[0].layer_norm.parameters():
            norm.zero_()  # its statistics are over the whole utterance and would tell
        before = module.backbone.front_end(speech.inputs, speech.input_lengths, masked).x
        after = module.backbone.front_end(changed, speech.input_lengths, masked).x
    torch.testing.assert_close(before, after)


def test_it_learns_and_leaves_an_encoder():
    made = method(masked_share=0.3)
    module = begun(made).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    first = None
    for index in range(60):
        terms = made.losses(module, tones(seed=index % 4), Step("pretrain", index, 0))
        terms["total"].backward()
        optimiser.step()
        optimiser.zero_grad()
        first = first or float(terms["masked"].detach())
    assert float(terms["masked"].detach()) < min(0.8 * math.log(4), first)
    encoder = made.finish(module, [])
    assert encoder is module.backbone and made.points(encoder) == []
    assert made.architecture(module) == {"pretraining": True} and made.architecture(encoder) == {"pretraining": False}
    assert isinstance(made.rebuild({"pretraining": True}), Pretraining)
    made.rebuild({"pretraining": False}).load_state_dict(encoder.state_dict())


def test_too_little_speech_for_the_clusters():
    with pytest.raises(UserError, match="settings.clusters: 200 clusters need at least 2000 frames"):
        begun(method(clusters=200))
