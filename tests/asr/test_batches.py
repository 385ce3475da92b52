"""Batches worked out by hand: which examples, in which order, padded with what."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.batches import BatchOrder, SpeechSet, padded_frames
from asr.corpora import Utterance
from asr.examples import Example
from asr.features import FeatureExtractor, WaveformExtractor, as_they_are, perturb_speed
from asr.settings import FeatureSettings

CPU = torch.device("cpu")
RATE = 8000


def test_a_padded_batch_holds_no_more_than_its_frames():
    assert BatchOrder([3, 1, 2, 2, 5], 6, 1, 0).in_order() == [[1, 2, 3], [0], [4]]  # 3 * 2, then 3, then 5 frames
    assert BatchOrder([3, 1, 2, 2, 5], 5.9, 1, 0).in_order() == [[1, 2], [3], [0], [4]]
    assert BatchOrder([3, 1, 2, 2, 5], 10, 1, 0).in_order() == [[1, 2, 3], [0, 4]]
    assert BatchOrder([9, 9, 1], 6, 1, 0).in_order() == [[2], [0], [1]]  # one that is longer stands alone


def test_a_batch_of_so_many_utterances():
    assert BatchOrder([3, 1, 2, 2, 5], 1, 1, 0, batch_utterances=2).in_order() == [[1, 2], [3, 0], [4]]
    assert BatchOrder([3, 1, 2], 100, 1, 0, batch_utterances=1).in_order() == [[1], [2], [0]]


def test_the_largest_batch_counts_padding_and_is_the_last_of_equals():
    assert BatchOrder([1, 1, 1, 1, 5], 5, 1, 0).largest() == [4]  # batches of 4 and 5 frames
    assert BatchOrder([2, 2, 2, 6], 6, 1, 0).largest() == [3]
    assert BatchOrder([1, 4, 4, 6], 8, 1, 0).largest() == [0, 1]  # 2 * 4 frames; the others hold 4 and 6


def test_padding_to_a_multiple_counts():
    order = BatchOrder([3, 1, 2, 2, 5], 8, 1, 0, multiple=4)
    assert order.in_order() == [[1, 2], [3, 0], [4]]  # 4 frames each, then 8
    assert [order.size(batch) for batch in order.in_order()] == [8, 8, 8] and order.largest() == [4]
    assert [padded_frames(longest, 4) for longest in (1, 4, 5, 8)] == [4, 4, 8, 8]


def test_buckets_are_of_like_length_and_no_batch_mixes_them():
    frames = [50, 10, 40, 20, 30, 60, 70]
    order = BatchOrder(frames, 1000, 3, 0)  # 7 examples: buckets of 3, 3 and 1
    assert [bucket.tolist() for bucket in order.buckets] == [[1, 3, 4], [2, 0, 5], [6]]
    for epoch in range(5):
        assert sorted(map(sorted, order.epoch(epoch))) == [[0, 2, 5], [1, 3, 4], [6]]
    assert [bucket.tolist() for bucket in BatchOrder([1, 2], 1000, 10, 0).buckets] == [[0], [1]]


def test_an_epoch_is_shuffled_within_buckets_and_across_batches():
    order = BatchOrder([1] * 12, 4, 1, 0)
    epochs = [order.epoch(number) for number in range(20)]
    assert len({tuple(map(tuple, epoch)) for epoch in epochs}) == 20
    members = {frozenset(batch) for epoch in epochs for batch in epoch}
    assert len(members) > 20, "the same examples do not always meet"
    graded = BatchOrder([1] * 4 + [2] * 4, 100, 2, 0)
    assert {len({graded.frames[i] for i in epoch[0]}) for epoch in map(graded.epoch, range(9))} == {1}
    assert {graded.frames[graded.epoch(number)[0][0]] for number in range(20)} == {1, 2}, "the longer come first, too"


def first(stream, count):
    return list(itertools.islice(stream, count))


def test_a_stream_goes_from_epoch_to_epoch_and_begins_anywhere():
    order = BatchOrder([1] * 10, 2, 1, 0)  # 5 batches
    epochs = [batch for number in range(4) for batch in order.epoch(number)]
    assert first(order.endless(), 20) == epochs
    for start in (1, 4, 5, 6, 10, 13):
        assert first(order.endless(start), 20 - start) == epochs[start:]


def test_devices_take_turns_and_get_equally_many():
    order = BatchOrder([1] * 10, 2, 1, 0)  # 5 batches for two devices: the fifth is left out
    epochs = [order.epoch(number) for number in range(3)]
    assert first(order.endless(0, 0, 2), 5) == [*epochs[0][0:4:2], *epochs[1][0:4:2], epochs[2][0]]
    assert first(order.endless(0, 1, 2), 5) == [*epochs[0][1:4:2], *epochs[1][1:4:2], epochs[2][1]]
    assert first(order.endless(3, 1, 2), 2) == [epochs[1][3], epochs[2][1]]
    single = BatchOrder([1] * 2, 2, 1, 0)  # one batch for two devices: both take it
    for rank in range(2):
        assert first(single.endless(0, rank, 2), 2) == [single.epoch(0)[0], single.epoch(1)[0]]


@pytest.fixture
def spoken(tmp_path) -> list[Example]:
    """Three utterances of 100, 50 and 25 ms, the last at 1.25 times the speed, in one file."""
    samples = np.random.default_rng(0).normal(0, 0.1, 1400).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    parts = [(0.0, 0.1, 1.0, (5, 6)), (0.1, 0.05, 1.0, ()), (0.15, 0.025, 1.25, (7,))]
    return [
        Example(Utterance(f"s-{n}", tmp_path / "a.wav", RATE, seconds, "s", "", start), speed, samples, tokens)
        for n, ((start, seconds, speed, tokens), samples) in enumerate(zip(parts, (800, 400, 160), strict=True))
    ]


def test_a_batch_of_waveforms(spoken):
    samples, _ = soundfile.read(spoken[0].utterance.audio, dtype="float32")
    speech = SpeechSet(spoken, WaveformExtractor(RATE), lambda features: 2 * features)
    assert len(speech) == 3
    batch = speech.batch([2, 0, 1], CPU)
    rows = [perturb_speed(samples[1200:1400], RATE, 1.25), samples[:800], samples[800:1200]]
    assert batch.ids == ("s-2", "s-0", "s-1")
    assert batch.input_lengths.tolist() == [len(row) for row in rows] == [160, 800, 400]
    assert batch.inputs.shape == (3, 800)
    for found, row in zip(batch.inputs.numpy(), rows, strict=True):
        np.testing.assert_allclose(found[: len(row)], 2 * (row - row.mean()) / row.std(), atol=1e-3)
        assert not found[len(row) :].any()
    assert batch.targets.tolist() == [[7, -1], [5, 6], [-1, -1]] and batch.target_lengths.tolist() == [1, 2, 0]


def test_a_batch_without_labels(spoken):
    speech = SpeechSet(spoken, WaveformExtractor(RATE), as_they_are)
    assert speech.batch([0], CPU, labelled=False).targets is None
    spoken[1] = Example(spoken[1].utterance, 1.0, 400, None)
    speech = SpeechSet(spoken, WaveformExtractor(RATE), as_they_are)
    assert speech.batch([0, 1], CPU).targets is None and speech.batch([0, 2], CPU).targets is not None


def test_stored_features_are_those_of_the_utterance_at_its_speed(spoken, tmp_path):
    features = np.arange(60, dtype=np.float32).reshape(12, 5)
    np.save(tmp_path / "store.npy", features)
    places = [["s-0", 1.0, 0, 5], ["s-2", 1.0, 5, 3], ["s-2", 1.25, 8, 2]]
    (tmp_path / "store.json").write_text(json.dumps({"utterances": places}))
    extractor = FeatureExtractor(FeatureSettings(mels=5), RATE)
    lengths = (5, 0, 2)
    examples = [dataclasses.replace(each, frames=n) for each, n in zip(spoken, lengths, strict=True)]
    speech = SpeechSet(examples, extractor, lambda f: f + 1, tmp_path / "store")
    batch = speech.batch([2, 0], CPU)
    assert batch.input_lengths.tolist() == [2, 5]
    np.testing.assert_array_equal(batch.inputs[1].numpy(), features[:5] + 1)
    np.testing.assert_array_equal(batch.inputs[0, :2].numpy(), features[8:10] + 1)
    assert batch.inputs.shape == (2, 5, 5) and not batch.inputs[0, 2:].any()


def test_seconds_of_a_batch_become_frames():
    extractor = FeatureExtractor(FeatureSettings(mels=20), RATE)
    examples = [Example(Utterance(f"s-{n}", Path("none"), RATE, 1.0, "s", ""), 1.0, 100, ()) for n in range(7)]
    speech = SpeechSet(examples, extractor, as_they_are)
    assert [len(batch) for batch in speech.order(3.0).in_order()] == [3, 3, 1]
    assert [len(batch) for batch in speech.order(2.99).in_order()] == [2, 2, 2, 1]
    assert [len(batch) for batch in speech.order(3.0, batch_utterances=4).in_order()] == [4, 3]
    assert (
        speech.order(3.0).buckets[0].tolist() == [0, 1, 2, 3, 4, 5, 6]
        and len(speech.order(3.0, buckets=2).buckets) == 2
    )
    assert speech.order(3.0, seed=1).epoch(0) != speech.order(3.0).epoch(0) == speech.order(3.0, seed=0).epoch(0)
