"""What the sensitivity of 12 layers costs: every leave-one-out variant at once, beside twelve full evaluations.

    python -m benchmarks.sensitivity                    wav2vec2-base, then a narrow encoder; 5 s of noise, one thread
    python -m benchmarks.sensitivity --shapes small

The full model and its twelve variants share the front end and all layers before the one that is missing: 78 layer
executions and one front end, where twelve evaluations need 144 and twelve. Both sides go from the waveform to greedy
labels, in turn, in one process; the ratio is taken pair by pair. Labels and encoder outputs of all variants are
compared with those of each variant run on its own.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch

from asr.decoding import greedy
from benchmarks.comparison import Bench, Row, compared, parser
from benchmarks.encoders import SHAPES, method_on, noise
from common.errors import run
from workflows.steps.sensitivity import leave_one_out

LAYERS = 12
REACH = 1 / 0.6
LARGEST_DIFFERENCE = {"cpu": 1e-5, "cuda": 1e-3}
SHAPE_NAMES = {"paper": "wav2vec2-base", "small": "a narrow encoder"}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("sensitivity", __doc__)
    options.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    options.add_argument("--seconds", type=float, default=5.0, help="audio of an utterance")
    options.add_argument("--batch", type=int, default=1, help="utterances")
    options.add_argument("--repeats", type=int, default=5)
    arguments = options.parse_args(argv)
    bench = Bench(arguments)
    shapes, seconds = (["small"], 0.5) if arguments.quick else (arguments.shapes, arguments.seconds)
    for shape in shapes:
        measure(bench, shape, seconds, arguments.batch, arguments.repeats)
    return bench.report.rows


@torch.inference_mode()
def measure(bench: Bench, shape: str, seconds: float, utterances: int, repeats: int) -> None:
    """Adds a row; the facts hold executions counted as layers run, and the largest difference of encoder outputs."""
    method = method_on(shape, "baselines.all_physical", {}, LAYERS)
    module = method.build().to(bench.device).eval()
    batch = noise(utterances, seconds).to(bench.device)
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
        if bench.device.type == "cpu" and labels(encoded) != labels(alone):
            raise AssertionError(f"{point.id}: sharing changes what is recognised")
    if difference > LARGEST_DIFFERENCE[bench.device.type]:
        raise AssertionError(f"sharing changes encoder outputs by {difference}")
    hooks = [module.layer_module(layer).register_forward_hook(count) for layer in range(LAYERS)]
    counts = []
    for way in (shared, full_evaluations):
        executed = 0
        way()
        counts.append(executed)
    for hook in hooks:
        hook.remove()
    pairs = bench.in_turn(shared, full_evaluations, repeats)
    found = {"executed_layers": counts, "largest_difference": difference}
    bench.report.say(**{shape: found})
    size = SHAPE_NAMES[shape]
    work = f"{utterances} x {seconds:g} s of noise, random weights, {bench.where}"
    name = f"leave-one-out sensitivity of 12 layers, {size}"
    bench.report.add(compared(name, "twelve full evaluations", pairs, work, REACH))


if __name__ == "__main__":
    sys.exit(run(main))
