"""Batches read ahead by real processes: the same to the bit, the same errors, and none that hangs."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import soundfile
import torch

from asr.batches import SpeechSet
from asr.corpora import Utterance
from asr.examples import Example
from asr.features import FeatureExtractor, Normaliser, WaveformExtractor, as_they_are, perturbed_samples
from asr.loader import load
from asr.settings import FeatureSettings, TrainingSettings
from common.errors import UserError
from workflows.steps.host_waits import DEVICE, HostWaits

CPU = torch.device("cpu")
RATE = 8000
NORMALISER = Normaliser(np.linspace(-9, -5, 20, dtype=np.float32), np.linspace(1, 3, 20, dtype=np.float32))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Twenty utterances of different lengths at three speeds, in FLAC."""
    folder, generator, made = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0), []
    for number in range(20):
        samples = int(generator.integers(2000, 6000))
        path = folder / f"{number}.flac"
        soundfile.write(path, generator.normal(0, 0.1, samples), RATE)
        utterance = Utterance(f"s-{number}", path, RATE, samples / RATE, "s", "x")
        made += [(utterance, speed, perturbed_samples(samples, RATE, speed), (number, 1)) for speed in (0.9, 1.0, 1.1)]
    return made


def speech_set(examples, kind="log_mel", **settings):
    extractor = FeatureExtractor(FeatureSettings(mels=20), RATE) if kind == "log_mel" else WaveformExtractor(RATE)
    rows = [Example(each, speed, extractor.frames(samples), tokens) for each, speed, samples, tokens in examples]
    return SpeechSet(rows, extractor, NORMALISER if kind == "log_mel" else as_they_are, **settings)


def training(**settings):
    return TrainingSettings(steps=1, tensorboard=False, **settings)


