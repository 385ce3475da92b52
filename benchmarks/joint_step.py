"""What a joint step saves: both passes of unfolding with what they share run once, against two separate passes.

    python -m benchmarks.joint_step                     8 -> 12 and 6 -> 12, the paper's Conformer and wav2vec2-base
    python -m benchmarks.joint_step --backbones wav2vec2 --layers 6

Forward and backward, with losses at both depths and no KL term (two separate passes have none). With `share_prefix` the
joint step runs the front end, and everything up to the first repeat, once: of 18 layer executions 6 -> 12 makes 17, of
20 8 -> 12 makes 15. Floating-point operations of both are counted by torch, times are taken in turn; the row says what
part of the saving in operations is a saving in time. Layer drop is off, since its draws would decide how much there is.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from asr.backbones import BackboneFactory, Batch
from benchmarks.comparison import Bench, Row, parser, spread
from benchmarks.encoders import noise
from benchmarks.rates import operations
from common.errors import run
from methods.contract import Step, make_method

DEPTH = 12
REACH = 0.9
LAST = {8: 4}
"""A seed of 8 unfolds its last four layers only."""
NAMES = {"conformer": "the paper's Conformer", "wav2vec2": "wav2vec2-base"}
VOCABULARY = {"conformer": 2002, "wav2vec2": 32}
QUICK = {
    "conformer": {"width": 16, "ffn": 32, "kernel": 7, "decoder_layers": 1, "decoder_ffn": 32},
    "wav2vec2": {"width": 32, "heads": 4, "ffn": 48, "conv_dim": [16] * 7, "positional_kernel": 16},
}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("joint_step", __doc__, threads=2)
    options.add_argument("--backbones", nargs="+", choices=list(NAMES), default=list(NAMES))
    options.add_argument("--layers", type=int, nargs="+", default=[8, 6], help="physical layers of the seeds")
    options.add_argument("--repeats", type=int, default=12, help="pairs of steps")
    arguments = options.parse_args(argv)
    bench = Bench(arguments)
    cases = [(name, layers) for layers in arguments.layers for name in arguments.backbones]
    for number, (name, layers) in enumerate(cases):
        measure(bench, name, layers, arguments.repeats, bench.until(number, len(cases)))
    return bench.report.rows


def measure(bench: Bench, name: str, layers: int, repeats: int, until: float) -> None:
    """Adds a row for a seed of so many layers."""
    batch, audio = speech(bench, name)
    shape: dict[str, Any] = {"layers": layers, "layer_drop": 0.0, **(QUICK[name] if bench.quick else {})}
    factory = BackboneFactory(name, shape, VOCABULARY[name])
    module = make_method("baselines.all_physical", {}, factory).build().to(bench.device).train()
    common = {"depth": DEPTH, "last": LAST.get(layers), "alpha_kl": 0, "share_prefix": True}
    joint, deep, seed = (
        make_method("methods.unfolding", {**common, **weights}, factory)
        for weights in ({}, {"alpha_p": 0}, {"alpha_f": 0})
    )

    def passes(*methods: Any) -> Callable[[], None]:
        def step() -> None:
            torch.manual_seed(0)
            for method in methods:
                method.losses(module, batch, Step("train", 0, 0, steps=1))["total"].backward()
            module.zero_grad(set_to_none=True)

        return step

    together, apart = passes(joint), passes(deep, seed)
    with module.eager_attention():  # the counter sees nothing in fused attention
        fewer = 1 - operations(together) / operations(apart)
    pairs = bench.in_turn(together, apart, repeats, until)
    kept = spread([(1 - ours / theirs) / fewer for ours, theirs in pairs])
    ours, theirs = (1000 * spread(side)[0] for side in zip(*pairs, strict=True))
    measure = f"of the {100 * fewer:.1f} % of operations saved"
    row = (f"joint step {layers} -> {DEPTH}, {NAMES[name]}", "two separate passes", *kept)
    work = f"forward and backward, {audio}, {bench.where}"
    bench.report.add(Row(*row, work, ours, theirs, "ms", measure, REACH))


def speech(bench: Bench, name: str) -> tuple[Batch, str]:
    """Noise of a length that a backbone is trained on, and how it is named: more of it on a GPU."""
    utterances, seconds = (16, 12.0) if bench.device.type == "cuda" else (2, 4.0)
    if bench.quick:
        utterances, seconds = 1, 0.5
    batch = noise(utterances, seconds)
    if name == "conformer":
        frames = round(100 * seconds)
        inputs = torch.randn(utterances, frames, 80)
        labels = batch.targets[:, : max(1, frames // 28)]
        counts = torch.full((utterances,), labels.size(1))
        batch = Batch(batch.ids, inputs, torch.full((utterances,), frames), labels, counts)
    return batch.to(bench.device), f"{utterances} x {seconds:g} s, float32"


if __name__ == "__main__":
    sys.exit(run(main))
