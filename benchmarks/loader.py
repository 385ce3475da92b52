"""From 16 kHz FLAC to padded batches, beside lhotse's own data set on the same recordings; and memory by corpus size.

    python -m benchmarks.loader --processor-time     64 utterances of 2 to 18 s, log-mel at three speeds, and waveforms
    python -m benchmarks.loader --workers 8          wall time of a loader with workers, beside lhotse's in a DataLoader
    python -m benchmarks.loader --memory             what a corpus of 20 and of 200 thousand utterances takes

Both sides read the same batches in turn, with one thread; ours also normalises and checks lengths. The features of both
are compared. Real time is that of the speech as it was spoken, without padding. Memory is what a process has for itself
alone (USS), so that a file that is mapped or a server that was forked counts for nobody; the audio is one short file.
"""

import argparse
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.comparison import SMALL, Bench, Row, compared, counted, parser, spread
from common.errors import run

if TYPE_CHECKING:
    from asr.batches import SpeechSet
    from asr.examples import Example

RATE = 16000
SPEEDS = (0.9, 1.0, 1.1)
BATCH_SECONDS = 160.0
REAL_TIME = "times real time a core"
NAMES = {"log_mel": "log-mel batches", "waveform": "waveform batches"}
REACH = {"log_mel": 900.0, "waveform": 3000.0}
SIZES = (20_000, 200_000)


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("loader", __doc__)
    options.add_argument("--utterances", type=int, default=64)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--workers", type=int, help="processes that read ahead; default: 8 for a GPU, on CPUs none")
    options.add_argument("--memory", action="store_true", help="memory by corpus size instead")
    options.add_argument("--taken", nargs=2, metavar=("SIDE", "MANIFEST"), help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    if arguments.taken:
        side, manifest = arguments.taken
        print(json.dumps(TAKEN[side](Path(manifest))))
        return []
    bench = Bench(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            return memory(bench, Path(folder), (200, 2000) if arguments.quick else SIZES)
        spoken = speech(Path(folder), 6 if arguments.quick else arguments.utterances)
        workers = 8 * (bench.device.type == "cuda") if arguments.workers is None else arguments.workers
        for number, kind in enumerate(REACH):
            throughput(bench, kind, spoken, workers, arguments.repeats, bench.until(number, len(REACH)))
    return bench.report.rows


def speech(folder: Path, utterances: int) -> list[Any]:
    """Noise in the bands and with the pauses of speech, 2 to 18 s an utterance, in FLAC."""
    import numpy as np
    import soundfile

    from asr.corpora import Utterance

    generator, made = np.random.default_rng(0), []
    for number in range(utterances):
        samples = round(RATE * (2 + 16 * (number + 0.5) / utterances))
        noise = np.cumsum(generator.normal(0, 1, samples))
        noise -= np.convolve(noise, np.ones(400) / 400, "same")
        spoken = np.repeat(generator.random(samples // 1600 + 1) > 0.2, 1600)[:samples]
        sound = (0.1 * noise / np.abs(noise).max() * spoken + generator.normal(0, 1e-4, samples)).astype(np.float32)
        path = folder / f"s-{number}.flac"
        soundfile.write(path, sound, RATE, subtype="PCM_16")
        made.append(Utterance(f"s-{number}", path, RATE, samples / RATE, "s", "some words that were said"))
    return made


def throughput(bench: Bench, kind: str, spoken: list[Any], workers: int, repeats: int, until: float) -> None:
    """Rows of one kind of input: ours in real time, and against lhotse."""
    speech = our_set(kind, spoken)
    batches = speech.order(BATCH_SECONDS).in_order()
    cuts = their_cuts(speech, batches)
    ours = functools.partial(read_ours, speech, batches, workers, bench.device)
    theirs = functools.partial(read_theirs, kind, cuts, workers, bench.device)
    bench.report.say(**{f"largest difference, {kind}": difference(kind, ours(), theirs())})
    pairs = bench.in_turn(lambda: list(ours()), lambda: list(theirs()), repeats, until)
    seconds = sum(example.utterance.seconds / example.speed for example in speech.examples)
    speeds = f"speeds {', '.join(map(str, SPEEDS))}" if kind == "log_mel" else "one speed"
    who = f"{workers} workers, {bench.where}" if workers else "one process, one thread"
    work = f"{seconds:.0f} s of 16 kHz FLAC, {speeds}, {who}, {bench.clock}"
    if not workers:
        times = spread([seconds / pair[0] for pair in pairs])
        bench.report.add(Row(f"FLAC to {NAMES[kind]}", "", *times, work, measure=REAL_TIME, reach=REACH[kind]))
    bench.report.add(compared(f"FLAC to {NAMES[kind]}", "lhotse's K2SpeechRecognitionDataset", pairs, work))


def difference(kind: str, ours: Iterator[Any], theirs: Iterator[Any]) -> float:
    """The largest difference between utterances of the two sides, normalised alike; lhotse has those of a batch in an
    order of its own."""
    largest = 0.0
    for batch, other in zip(ours, theirs, strict=True):
        for row in batch.cpu():
            real = int(row.reshape(len(row), -1).abs().sum(1).nonzero().max()) + 1
            there = [normalised(each[:real]) if kind == "waveform" else each[:real] for each in other.cpu()]
            largest = max(largest, min(float((row[:real] - each).abs().max()) for each in there))
    return largest


def normalised(samples: Any) -> Any:
    return (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()


def our_set(kind: str, spoken: list[Any]) -> "SpeechSet":
    import numpy as np

    from asr.batches import SpeechSet
    from asr.examples import Example
    from asr.features import Normaliser, as_they_are, make_extractor, perturbed_samples
    from asr.settings import FeatureSettings

    extractor = make_extractor(FeatureSettings(kind=kind), RATE)
    log_mel = kind == "log_mel"
    examples = [
        Example(each, speed, extractor.frames(perturbed_samples(each.samples, RATE, speed)), (1, 2, 3))
        for each in spoken
        for speed in (SPEEDS if log_mel else (1.0,))
    ]
    unchanged = Normaliser(np.zeros(80, np.float32), np.ones(80, np.float32))
    return SpeechSet(examples, extractor, unchanged if log_mel else as_they_are)


def their_cuts(speech: "SpeechSet", batches: list[list[int]]) -> list[Any]:
    """The same batches as lhotse has them."""
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    def cut(index: int) -> MonoCut:
        example = speech.examples[index]
        utterance = example.utterance
        recording = Recording.from_file(utterance.audio, recording_id=utterance.id)
        said = SupervisionSegment(utterance.id, utterance.id, 0.0, recording.duration, text=utterance.text)
        whole = MonoCut(f"{index}", 0.0, recording.duration, 0, [said], recording=recording)
        return whole if example.speed == 1.0 else whole.perturb_speed(example.speed)

    return [CutSet.from_cuts(map(cut, batch)) for batch in batches]


def read_ours(speech: "SpeechSet", batches: list[list[int]], workers: int, device: Any) -> Iterator[Any]:
    """Tensors of all batches, by the loader that training uses."""
    from asr.loader import load
    from asr.settings import TrainingSettings

    for batch in load(speech, batches, device, True, TrainingSettings(steps=1, workers=workers, tensorboard=False)):
        yield batch.inputs


def read_theirs(kind: str, cuts: list[Any], workers: int, device: Any) -> Iterator[Any]:
    """As lhotse's recipes read speech that has no features on disk."""
    from lhotse import Fbank, FbankConfig
    from lhotse.dataset import K2SpeechRecognitionDataset, OnTheFlyFeatures
    from lhotse.dataset.input_strategies import AudioSamples
    from torch.utils.data import DataLoader

    reads = AudioSamples()
    if kind == "log_mel":
        reads = OnTheFlyFeatures(Fbank(FbankConfig(num_filters=80, snip_edges=True)))
    loader = DataLoader(
        K2SpeechRecognitionDataset(input_strategy=reads),
        batch_size=None,
        sampler=cuts,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        yield batch["inputs"].to(device, non_blocking=True)


def memory(bench: Bench, folder: Path, sizes: Sequence[int]) -> list[Row]:
    """Bytes that an utterance more takes, from two corpora: of `sizes` for ours, of the first and its threefold for the
    others, whose memory grows in a straight line and takes long."""
    ours = bytes_each(bench, "ours", folder, sizes)
    work = f"private memory of a process, {sizes[0]} to {sizes[-1]} utterances at three speeds"
    worker = ours["worker"]
    bench.report.add(Row("corpus in a worker", "", worker, worker, worker, 1, work, measure="bytes an utterance"))
    for side, peer in (("list", "a list of examples"), ("lhotse", "lhotse's CutSet in memory")):
        theirs = bytes_each(bench, side, folder, (sizes[0], 3 * sizes[0]))["training"]
        each = {"ours": ours["training"], "theirs": theirs, "unit": "bytes an utterance"}
        bench.report.add(
            counted("corpus in the training process", peer, theirs / max(1.0, ours["training"]), work, SMALL, **each)
        )
    return bench.report.rows


def bytes_each(bench: Bench, side: str, folder: Path, sizes: Sequence[int]) -> dict[str, float]:
    """Bytes of an utterance, by process."""
    first, last = (measured(side, write_manifest(folder, size)) for size in sizes)
    bench.report.say(
        **{f"MB, {side}, {size} utterances": found for size, found in zip(sizes, (first, last), strict=True)}
    )
    return {process: 1e6 * (last[process] - first[process]) / (sizes[1] - sizes[0]) for process in first}


def write_manifest(folder: Path, utterances: int) -> Path:
    from asr.corpora import Utterance, write_cuts

    (spoken,) = speech(folder, 1)
    text = "some words that were said by somebody and are as many as in an utterance of twelve seconds or a little more"
    path = folder / f"{utterances}.jsonl.gz"
    if path.exists():
        return path
    names = (f"speaker{number % 1000}-{number:08d}" for number in range(utterances))
    write_cuts(path, (Utterance(name, spoken.audio, RATE, 1.0, name.split("-")[0], text) for name in names))
    return path


def measured(side: str, manifest: Path) -> dict[str, float]:
    """What `TAKEN[side]` says, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loader", "--taken", side, str(manifest)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def taken_by_ours(manifest: Path) -> dict[str, float]:
    """MB of the training process in its second epoch, and of one that reads for it."""
    import torch

    from asr.batches import SpeechSet
    from asr.features import WaveformExtractor, as_they_are
    from asr.loader import load
    from asr.settings import TrainingSettings

    speech = SpeechSet(examples_in(manifest), WaveformExtractor(RATE), as_they_are)
    order = speech.order(BATCH_SECONDS)
    second = order.endless(len(order.epoch(0)) + 1)
    reading = TrainingSettings(steps=1, workers=1, prefetch=1, tensorboard=False)
    batches = load(speech, second, torch.device("cpu"), True, reading)
    next(batches)
    (worker,) = multiprocessing.active_children()
    return {"training": private_mb(os.getpid()), "worker": private_mb(worker.pid)}


def taken_by_a_list(manifest: Path) -> dict[str, float]:
    """MB of a process that holds every example."""
    held = list(examples_in(manifest))
    return {"training": private_mb(os.getpid()) if held else 0.0}


def taken_by_lhotse(manifest: Path) -> dict[str, float]:
    """MB of a process that holds every cut, at three speeds."""
    from lhotse import CutSet

    cuts = CutSet.from_file(manifest).to_eager()
    held = cuts + cuts.perturb_speed(0.9).to_eager() + cuts.perturb_speed(1.1).to_eager()
    return {"training": private_mb(os.getpid()) if held else 0.0}


TAKEN: dict[str, Callable[[Path], dict[str, float]]] = {
    "ours": taken_by_ours,
    "list": taken_by_a_list,
    "lhotse": taken_by_lhotse,
}


def examples_in(manifest: Path) -> Iterator["Example"]:
    from asr.corpora import iterate_cuts
    from asr.examples import Example
    from asr.features import perturbed_samples

    for utterance in iterate_cuts(manifest):
        tokens = tuple(ord(letter) for letter in utterance.text)
        for speed in SPEEDS:
            yield Example(utterance, speed, perturbed_samples(utterance.samples, RATE, speed), tokens)


def private_mb(process: int) -> float:
    """What a process has for itself alone, in MB (Linux)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


if __name__ == "__main__":
    sys.exit(run(main))
