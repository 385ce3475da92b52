"""A training step of ours beside other people's loops, and beside ours of an earlier commit.

    python -m benchmarks.training_step --what conformer     the paper's Conformer, ESPnet's model and trainer
    python -m benchmarks.training_step --what fine_tuning   wav2vec2-base, Hugging Face's Trainer
    python -m benchmarks.training_step --what smoke         a12 and f6 of `smoke`, our loop at commit d668a5d

Whole loops, each in a process of its own, take turns step by step (`benchmarks.loops`): batch, losses, gradients,
clipping, optimiser, learning rate and log. Both sides have the same shapes, the same padded batch of noise, the same
dropout and random weights; layer drop is off, since it would let a draw decide how many layers are timed. Ours masks
padding (`mask_padding`), as it does in every training; the others do not.
"""

import contextlib
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import FEWEST_PAIRS, Bench, Row, compared, counted, parser
from benchmarks.loops.turns import sides
from benchmarks.suite import PEERS
from common.errors import UserError, run
from workflows.provenance import ROOT

EARLIER = "d668a5d"
FLOAT32, BF16 = "32-true", "bf16-mixed"
NAMES = {FLOAT32: "float32", BF16: "bf16"}
LOG_EVERY = 50


@dataclasses.dataclass(frozen=True)
class Loop:
    """A script of `benchmarks.loops`, its argument, and the checkout whose code it runs."""

    script: str
    given: dict[str, Any]
    checkout: Path = ROOT

    def with_(self, **changes: Any) -> "Loop":
        return dataclasses.replace(self, given={**self.given, **changes})


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("training_step", __doc__, threads=2)
    options.add_argument("--what", choices=list(WHAT), required=True)
    options.add_argument("--repeats", type=int, default=15, help="pairs of steps")
    arguments = options.parse_args(argv)
    bench = Bench(arguments)
    WHAT[arguments.what](bench, 1 if arguments.quick else arguments.repeats)
    return bench.report.rows


