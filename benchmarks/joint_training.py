"""Time and memory of a training step: seeds of 8, 6, 4, 3 and 2 layers unfolded to 12, beside the 12-layer baseline.

    python -m benchmarks.joint_training                                   wav2vec2-base, utterances of 4 s, two threads
    python -m benchmarks.joint_training --small                           a narrow encoder, in seconds
    python -m benchmarks.joint_training --threads 1 --processor-time      on a busy machine
    python -m benchmarks.joint_training --bf16 --batch 8 --seconds 12 --memory-batches 1 8      on a GPU

A step is forward, backward, clipping and AdamW, with the losses of `methods.unfolding` and `baselines.all_physical`.
Layer drop is 0: in training it skips executions at random, and here their number has to be exact.

Time. Joint training runs the front end, and with `share_prefix` the executions that both passes begin with, once:
6 -> 12 executes 17 layers. They should then take 17/12 of the time that the baseline's 12 take, forward and backward.
Executions are counted as transformers' layers run. Their time is taken inside the step: the clock is read around each
execution, and in the backward pass when the gradient reaches its output and when it leaves its input. (Autograd runs
operations in the reverse of the order in which they were made, so the backward pass of one execution is in one piece;
this is checked.) Everything else, front end, CTC layer, losses and optimiser, is in the ratio of whole steps only.
Seed and baseline are timed in turn, and each ratio is that of one pair. A layer that ran several times has its
gradients summed, which costs as much for one second of audio as for a hundred: very small batches come out worse.

Memory. Each configuration runs in a process of its own: the peak of a step that begins with AdamW's state there, on
CUDA of the allocator, else resident memory above the imports. A seed saves weights, gradients and AdamW's state, 16
bytes a parameter, and keeps more activations for the backward pass, since it executes more layers: beyond some size
of batch it needs more than the baseline. That size follows from the peaks at the largest measured batch and from what
one more utterance keeps. With `checkpoint_layers` only the inputs of layers are kept, at the price of running each
layer's forward pass twice.
"""

import contextlib
import dataclasses
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from torch import Tensor

import asr.backbones.wav2vec2  # noqa: F401  (before processes are forked: memory is counted above the imports)
from asr.backbones import Batch, EncoderState, LayerDrop
from asr.backbones.speech_encoder import SpeechEncoder
from asr.portable.speech import base_of
from asr.settings import TrainingSettings
from benchmarks.comparison import Bench, Row, parser, say
from benchmarks.encoders import device_name, method_on, noise, spread
from benchmarks.joint_training_tables import ABOUT_MEMORY, memory_rows, memory_table, time_rows, time_table
from common.errors import UserError, run
from methods.contract import Step
from workflows.steps.memory import give_back_at_once, peak_resident_bytes, reset_peak, resident_bytes

DEPTH = 12
TOLERANCE = 0.1
UNFOLDING = {
    "depth": DEPTH,
    "alpha_p": 0.7,
    "alpha_kl": 0.005,
    "kl": {"distributions": ["ctc"], "reduction": "sum"},
    "share_prefix": True,
}
"""The paper's settings for speech encoders, and what both passes begin with run once, under one dropout mask."""
LAST = {8: 4}
"""A seed of 8 unfolds its last four layers only."""
CLIP_NORM = 1.0


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all configurations of one run have in common."""

    shape: str
    seconds: float
    threads: int
    bf16: bool
    processor_time: bool
    device: torch.device = torch.device("cpu")


class Trainee:
    """A system with random weights, ready for training steps. `joint`: unfolded to `DEPTH`; else all-physical."""

    def __init__(self, layers: int, joint: bool, setting: Setting, checkpoint_layers: bool = False):
        self.setting, self.device = setting, setting.device
        name, settings = "baselines.all_physical", {}
        if joint:
            name, settings = "methods.unfolding", {**UNFOLDING, "last": LAST.get(layers)}
        self.method = method_on(
            setting.shape, name, settings, layers, layer_drop=0.0, checkpoint_layers=checkpoint_layers
        )
        torch.manual_seed(0)
        self.module = self.method.build().to(self.device).train()
        stage = self.method.stages(TrainingSettings(steps=1))[0]
        self.optimiser = torch.optim.AdamW(self.method.parameter_groups(self.module, stage), lr=5e-5)
        self.precision = torch.autocast(self.device.type, torch.bfloat16, enabled=setting.bf16)

    def loss(self, batch: Batch) -> Tensor:
        with self.precision:
            return self.method.losses(self.module, batch, Step("train", 0, 0))["total"]

    def step(self, batch: Batch) -> None:
        self.loss(batch).backward()
        self._update()

    def allocate_state(self) -> None:
        """AdamW's, without a step of training."""
        for parameter in self.module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._update()

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), CLIP_NORM)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


