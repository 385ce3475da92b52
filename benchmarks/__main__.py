"""Run all benchmarks, print one table, and write docs/performance.md and the lines of it that stand in the README.

    make bench                          on this machine's CPU, below 20 minutes on two idle cores
    make bench DEVICE=cuda              on one GPU, below 25 minutes
    make bench ONLY=paths_tree,packed   some of them
    python -m benchmarks --page         only write the page, from what was measured

What each found is kept in results/bench/<device>/<name>.json. What is there for the same code, machine and settings is
not measured again: a run that was killed goes on, and one that failed is tried again.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import say
from benchmarks.page import table, write_page
from benchmarks.suite import chosen, code, machine, run_one
from common.errors import UserError, run


def main(argv: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--only", default="", metavar="NAMES", help="with commas between them")
    options.add_argument("--quick", action="store_true", help="whether all of them run; no page is written")
    options.add_argument("--page", action="store_true", help="run nothing, write the page")
    options.add_argument("--results", type=Path, default=Path("results/bench"), help="default: %(default)s")
    arguments = options.parse_args(argv)
    results = [] if arguments.page else measure(arguments)
    if not arguments.quick:
        write_page(arguments.results)
    if failed := [each["name"] for each in results if each["state"] == "failed"]:
        raise UserError(f"failed: {', '.join(failed)} (see above); what was found is kept, and they are tried again")


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what was asked for, one after the other, and print the table."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # a benchmark is no process of this group, and would go on alone
        signal.signal(number, lambda received, frame: sys.exit(f"ended by signal {received}"))
    device = arguments.device
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("DEVICE=cuda: torch sees no CUDA device here")
    benchmarks = chosen([name for name in arguments.only.split(",") if name], device)
    made_by = {"code": code(), "machine": machine(device)}
    results = []
    for benchmark in benchmarks:
        say(f"{benchmark.name}: at most {benchmark.budget(device)} s")
        results.append(run_one(benchmark, device, arguments.quick, arguments.results, made_by))
        last = results[-1]
        if last["state"] != "done":
            say(f"{benchmark.name}: {last['state']}: {last['said']}")
        elif last.get("reused"):
            say(f"{benchmark.name}: measured before")
    print("\n" + table([row for result in results for row in result["rows"]]))
    return results


if __name__ == "__main__":
    sys.exit(run(main))
