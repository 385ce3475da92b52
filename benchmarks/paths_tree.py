"""All 64 paths of a 6-layer seed: through the prefix tree, and path by path. Both start from the front end's output.

    python -m benchmarks.paths_tree                 paper size (d 256), 5 s of audio, one thread
    python -m benchmarks.paths_tree --width 64      the smoke size

The tree runs 126 layers instead of 576: 4.57 times less work is the limit. Both ways are timed in turn, in one
process; the ratio is taken pair by pair. Outputs are compared: they must agree to 1e-5.
"""

import sys
from collections.abc import Sequence

from benchmarks.comparison import Bench, Row, compared, parser
from common.errors import run

REACH = {"cpu": 4.5, "cuda": 4.2}
LARGEST_DIFFERENCE = {"cpu": 1e-5, "cuda": 1e-4}
"""Of outputs whose norm is that of a layer norm; a GPU picks other kernels for other shapes."""


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("paths_tree", __doc__)
    options.add_argument("--width", type=int, default=256, help="model width; feed-forward layers are 8 times as wide")
    options.add_argument("--seconds", type=float, default=5.0, help="audio")
    options.add_argument("--repeats", type=int, default=5)
    arguments = options.parse_args(argv)
    width, seconds = (16, 1.0) if arguments.quick else (arguments.width, arguments.seconds)
    return measure(Bench(arguments), width, seconds, arguments.repeats)


def measure(bench: Bench, width: int, seconds: float, repeats: int) -> list[Row]:
    """One row. Raises AssertionError where the two ways differ."""
    import torch

    from asr.backbones import BackboneFactory
    from methods.paths import offered_paths, run_paths

    settings = {"layers": 6, "width": width, "ffn": 8 * width}
    model = BackboneFactory("conformer", settings, 2002).build().eval().to(bench.device)
    paths = offered_paths(6, 12)
    frames = round(100 * seconds)

    def tree(state):
        return {path: model.finish(end).frames for path, end in run_paths(paths, state, model.run_layer)}

    def naive(state):
        return {path: model.finish(model.run_path(path, state)).frames for path in paths}

    with torch.inference_mode():
        state = model.front_end(torch.randn(1, frames, 80, device=bench.device), torch.tensor([frames]))
        first, second = tree(state), naive(state)
        difference = max(float((first[path] - second[path]).abs().max()) for path in paths)
        if difference > LARGEST_DIFFERENCE[bench.device.type]:
            raise AssertionError(f"the two ways differ by {difference}")
        pairs = bench.in_turn(lambda: tree(state), lambda: naive(state), repeats)
    work = f"encoder outputs, width {width}, {seconds:g} s of audio, {bench.where}"
    name = f"{len(paths)} paths through the tree"
    bench.report.say(largest_difference=difference)
    bench.report.add(compared(name, "path by path", pairs, work, REACH[bench.device.type]))
    return bench.report.rows


if __name__ == "__main__":
    sys.exit(run(main))
