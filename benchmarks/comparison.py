"""What all benchmarks have in common: the row that says how ours compares with a peer, and their command line.

A benchmark is a module of this folder with `main(argv)`, which returns `Row`s and, with `--json FILE`, writes them
there as soon as each is known, so that one that breaks off leaves what it had. `python -m benchmarks` runs them all.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import write_json

FAST = "times as fast"
SMALL = "times smaller"
FEWEST_PAIRS = 3
"""As many are measured though the time is up: fewer have no spread."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Ours and a peer on the same work, in one run. `ratio` is a median, `low` and `high` are the extremes of `repeats`
    pairs; `measure` says of what: of `FAST` and `SMALL` more is better for ours."""

    name: str
    peer: str
    ratio: float
    low: float
    high: float
    repeats: int
    work: str
    ours: float | None = None
    theirs: float | None = None
    unit: str = ""
    measure: str = FAST
    reach: float | None = None
    """What `ratio` should reach."""


def compared(name: str, peer: str, pairs: Sequence[tuple[float, float]], work: str, reach: float | None = None) -> Row:
    """A row of `pairs` of seconds, ours and the peer's, taken in turn: the ratio is that of each pair."""
    ratios = spread([theirs / ours for ours, theirs in pairs])
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    factor, unit = (1, "s") if max(ours, theirs) >= 10 else (1000, "ms")
    return Row(name, peer, *ratios, work, factor * ours, factor * theirs, unit, FAST, reach)


def spread(values: Sequence[float]) -> tuple[float, float, float, int]:
    """Median, extremes and number, as a row has them."""
    return statistics.median(values), min(values), max(values), len(values)


def counted(name: str, peer: str, ratio: float, work: str, measure: str = SMALL, **more: Any) -> Row:
    """A row of something that is counted: it has no spread."""
    return Row(name, peer, ratio, ratio, ratio, 1, work, measure=measure, **more)


class Report:
    """The rows of a benchmark: printed, and written to `path`, as they come. `facts` are further numbers of it,
    `markdown` is what `docs/performance.md` says of it beside its rows."""

    def __init__(self, path: Path | None):
        self.path = path
        self.rows: list[Row] = []
        self.facts: dict[str, Any] = {}
        self.markdown = ""

    def add(self, *rows: Row) -> None:
        for row in rows:
            print(line(row), flush=True)
        self.rows += rows
        self.save()

    def say(self, markdown: str = "", **facts: Any) -> None:
        self.markdown += markdown
        self.facts |= facts
        self.save()

    def save(self) -> None:
        if self.path is not None:
            rows = [dataclasses.asdict(row) for row in self.rows]
            write_json(self.path, {"rows": rows, "facts": self.facts, "markdown": self.markdown})


def line(row: Row) -> str:
    """A row as one line of text."""
    spread = f" ({row.low:.3g} to {row.high:.3g} in {row.repeats} pairs)" if row.repeats > 1 else ""
    against = f" as {row.peer}" if row.peer and row.measure == FAST else f", {row.peer}" if row.peer else ""
    return f"{row.name}: {row.ratio:.3g}{spread} {row.measure}{against}; {row.work}"


def parser(module: str, doc: str, threads: int = 1) -> argparse.ArgumentParser:
    """The options that all benchmarks have; a benchmark adds its own."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=doc.split("\n\n")[0])
    made.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    made.add_argument("--quick", action="store_true", help="tiny models and few repeats: whether it runs, not how fast")
    made.add_argument("--threads", type=int, default=threads, help="on CPU; default %(default)s")
    made.add_argument("--processor-time", action="store_true", help="not wall time: bears a busy CPU better")
    made.add_argument("--budget", type=float, default=600.0, metavar="SECONDS", help="no pair is begun after so long")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    return made


class Bench:
    """What the common options mean: the device, the clock and the end of the budget. Raises `UserError` for a device
    that is not there."""

    def __init__(self, options: argparse.Namespace):
        import torch

        self.ends = time.monotonic() + options.budget
        self.quick, self.threads = options.quick, options.threads
        name = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if name == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here")
        if options.processor_time and name == "cuda":
            raise UserError("--processor-time says nothing about a CUDA device")
        self.device = torch.device(name)
        self.now = time.process_time if options.processor_time else time.perf_counter
        self.report = Report(options.json)
        torch.set_num_threads(self.threads)
        torch.manual_seed(0)

    @property
    def clock(self) -> str:
        return "processor time" if self.now is time.process_time else "wall"

    @property
    def where(self) -> str:
        """The device or the threads, as a row names them."""
        if self.device.type == "cuda":
            return "GPU"
        return f"{self.threads} thread{'s' * (self.threads > 1)}"

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of one call, the device's queue emptied before and after."""
        self.wait()
        began = self.now()
        work()
        self.wait()
        return self.now() - began

    def wait(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def until(self, number: int, of: int) -> float:
        """When piece `number`, counted from 0, ends, of so many that share what is left of the budget: a time of the
        monotonic clock."""
        now = time.monotonic()
        return now + (self.ends - now) / (of - number)

    def in_turn(
        self, ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int, until: float | None = None
    ) -> list[tuple[float, float]]:
        """Seconds of both, pair by pair, each warmed up by one call: so many pairs, or fewer when time runs out, which
        it does at the end of the budget or at `until` on the monotonic clock."""
        ours(), theirs()
        if self.quick:
            return [(self.seconds(ours), self.seconds(theirs))]
        pairs = []
        while len(pairs) < repeats and (len(pairs) < FEWEST_PAIRS or time.monotonic() < (until or self.ends)):
            pairs.append((self.seconds(ours), self.seconds(theirs)))
        return pairs


def say(text: str) -> None:
    """How a benchmark gets on, on standard error."""
    print(text, file=sys.stderr, flush=True)