class LayerClock:
    """How often the layers of a module run, and the seconds spent in them, forward and backward. On CUDA the clock is
    the device's, else the given one."""

    def __init__(self, module: SpeechEncoder, device: torch.device, now: Callable[[], float]):
        self.module, self.device, self.now = module, device, now
        self.marks: list[tuple[str, Any]] = []
        self.executed = self.front_ends = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """The module is watched inside this context, in which one step is made."""
        layers = [self.module.layer_module(layer) for layer in range(self.module.layers)]
        hooks = [layer.register_forward_hook(self._count_layer) for layer in layers]
        hooks.append(base_of(self.module.model).feature_projection.register_forward_hook(self._count_front_end))
        run_layer = self.module.run_layer

        def watched(layer: int, state: EncoderState, drop: LayerDrop | None = None) -> EncoderState:
            # A view for each execution: where the two passes part, each of them leaves the common input by its own.
            state = dataclasses.replace(state, x=state.x.view_as(state.x))
            state.x.register_hook(lambda _: self._mark("leave"))
            self._mark("enter")
            state = run_layer(layer, state, drop)
            self._mark("leave")
            state.x.register_hook(lambda _: self._mark("enter"))
            return state

        self.module.run_layer = watched
        try:
            yield
        finally:
            del self.module.run_layer
            for hook in hooks:
                hook.remove()

    def seconds(self) -> float:
        """Spent in layers. The device must have finished the step."""
        kinds, marks = [kind for kind, _ in self.marks], [mark for _, mark in self.marks]
        if kinds != ["enter", "leave"] * (len(kinds) // 2):
            raise AssertionError("layer executions overlap in the backward pass: their times cannot be told apart")
        pairs = zip(marks[::2], marks[1::2], strict=True)
        if self.device.type == "cuda":
            return sum(begin.elapsed_time(end) for begin, end in pairs) / 1000
        return sum(end - begin for begin, end in pairs)

    def _mark(self, kind: str) -> None:
        if self.device.type == "cuda":
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
        else:
            mark = self.now()
        self.marks.append((kind, mark))

    def _count_layer(self, *_: Any) -> None:
        self.executed += 1

    def _count_front_end(self, *_: Any) -> None:
        self.front_ends += 1


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """One training step: executed layers and front ends, seconds in layers and of the whole step."""

    executed: int
    front_ends: int
    layer_seconds: float
    step_seconds: float


def time_step(trainee: Trainee, batch: Batch) -> StepTimes:
    now = time.process_time if trainee.setting.processor_time else time.perf_counter
    clock = LayerClock(trainee.module, trainee.device, now)
    with clock.watching():
        _wait_for(trainee.device)
        began = now()
        trainee.step(batch)
        _wait_for(trainee.device)
        seconds = now() - began
    return StepTimes(clock.executed, clock.front_ends, clock.seconds(), seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_times(
    seeds: Sequence[int], utterances: int, repeats: int, setting: Setting, ends: float = math.inf
) -> dict[str, Any]:
    """Each seed and the baseline in turn: executions, seconds in layers and of whole steps, ratios pair by pair. No
    seed is begun after `ends`, a time of the monotonic clock."""
    torch.set_num_threads(setting.threads)
    baseline = Trainee(DEPTH, False, setting)
    batch = noise(utterances, setting.seconds).to(baseline.device)
    baseline.step(batch)  # warm-up
    rows = []
    for layers in seeds:
        if rows and time.monotonic() > ends:
            break
        seed = Trainee(layers, True, setting)
        seed.step(batch)
        pairs = [(time_step(seed, batch), time_step(baseline, batch)) for _ in range(repeats)]
        rows.append({"system": f"{layers} -> {DEPTH}", **compare(pairs)})
        say(f"{rows[-1]['system']}: timed")
    return {
        "device": device_name(baseline.device),
        "clock": "processor time" if setting.processor_time else "wall",
        "threads": setting.threads,
        "batch": utterances,
        "seeds": rows,
    }


def compare(pairs: Sequence[tuple[StepTimes, StepTimes]]) -> dict[str, Any]:
    """Steps of a seed and of the baseline, made in turn: what executions let expect, and what was measured."""
    seed, baseline = pairs[0]
    expected = seed.executed / baseline.executed
    ratio = spread([ours.layer_seconds / theirs.layer_seconds for ours, theirs in pairs])
    return {
        "executed": seed.executed,
        "executed_by_baseline": baseline.executed,
        "front_ends": seed.front_ends,
        "expected_ratio": expected,
        "layer_ratio": ratio,
        "above_expected": ratio["median"] / expected - 1,
        "within_tolerance": ratio["median"] <= (1 + TOLERANCE) * expected,
        "step_ratio": spread([ours.step_seconds / theirs.step_seconds for ours, theirs in pairs]),
        "layer_seconds": statistics.median(ours.layer_seconds for ours, _ in pairs),
        "layer_seconds_of_baseline": statistics.median(theirs.layer_seconds for _, theirs in pairs),
        "step_seconds": statistics.median(ours.step_seconds for ours, _ in pairs),
        "step_seconds_of_baseline": statistics.median(theirs.step_seconds for _, theirs in pairs),
    }


def measure_memory(seeds: Sequence[int], batches: Sequence[int], setting: Setting) -> dict[str, Any]:
    """Peak of a step of each system at each batch size, with and without checkpointing, and the batch from which a seed
    needs more than the baseline without checkpointing."""
    batches = sorted(set(batches))
    rows: list[dict[str, Any]] = []
    for layers, joint in [(DEPTH, False), *((seed, True) for seed in seeds)]:
        for checkpoint_layers in (False, True):
            row = _in_a_process(layers, joint, checkpoint_layers, batches, setting)
            if joint:
                row["more_than_baseline_from_utterances"] = crossing(
                    batches[-1],
                    row["peak_bytes"][-1] - rows[0]["peak_bytes"][-1],
                    row["kept_bytes_per_utterance"] - rows[0]["kept_bytes_per_utterance"],
                )
            rows.append(row)
            shown = ", layers checkpointed" if checkpoint_layers else ""
            say(f"{row['system']}{shown}: memory measured")
    return {"batches": batches, "systems": rows}


def crossing(utterances: int, difference: float, per_utterance: float) -> float | None:
    """Utterances in a batch from which a difference is above 0 that is known at one batch size and grows by
    `per_utterance`. None: never in a larger batch."""
    if per_utterance <= 0:
        return float(utterances) if difference > 0 else None
    return max(0.0, utterances - difference / per_utterance)


def _in_a_process(
    layers: int, joint: bool, checkpoint_layers: bool, batches: Sequence[int], setting: Setting
) -> dict[str, Any]:
    """On CPUs forked, before this process has used several threads: its memory is counted above the imports. Raises
    `UserError` when it was killed."""
    way = "spawn" if setting.device.type == "cuda" else "fork"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(way)) as pool:
        try:
            return pool.submit(measure_peaks, layers, joint, checkpoint_layers, batches, setting).result()
        except BrokenProcessPool:
            raise UserError(
                f"{layers} layers, {batches[-1]} utterances of {setting.seconds} s: the process was killed, probably "
                "for its memory; make --memory-batches or --seconds smaller"
            ) from None


def measure_peaks(
    layers: int, joint: bool, checkpoint_layers: bool, batches: Sequence[int], setting: Setting
) -> dict[str, Any]:
    """Peak memory of a step at each batch size, the smallest first, and the activations kept for the backward pass."""
    torch.set_num_threads(setting.threads)
    give_back_at_once()
    before = resident_bytes()
    trainee = Trainee(layers, joint, setting, checkpoint_layers)
    device = trainee.device
    trainee.allocate_state()
    peaks = []
    for utterances in batches:
        batch = noise(utterances, setting.seconds).to(device)
        reset_peak(device)
        trainee.step(batch)
        cuda = device.type == "cuda"
        peaks.append(torch.cuda.max_memory_allocated(device) if cuda else peak_resident_bytes() - before)
    one, two = (kept_bytes(trainee, noise(utterances, setting.seconds).to(device)) for utterances in (1, 2))
    return {
        "system": f"{layers} -> {DEPTH}" if joint else str(layers),
        "checkpoint_layers": checkpoint_layers,
        "parameters": sum(parameter.numel() for parameter in trainee.module.parameters()),
        "peak_bytes": peaks,
        "kept_bytes_per_utterance": two - one,
    }


def kept_bytes(trainee: Trainee, batch: Batch) -> int:
    """Bytes that a forward pass keeps for the backward pass, the weights aside; each storage counts once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in trainee.module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep its own graph alive

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainee.loss(batch)
    return sum(kept.values())


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("joint_training", __doc__, threads=2)
    options.add_argument("--layers", type=int, nargs="+", default=[8, 6, 4, 3, 2], help="physical layers of the seeds")
    options.add_argument("--seconds", type=float, default=4.0, help="audio of an utterance")
    options.add_argument("--batch", type=int, default=2, help="utterances in a batch, for times")
    options.add_argument("--memory-batches", type=int, nargs="+", default=[4], help="the same, for memory")
    options.add_argument("--repeats", type=int, default=4, help="pairs of steps")
    options.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options.add_argument("--small", action="store_true", help="a narrow encoder instead of wav2vec2-base")
    options.add_argument("--parts", nargs="+", choices=("memory", "time"), default=["memory", "time"])
    arguments = options.parse_args(argv)
    bench = Bench(arguments)
    if arguments.quick:
        quick = {"layers": [2], "seconds": 0.5, "batch": 1, "memory_batches": [1], "repeats": 1, "small": True}
        vars(arguments).update(quick)
    setting = Setting(
        "small" if arguments.small else "paper",
        arguments.seconds,
        arguments.threads,
        arguments.bf16,
        arguments.processor_time,
        bench.device,
    )
    report = bench.report
    report.say(shape=setting.shape, precision="bf16 autocast" if setting.bf16 else "float32")
    if "memory" in arguments.parts:  # first: a process that has used threads cannot be forked
        memory = measure_memory(arguments.layers, arguments.memory_batches, setting)
        report.say(f"{memory_table(memory, setting.seconds)}\n{ABOUT_MEMORY}\n", memory=memory)
        report.add(*memory_rows(memory, setting.seconds))
    if "time" in arguments.parts:
        times = measure_times(arguments.layers, arguments.batch, arguments.repeats, setting, bench.ends)
        report.say(time_table(times) + "\n", time=times)
        report.add(*time_rows(times, setting.seconds, bench.where))
    if arguments.json is None:
        print(report.markdown)
    return report.rows


if __name__ == "__main__":
    sys.exit(run(main))