def stream(speech, start, count, **settings):
    """So many batches of an endless order, from one on."""
    batches = load(speech, speech.order(3.0, 2, 5).endless(start), CPU, True, training(**settings))
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("kind", ["log_mel", "waveform"])
def test_batches_are_the_same_whoever_reads_them(examples, kind):
    """Over the end of an epoch, begun at the first batch or in the middle, by no, one or three workers, whatever the
    number of threads."""
    speech = speech_set(examples, kind)
    epoch = len(speech.order(3.0, 2, 5).epoch(0))
    expected = stream(speech, 0, epoch + 3)
    indices = [index for batch in speech.order(3.0, 2, 5).epoch(0) for index in batch]
    assert [each for batch in expected[:epoch] for each in batch.ids] == [examples[i][0].id for i in indices]
    torch.set_num_threads(2)
    try:
        found = [(0, stream(speech, 0, epoch + 3)), (epoch // 2, stream(speech, epoch // 2, 5, workers=1))]
    finally:
        torch.set_num_threads(1)
    found += [(start, stream(speech, start, 5, workers=3, prefetch=1)) for start in (0, epoch - 2)]
    for start, batches in found:
        for ours, batch in zip(batches, expected[start:], strict=False):
            assert ours.ids == batch.ids
            for name in ("inputs", "input_lengths", "targets", "target_lengths"):
                assert torch.equal(getattr(ours, name), getattr(batch, name))


@pytest.mark.parametrize("features_on", ["device", "workers"])
def test_no_batch_waits_for_a_gpu(examples, features_on):
    """On a pretended one, from the second batch on: the first one moves filters and statistics there. Features that the
    device makes of padded waveforms are those of the utterances, with zeros behind them. What a worker is given stays
    on the host, or each would have a context of the GPU."""
    speech = speech_set(examples, pad_to_seconds=0.32)
    batches = speech.order(3.0).in_order()
    expected = [speech.batch(indices, CPU) for indices in batches]
    with HostWaits() as host:
        found = load(speech, batches, DEVICE, True, training(features_on=features_on))
        for number, batch in enumerate(expected):
            made = next(found)
            assert host.waits == [] or number == 0
            host.waits.clear()
            assert made.inputs.device == made.targets.device == DEVICE and made.input_lengths.device == CPU
            torch.testing.assert_close(made.inputs.numbers, batch.inputs, atol=1e-4, rtol=0)
            assert torch.equal(made.input_lengths, batch.input_lengths) and batch.inputs.size(1) % 32 == 0
            assert all(not row[length:].any() for row, length in zip(batch.inputs, batch.input_lengths, strict=True))
    assert len(expected) > 3
    held = [*speech.extractor.layer.parameters(), *speech.extractor.layer.buffers()]
    assert held and all(each.device == CPU for each in held)


def test_a_worker_computes_with_one_thread_and_leaves_random_numbers_alone(examples):
    speech = speech_set(examples)
    speech.reader.extractor, speech.reader.normaliser = Watched(speech.extractor), as_they_are
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    batches = load(speech, [[0], [1]], CPU, True, training(workers=2))
    threads, cuda, parent, child = next(batches).inputs[0, 0, :4].tolist()
    assert (threads, cuda) == (1, 0) and len({parent, child, os.getpid()}) == 3
    batches.close()
    assert torch.equal(torch.rand(4), expected)


class Watched:
    """In place of features: what the process is that makes them."""

    def __init__(self, extractor):
        self.extractor = extractor

    def frames(self, samples):
        return self.extractor.frames(samples)

    def __call__(self, waveforms, lengths):
        about = [torch.get_num_threads(), int(torch.cuda.is_initialized()), os.getppid(), os.getpid()]
        frames = self.frames(waveforms.size(1))
        return torch.tensor(about * 5).repeat(1, frames, 1).double(), torch.tensor([frames])


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_wrong_with_an_utterance_is_said_in_the_same_line(examples, tmp_path, workers):
    broken, text = tmp_path / "broken.flac", tmp_path / "text.flac"
    broken.write_bytes(examples[0][0].audio.read_bytes()[:1500])
    text.write_text("no audio")
    damaged = [
        (broken, 4000, rf"{broken}: utterance s-0: the file is truncated \(\d+ of 4000 samples\); "),
        (text, 4000, rf"{text}: utterance s-0: not an audio file that can be read"),
        (tmp_path / "none.flac", 4000, r"none\.flac: utterance s-0: there is no such audio file"),
        (examples[0][0].audio, 1600, r"0\.flac: utterance s-0 at speed 1 gives 18 frames, not 22 as its length says"),
    ]
    for path, samples, message in damaged:
        utterance = Utterance("s-0", path, RATE, samples / RATE, "s", "x")
        speech = speech_set([*examples, (utterance, 1.0, samples + 300 * (samples == 1600), (1,))])
        batches = load(speech, [[0], [len(examples), 2], [1]], CPU, True, training(workers=workers))
        assert next(batches).ids == ("s-0",)  # what came before is read all the same
        with pytest.raises(UserError, match=message) as raised:
            next(batches)
        assert "\n" not in str(raised.value)


def test_a_killed_worker_ends_the_training_instead_of_hanging_it(examples):
    before = {process.pid for process in multiprocessing.active_children()}
    speech = speech_set(examples)
    batches = load(speech, speech.order(3.0).endless(), CPU, True, training(workers=2))
    next(batches)
    workers = [each for each in multiprocessing.active_children() if each.pid not in before]
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="was killed.*training.workers is 2") as raised:
        for _ in range(50):
            next(batches)
    assert "\n" not in str(raised.value)


def read_until_killed(examples, connection):
    """A training process: it reads with two workers, says which, and goes on until it is killed."""
    speech = speech_set(examples)
    batches = load(speech, speech.order(3.0).endless(), CPU, True, training(workers=2))
    next(batches)
    connection.send([each.pid for each in multiprocessing.active_children()])
    time.sleep(600)


def test_workers_of_a_killed_training_go_too(examples):
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=read_until_killed, args=(examples, theirs))
    process.start()
    workers = ours.recv()
    assert len(workers) == 2 and all(map(is_there, workers))
    process.kill()
    process.join()
    for _ in range(600):
        if not any(map(is_there, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_there, workers))


def is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
