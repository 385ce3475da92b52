"""What the sensitivity of 12 layers costs: every leave-one-out variant at once, beside twelve full evaluations.

    python -m benchmarks.sensitivity                    wav2vec2-base, then a narrow encoder; 5 s of noise, one thread
    python -m benchmarks.sensitivity --shapes small

The full model and its twelve variants share the front end and all layers before the one that is missing: 78 layer
executions and one front end, where twelve evaluations need 144 and twelve. Both sides go from the waveform to greedy
labels, in turn, in one process; the ratio is taken pair by pair. Labels and encoder outputs of all variants are
compared with those of each variant run on its own.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from typing import Any

import torch

from asr.decoding import greedy
from benchmarks.encoders import SHAPES, device_here, device_name, method_on, noise, spread
from common.errors import run
from workflows.steps.sensitivity import leave_one_out

LAYERS = 12
TARGET = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--seconds", type=float, default=5.0, help="audio of an utterance")
    parser.add_argument("--batch", type=int, default=1, help="utterances")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processor-time", action="store_true", help="not wall time: bears a busy CPU better")
    arguments = parser.parse_args()
    settings = (arguments.seconds, arguments.batch, arguments.repeats, arguments.threads, arguments.processor_time)
    print(json.dumps({shape: measure(shape, *settings) for shape in arguments.shapes}, indent=1))


@torch.inference_mode()
def measure(
    shape: str, seconds: float, utterances: int, repeats: int, threads: int, processor_time: bool = False
) -> dict[str, Any]:
    """Times, ratio with its spread, executions counted as layers run, and the largest difference of encoder outputs."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    now = time.process_time if processor_time else time.perf_counter
    device = device_here()
    method = method_on(shape, "baselines.all_physical", {}, LAYERS)
    module = method.build().to(device).eval()
    batch = noise(utterances, seconds).to(device)
    points = leave_one_out(LAYERS)
    executed = 0

    def count(*_: Any) -> None:
        nonlocal executed
        executed += 1

    def labels(encoded: Any) -> list[list[int]]:
        return greedy(module.ctc_log_probs(encoded), encoded.lengths)

    def shared() -> None:
        for _, encoded in method.encode_points(module, batch.inputs, batch.input_lengths, points):
            labels(encoded)

    def full_evaluations() -> None:
        for _ in range(LAYERS):
            labels(module.encode(batch.inputs, batch.input_lengths))

    difference = 0.0
    for point, encoded in method.encode_points(module, batch.inputs, batch.input_lengths, points):
        alone = method.at(module, point).encode(batch.inputs, batch.input_lengths)
        difference = max(difference, float((encoded.frames - alone.frames).abs().max()))
        if labels(encoded) != labels(alone):
            raise AssertionError(f"{point.id}: sharing changes what is recognised")
    for layer in range(LAYERS):
        module.layer_module(layer).register_forward_hook(count)
    counts, pairs = [], []
    for way in (shared, full_evaluations):  # warm-up too
        executed = 0
        way()
        counts.append(executed)
    for _ in range(repeats):
        times = []
        for way in (shared, full_evaluations):
            began = now()
            way()  # ends with labels on the CPU: a device has then finished
            times.append(now() - began)
        pairs.append(times)
    ratio = spread([ours / full for ours, full in pairs])
    return {
        "layers": LAYERS,
        "executed_layers": counts[0],
        "executed_layers_of_full_evaluations": counts[1],
        "largest_difference": difference,
        "shared_seconds": statistics.median(ours for ours, _ in pairs),
        "full_evaluations_seconds": statistics.median(full for _, full in pairs),
        "ratio": ratio,
        "target": TARGET,
        "within_target": ratio["median"] <= TARGET,
        "utterance_seconds": seconds,
        "batch": utterances,
        "threads": threads,
        "clock": "processor time" if processor_time else "wall",
        "device": device_name(device),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


if __name__ == "__main__":
    sys.exit(run(main))
