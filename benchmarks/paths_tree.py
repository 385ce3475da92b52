"""All 64 paths of a 6-layer seed: through the prefix tree, and path by path. Both start from the front end's output.

    python -m benchmarks.paths_tree                 paper size (d 256), 5 s of audio, one thread
    python -m benchmarks.paths_tree --width 64      the smoke size

The tree runs 126 layers instead of 576: 4.57 times less work is the limit. Both ways are timed in turn, in one
process; the ratio is taken pair by pair. Outputs are compared: they must agree to 1e-5.
"""

import argparse
import json
import platform
import statistics
import sys
import time

from common.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths_tree", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--width", type=int, default=256, help="model width; feed-forward layers are eight times as wide"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="audio")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.width, arguments.seconds, arguments.repeats, arguments.threads), indent=1))


def measure(width: int, seconds: float, repeats: int, threads: int) -> dict:
    """Times, ratio with its spread, and the largest difference between the two ways."""
    import torch

    from asr.backbones import BackboneFactory
    from methods.paths import offered_paths, run_paths

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = BackboneFactory("conformer", {"layers": 6, "width": width, "ffn": 8 * width}, 2002).build().eval()
    paths = offered_paths(6, 12)
    frames = round(100 * seconds)

    def tree(state):
        return {path: model.finish(end).frames for path, end in run_paths(paths, state, model.run_layer)}

    def naive(state):
        return {path: model.finish(model.run_path(path, state)).frames for path in paths}

    with torch.inference_mode():
        state = model.front_end(torch.randn(1, frames, 80), torch.tensor([frames]))
        first, second = tree(state), naive(state)  # warm-up, and the comparison
        difference = max(float((first[path] - second[path]).abs().max()) for path in paths)
        pairs = []
        for _ in range(repeats):
            times = []
            for way in (tree, naive):
                began = time.perf_counter()
                way(state)
                times.append(time.perf_counter() - began)
            pairs.append(times)
    ratios = [slow / fast for fast, slow in pairs]
    return {
        "paths": len(paths),
        "width": width,
        "audio_seconds": seconds,
        "threads": threads,
        "largest_difference": difference,
        "tree_seconds": statistics.median(fast for fast, _ in pairs),
        "naive_seconds": statistics.median(slow for _, slow in pairs),
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "repeats": repeats},
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


if __name__ == "__main__":
    sys.exit(run(main))
