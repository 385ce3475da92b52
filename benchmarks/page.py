"""docs/performance.md, and the lines of it that stand in the README."""

from pathlib import Path
from typing import Any

from benchmarks.comparison import FAST
from benchmarks.suite import BENCHMARKS
from common.files import read_json, write_text
from common.marked import write_between

PAGE, README = Path("docs/performance.md"), Path("README.md")
SPEED = "speed"
"""The marks in the README."""

INTRODUCTION = """\
# Performance

    make bench                  # every benchmark, on the CPU: this page
    make bench DEVICE=cuda      # on one GPU, below 25 minutes: its results stand here too
    make bench ONLY=paths_tree  # some of them

Written by `make bench`; the words are in `benchmarks/page.py`. Each benchmark runs ours and a peer on the same work in
one run, in turn (ours, peer, ours, peer, …), so that a machine that is slower for a while is so for both. The ratio is
the median over the pairs, with its extremes in brackets: above 1 ours is faster, or smaller. Where nothing stands in
brackets, something was counted. *To reach* is what was set before measuring; a ratio below it stands here as it was
found. `python -m benchmarks.NAME --help` says what a benchmark does. What it found is kept as JSON in `results/bench/`,
and measured again only for other code or another machine.
"""

NO_GPU = """\
Nothing ran on a GPU, and nothing is claimed for one. `make bench DEVICE=cuda` does all of it on one GPU, in less than
25 minutes, and goes on where it was when it is interrupted; where there is no `make setup`, `python -m benchmarks
--device cuda` runs what the installed packages allow, and says of the rest what is missing.
"""

TRIED = """\
## What was tried and did not help

- torch's own int8 kernel for matrices in 8 bits (`torch._weight_int8pack_mm`): the table has its time; it is not used.
- Log-mel features of a whole padded batch at once, on a CPU: half as fast as utterance by utterance, which stays in the
  caches and computes no padding (one busy core, batches of 24 utterances of 13 s: 1415 against 3083 times real
  time); blocks of fewer frames than an utterance gain nothing more.
- The convolutions of wav2vec2's feature encoder, two thirds of a training step of two layers, as products of matrices
  (512 channels, width 3, stride 2, forward and backward, one thread of an AMD EPYC, processor time): overlapping
  windows as a strided view 0.84 times as fast as torch's convolution, one product a tap and their sum 0.95 times, a
  two-dimensional convolution with channels last 0.64 times.
"""

NOT_YET = "Not measured yet: `make bench`.\n"


def write_page(results: Path) -> None:
    """The page from the results that are there, and its first table into the README."""
    by_device = {device: read_results(results / device) for device in ("cpu", "cuda")}
    write_text(PAGE, page(by_device))
    write_between(README, SPEED, first_lines(by_device))


def read_results(folder: Path) -> list[dict[str, Any]]:
    """In the order of the suite; what was only tried (`--quick`) is left out."""
    paths = [folder / f"{each.name}.json" for each in BENCHMARKS]
    found = [read_json(path) for path in paths if path.exists()]
    return [each for each in found if not each["settings"]["quick"]]


def page(by_device: dict[str, list[dict[str, Any]]]) -> str:
    parts = [INTRODUCTION]
    for device, heading in (("cpu", "## CPU"), ("cuda", "## GPU")):
        results = by_device[device]
        parts.append(heading + "\n")
        if not results:
            parts.append(NO_GPU if device == "cuda" else NOT_YET)
            continue
        parts.append(made_on(results))
        if aimed := table([row for result in results for row in result["rows"] if row["reach"]]):
            parts.append(aimed)
        if others := table([row for result in results for row in result["rows"] if not row["reach"]]):
            parts.append("Others:\n")
            parts.append(others)
        parts += [
            f"- `{each['name']}`: {each['state']}: {each['said']}\n" for each in results if each["state"] != "done"
        ]
        parts += [f"`{each['name']}`:\n\n{each['markdown']}" for each in results if each.get("markdown")]
    return "\n".join([*parts, TRIED])


def first_lines(by_device: dict[str, list[dict[str, Any]]]) -> str:
    """The rows that have something to reach, of each device: lines of the page, each of them."""
    parts = []
    for results in by_device.values():
        if aimed := table([row for result in results for row in result["rows"] if row["reach"]]):
            parts += [made_on(results), aimed]
    return "\n".join(parts) if parts else NOT_YET


def made_on(results: list[dict[str, Any]]) -> str:
    """The machines and commits of results, a line for each."""
    lines = []
    for result in results:
        machine, code = result["machine"], result["code"]
        packages = machine["packages"]
        device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
        commit = (code["commit"] or "unknown")[:7] + (" with changes that no commit holds" if code["modified"] else "")
        lines.append(
            f"{device}{machine['processor']}, {machine['cores']} cores, torch {packages['torch']}, commit {commit}.\n"
        )
    return "".join(dict.fromkeys(lines))


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown; nothing for none."""
    if not rows:
        return ""
    heads = ["what", "against", "ratio", "to reach", "ours", "the peer's", "work"]
    lines = ["| " + " | ".join(heads) + " |", "|:--|:--|:--|--:|--:|--:|:--|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    ratio = _number(row["ratio"])
    if row["repeats"] > 1:
        ratio += f" ({_number(row['low'])} to {_number(row['high'])}, {row['repeats']} pairs)"
    if row["measure"] != FAST:
        ratio += f" {row['measure']}"
    times = ["" if row[key] is None else f"{_number(row[key])} {row['unit']}" for key in ("ours", "theirs")]
    return [row["name"], row["peer"], ratio, "" if row["reach"] is None else _number(row["reach"]), *times, row["work"]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
