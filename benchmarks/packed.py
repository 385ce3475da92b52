"""Packed weights when they run: unpacked at every execution, beside dense weights and beside torch's own int8 kernel.

    python -m benchmarks.packed                     the paper Conformer's feed-forward matrix, 10 s of audio, one thread
    python -m benchmarks.packed --repeats 5 --frames 50

All ways are timed in turn in one process, on float32 inputs; each ratio is that of one turn. Outputs are compared.
Where torchao is installed (nothing else here needs it), so is its kernel, which brings the inputs to int8 too; torch's
own int8 kernel is for CPUs.
"""

import copy
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.comparison import Bench, Row, compared, parser
from common.errors import run


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("packed", __doc__)
    options.add_argument("--inputs", type=int, default=256)
    options.add_argument("--outputs", type=int, default=2048)
    options.add_argument("--frames", type=int, default=250)
    options.add_argument("--repeats", type=int, default=30)
    arguments = options.parse_args(argv)
    shape = (32, 48, 10) if arguments.quick else (arguments.inputs, arguments.outputs, arguments.frames)
    repeats = 2 if arguments.quick else arguments.repeats
    return measure(Bench(arguments), *shape, repeats)


def measure(bench: Bench, inputs: int, outputs: int, frames: int, repeats: int) -> list[Row]:
    """A row for each way, against dense weights. The facts hold the largest difference from the weights that each
    stands for."""
    import torch
    from torch import nn

    from methods.shared.packed import Packed
    from methods.usmlite import packed

    dense = nn.Linear(inputs, outputs)
    int8, int4, sparse = Packed.of(dense, 8), Packed.of(dense, 4, 32), packed(dense, 4, n=2, m=4)
    dense, int8, int4, sparse = (module.to(bench.device) for module in (dense, int8, int4, sparse))
    scales, x = int8.scales.float().flatten(), torch.randn(frames, inputs, device=bench.device)
    ways: dict[str, Callable[[], Any]] = {
        "dense": lambda: dense(x),
        "int8, unpacked": lambda: int8(x),
        "int4, unpacked": lambda: int4(x),
        "int4 with 2:4, unpacked": lambda: sparse(x),
    }
    if bench.device.type == "cpu":
        ways["int8, torch's kernel"] = lambda: torch._weight_int8pack_mm(x, int8.codes, scales) + int8.bias
    if (kernel := torchao_kernel(dense)) is not None:
        ways["int8, torchao's kernel, inputs in int8 too"] = lambda: kernel(x)
    weights = {"dense": dense.weight, "int4, unpacked": int4.weight, "int4 with 2:4, unpacked": sparse.weight}
    with torch.inference_mode():
        difference = {
            name: float((way() - (x @ weights.get(name, int8.weight).T + dense.bias)).abs().max())
            for name, way in ways.items()
        }
        turns = [{name: bench.seconds(way) for name, way in ways.items()} for _ in range(repeats)]
    bench.report.say(largest_difference=difference)
    work = f"{inputs} to {outputs} units, {frames} frames, float32, {bench.where}"
    for name in list(ways)[1:]:
        pairs = [(turn[name], turn["dense"]) for turn in turns]
        bench.report.add(compared(f"a matrix in {name}", "dense, float32", pairs, work))
    return bench.report.rows


def torchao_kernel(dense: Any) -> Any:
    """A copy of a dense linear map with int8 weights and inputs, by torchao; None where that is not installed."""
    from torch import nn

    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError:
        return None
    held = nn.Sequential(copy.deepcopy(dense)).eval().requires_grad_(False)
    quantize_(held, Int8DynamicActivationInt8WeightConfig())
    return held


if __name__ == "__main__":
    sys.exit(run(main))