def race(bench: Bench, loops: Sequence[Loop], repeats: int, until: float) -> list[tuple[float, ...]]:
    """Seconds of a step of each, in turn. Raises `UserError` when one of them ends."""
    common = {
        "threads": bench.threads,
        "device": bench.device.type,
        "processor_time": bench.now is time.process_time,
    }
    scripts = [str(ROOT / "benchmarks" / "loops" / f"{loop.script}.py") for loop in loops]
    arguments = [json.dumps({**loop.given, **common}) for loop in loops]
    commands = [[sys.executable, *pair] for pair in zip(scripts, arguments, strict=True)]
    threads = {name: str(bench.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    hidden = {} if bench.device.type == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    environments = [{**threads, **hidden, "PYTHONPATH": _path(loop.checkout)} for loop in loops]
    folders = [str(loop.checkout) for loop in loops]
    try:
        with sides(commands, environments, folders) as running:
            turns: list[tuple[float, ...]] = []
            while len(turns) < repeats and (len(turns) < FEWEST_PAIRS or time.monotonic() < until):
                turns.append(tuple(side.step() for side in running))
            return turns
    except RuntimeError as error:
        raise UserError(f"{', '.join(loop.script for loop in loops)}: {error}") from error


def _path(checkout: Path) -> str:
    """Where Python looks for code: the checkout, then what `make bench` sets up for peers."""
    return f"{checkout}:{PEERS}"


def conformer(bench: Bench, repeats: int) -> None:
    """The paper's Conformer against ESPnet, in float32 and in bf16."""
    on_gpu = bench.device.type == "cuda"
    frames, count = ((1600, 1560, 1520, 1480), 32) if on_gpu else ((640, 620, 600, 580), 4)
    shape: dict[str, Any] = {"input_dim": 80, "layer_drop": 0.0}
    if bench.quick:
        frames, count = (70, 60), 2
        small = {"layers": 2, "width": 16, "ffn": 32, "kernel": 7, "decoder_layers": 1, "decoder_ffn": 32}
        shape |= small
    lengths = [frames[number % len(frames)] for number in range(count)]
    ours = Loop("ours", _given("conformer", shape, 2002, lengths, [length // 28 for length in lengths]))
    theirs = dataclasses.replace(ours, script="espnet_trainer")
    audio = f"{count} x {max(lengths) / 100:g} s, 80 features, {bench.where}"
    step, espnet = "training step, the paper's Conformer", "ESPnet's model and trainer"
    if on_gpu:
        races = [(BF16, BF16, f"{espnet}, bf16", 1.5), (FLOAT32, FLOAT32, espnet, None)]
    else:
        races = [(FLOAT32, FLOAT32, espnet, 1.1)]
        if bf16_units():
            races += [(BF16, FLOAT32, f"{espnet}, float32: it has no other on CPUs", 1.5)]
            races += [(BF16, BF16, f"{espnet}, its model put under torch's autocast", None)]
    seconds: dict[str, float] = {}
    for index, (mine, peers, peer, reach) in enumerate(races):
        ends = bench.until(index, len(races))
        loops = [theirs.with_(precision=peers), ours.with_(precision=mine)]
        loops += compiled(loops[1]) if on_gpu else []
        turns = race(bench, loops, repeats, ends)
        for number, how in enumerate(("", ", compiled")[: len(loops) - 1], start=1):
            pairs = [(turn[number], turn[0]) for turn in turns]
            bench.report.add(compared(f"{step}, {NAMES[mine]}{how}", peer, pairs, audio, reach))
            seconds[mine] = min(seconds.get(mine, math.inf), statistics.median(turn[number] for turn in turns))
    rate_rows(bench, ours.given, seconds, audio)


def rate_rows(bench: Bench, given: dict[str, Any], seconds: dict[str, float], audio: str) -> None:
    """Adds what part of the machine's matrix rate a step of so many seconds, by precision, comes to."""
    import torch

    from asr.backbones import BackboneFactory, Batch
    from benchmarks.rates import matrix_rate, operations
    from methods.contract import Step, make_method

    method = make_method(
        given["method"], given["settings"], BackboneFactory(**given["backbone"], vocabulary=given["vocabulary"])
    )
    module, count = method.build().to(bench.device).train(), len(given["lengths"])
    lengths, label_lengths = torch.tensor(given["lengths"]), torch.tensor(given["tokens"])
    inputs = torch.randn(count, max(given["lengths"]), given["backbone"]["settings"]["input_dim"])
    labels = (5 + torch.arange(max(given["tokens"])) % 2).expand(count, -1).clone()
    batch = Batch(tuple(map(str, range(count))), inputs, lengths, labels, label_lengths).to(bench.device)
    done = operations(lambda: method.losses(module, batch, Step("train", 0, 0, steps=1))["total"].backward())
    for precision, taken in seconds.items():
        rate = matrix_rate(bench, torch.bfloat16 if precision == BF16 else torch.float32)
        name = f"operations of that step, {NAMES[precision]}"
        work = f"{done / 1e9:.0f} GFLOP, {audio}; products of large matrices run at {rate / 1e9:.0f} GFLOP/s"
        reach = 0.4 if precision == BF16 and bench.device.type == "cuda" else None
        share = done / taken / rate
        bench.report.add(counted(name, "", share, work, "of the machine's matrix rate", reach=reach))


def fine_tuning(bench: Bench, repeats: int) -> None:
    """wav2vec2-base with a CTC layer against Hugging Face's Trainer."""
    on_gpu = bench.device.type == "cuda"
    seconds, count = (12.0, 16) if on_gpu else (4.0, 2)
    shape: dict[str, Any] = {"layer_drop": 0.0}
    if bench.quick:
        from benchmarks.encoders import SHAPES

        seconds, shape = 0.5, {**shape, **SHAPES["small"], "layers": 2}
    lengths = [round(16000 * seconds * (1 - 0.04 * number / count)) for number in range(count)]
    tokens = [length * 14 // 16000 for length in lengths]
    ours = Loop("ours", _given("wav2vec2", shape, 32, lengths, tokens, learning_rate=5e-5, clip_norm=1.0))
    precision = BF16 if on_gpu else FLOAT32
    ours = ours.with_(precision=precision)
    theirs = dataclasses.replace(ours, script="huggingface_trainer")
    pairs = race(bench, [ours, theirs], repeats, bench.ends)
    work = f"{count} x {seconds:g} s, {NAMES[precision]}, {bench.where}"
    name, peer = "fine-tuning step, wav2vec2-base", "Hugging Face's Trainer"
    bench.report.add(compared(name, peer, pairs, work, 1.2 if on_gpu else 1.1))


def smoke(bench: Bench, repeats: int) -> None:
    """a12 and f6 of `smoke` on a batch as long as its batches are, against the same loop at an earlier commit, and on a
    GPU compiled against not compiled."""
    from workflows.experiment import load_experiment

    experiment, on_gpu = load_experiment("smoke"), bench.device.type == "cuda"
    lengths = [70, 60] if bench.quick else [245, 240, 236, 234, 228, 220, 214, 208]
    races = []
    for name in ("a12", "f6"):
        entry, backbone = experiment.systems[name], experiment.backbone_of(name)
        shape = {**backbone["settings"], "layer_drop": 0.0}
        shape |= {"width": 16, "ffn": 16, "kernel": 7} if bench.quick else {}
        training = experiment.training_of(name)
        rate = {"learning_rate": 1e-5, "clip_norm": training.optimiser.clip_norm}
        given = _given("conformer", shape, 12, lengths, [5] * len(lengths), training.log_every, **rate)
        races.append((name, Loop("ours", {**given, "method": entry.method, "settings": entry.settings})))
    with earlier_checkout(EARLIER) as checkout:
        for number, (name, ours) in enumerate(races):
            theirs = dataclasses.replace(ours, checkout=checkout)
            loops = [ours, theirs, *compiled(ours)] if on_gpu else [ours, theirs]
            turns = race(bench, loops, repeats, bench.until(number, len(races)))
            work = f"{len(lengths)} utterances, {max(lengths)} frames at most, float32, {bench.where}"
            step, pairs = f"training step of `smoke`, {name}", [turn[:2] for turn in turns]
            bench.report.add(compared(step, f"commit {EARLIER}", pairs, work, None if on_gpu else 1.5))
            if len(loops) > 2:
                pairs = [(turn[2], turn[0]) for turn in turns]
                bench.report.add(compared(f"{step}, compiled", "not compiled", pairs, work, 4.0))


def compiled(loop: Loop) -> list[Loop]:
    """The same loop with its blocks compiled; none where this commit cannot."""
    from asr.settings import TrainingSettings

    if "compile" not in TrainingSettings.model_fields:
        return []
    return [loop.with_(training={**loop.given["training"], "compile": "blocks"})]


def _given(
    backbone: str,
    shape: dict[str, Any],
    vocabulary: int,
    lengths: Sequence[int],
    tokens: Sequence[int],
    log_every: int = LOG_EVERY,
    **optimiser: float,
) -> dict[str, Any]:
    """The argument of a loop that trains all layers of a backbone in float32."""
    return {
        "backbone": {"name": backbone, "settings": shape},
        "method": "baselines.all_physical",
        "settings": {},
        "vocabulary": vocabulary,
        "precision": FLOAT32,
        "training": {"log_every": log_every, "optimiser": optimiser},
        "lengths": list(lengths),
        "tokens": [max(1, count) for count in tokens],
    }


@contextlib.contextmanager
def earlier_checkout(commit: str) -> Iterator[Path]:
    """The code of another commit, in a folder of its own. Raises `UserError` where the history does not hold it."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "code.tar"
        command = ["git", "archive", "--output", str(archive), commit]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        except FileNotFoundError:
            raise UserError("git is not installed") from None
        if done.returncode:
            raise UserError(f"commit {commit} is not in this history: {done.stderr.strip().splitlines()[-1]}")
        code = Path(folder) / "code"
        code.mkdir()
        subprocess.run(["tar", "-xf", str(archive), "-C", str(code)], check=True)
        yield code


def bf16_units() -> bool:
    """Whether the processor computes in bf16: AMX, or AVX-512's instructions."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


WHAT = {"conformer": conformer, "fine_tuning": fine_tuning, "smoke": smoke}


if __name__ == "__main__":
    sys.exit(run(main))
