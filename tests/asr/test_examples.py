"""A large set takes little memory where it is trained on, and none where it is read."""

import itertools
import tracemalloc
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from asr.batches import SpeechSet
from asr.corpora import Utterance
from asr.examples import Example, Examples
from asr.features import WaveformExtractor, as_they_are


def made(utterances):
    """Examples of so many utterances at three speeds."""
    for number in range(utterances):
        name, text = f"speaker{number % 9}-{number:06d}", f"some words, the {number}th of those that were said"
        utterance = Utterance(name, Path(f"/corpus/audio/{name}.flac"), 16000, 1.0, name.split("-")[0], text)
        for speed in (0.9, 1.0, 1.1):
            yield Example(utterance, speed, 1000 + number % 50, tuple(range(number % 40)))


def speech_set(utterances):
    return SpeechSet(made(utterances), WaveformExtractor(16000), as_they_are)


def test_examples_come_out_as_they_went_in():
    examples, expected = Examples(made(30)), list(made(30))
    assert len(examples) == 90 and list(examples) == expected and examples[-1] == expected[-1]
    assert examples.frames.tolist() == [each.frames for each in expected]
    assert examples.needed.tolist() == [max(1, len(each.tokens)) for each in expected]
    assert list(examples.take([5, 2])) == [expected[5], expected[2]] and len(examples.take([])) == 0
    assert list(examples.take(np.arange(90) % 2 == 1)) == expected[1::2]
    with pytest.raises(IndexError):
        examples[90]
    assert list(Examples([Example(expected[0].utterance, 1.0, 7, None)])) == [
        Example(expected[0].utterance, 1.0, 7, None)
    ]


def held(make):
    """Bytes that a thing takes for as long as it is there."""
    tracemalloc.start()
    thing = make()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del thing
    return size


def test_an_example_more_takes_a_few_numbers():
    def bytes_each(make):
        return (held(lambda: make(900)) - held(lambda: make(300))) / 1800

    def in_the_second_epoch(utterances):
        order = speech_set(utterances).order(10.0, 4)
        stream = order.endless(len(order.epoch(0)))
        return order, stream, next(stream)

    assert bytes_each(speech_set) < 50
    assert bytes_each(in_the_second_epoch) < 120
    assert bytes_each(lambda utterances: list(made(utterances))) > 300, "as a list they take more"


def test_epochs_leave_nothing_behind():
    def after(epochs):
        order = speech_set(200).order(10.0, 4)
        count = len(order.epoch(0))
        stream = order.endless()
        assert sum(map(len, itertools.islice(stream, count * epochs))) == 600 * epochs
        return order, stream

    assert held(lambda: after(4)) < 1.1 * held(lambda: after(1))


def test_what_a_worker_is_given_does_not_grow_with_the_set():
    small, large = (len(ForkingPickler.dumps(speech_set(utterances).reader)) for utterances in (10, 1000))
    assert abs(small - large) < 20 and small < 2000
    assert len(ForkingPickler.dumps(speech_set(1000).examples.wanted(range(20)))) < 4000
