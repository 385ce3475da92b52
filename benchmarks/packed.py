"""Packed weights when they run: unpacked at every execution, beside dense weights and beside torch's own int8 kernel.

    python -m benchmarks.packed                     the paper Conformer's feed-forward matrix, 10 s of audio, one thread
    python -m benchmarks.packed --repeats 5 --frames 50

All ways are timed in turn in one process, on float32 inputs; each ratio is that of one turn. Outputs are compared.
Where torchao is installed (nothing else here needs it), so is its kernel, which brings the inputs to int8 too.
"""

import argparse
import copy
import json
import sys
import time
from typing import Any

from common.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packed", description=__doc__.split("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--outputs", type=int, default=2048)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    shape = (arguments.inputs, arguments.outputs, arguments.frames)
    print(json.dumps(measure(*shape, arguments.repeats, arguments.threads), indent=1))


def measure(inputs: int, outputs: int, frames: int, repeats: int, threads: int) -> dict:
    """For each way its time against dense weights, with its spread, and the largest difference from the weights that it
    stands for."""
    import platform

    import torch
    from torch import nn

    from benchmarks.encoders import spread
    from methods.shared.packed import Packed
    from methods.usmlite import packed

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    dense = nn.Linear(inputs, outputs)
    int8, int4, sparse = Packed.of(dense, 8), Packed.of(dense, 4, 32), packed(dense, 4, n=2, m=4)
    scales, x = int8.scales.float().flatten(), torch.randn(frames, inputs)
    ways = {
        "dense": lambda: dense(x),
        "int8, unpacked": lambda: int8(x),
        "int4, unpacked": lambda: int4(x),
        "int4 with 2:4, unpacked": lambda: sparse(x),
        "int8, torch's kernel": lambda: torch._weight_int8pack_mm(x, int8.codes, scales) + int8.bias,
    }
    if (kernel := torchao_kernel(dense)) is not None:
        ways["int8, torchao's kernel, inputs in int8 too"] = lambda: kernel(x)
    weights = {"dense": dense.weight, "int4, unpacked": int4.weight, "int4 with 2:4, unpacked": sparse.weight}
    with torch.inference_mode():
        difference = {
            name: float((way() - (x @ weights.get(name, int8.weight).T + dense.bias)).abs().max())
            for name, way in ways.items()
        }
        turns = []
        for _ in range(repeats):
            times = {}
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                times[name] = time.perf_counter() - began
            turns.append(times)
    return {
        "inputs": inputs,
        "outputs": outputs,
        "frames": frames,
        "threads": threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "against_dense": {name: spread([turn[name] / turn["dense"] for turn in turns]) for name in ways},
        "largest_difference": difference,
    }


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
