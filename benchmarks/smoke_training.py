"""Train one system of `smoke` with every method, in float32 and in bf16, and say what differs from the run on a CPU.

    python -m benchmarks.smoke_training                     on this machine's GPU
    python -m benchmarks.smoke_training --device cpu --quick    two systems of the tests' tiny experiment

Snakemake makes the systems, and those that they stand on, by the rules of `make reproduce`, several beside each other
on one device: data, training, sensitivity where it is needed, decoding. The same systems in `results/smoke`, made by
`make reproduce` on a CPU, or else the committed reference run, are what they are compared with: loss of the last
validation, WER of the deepest trained point over all test sets, and seconds of training. What is there is not made
again: a run that was cut off goes on.
"""

import contextlib
import csv
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from analysis.scoring.alignment import align
from analysis.scoring.counts import Counts
from analysis.scoring.trn import read_trn
from benchmarks.comparison import FAST, Bench, Row, counted, parser, say
from common.errors import UserError, run
from common.files import read_json, write_text
from workflows.experiment.merging import CONFIG_FOLDER, merged_file
from workflows.provenance import ROOT

PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}
PREFERRED = ("a12", "f6", "f8_only_f_path", "aio", "a12_gate65", "a12_usm_int4_24", "a12_uniform65")
"""Of the systems with one method the one that is trained; the first of the experiment where none is named here."""
FURTHER = ("foundation_ctc",)
"""A speech encoder that recognises: all methods above are seen on the Conformer."""
AT_ONCE = 6
"""Jobs on one device: small models leave most of it idle."""
TINY = Path("tests/workflows/tiny.yaml")
RUNS = (Path("results/smoke"), Path("results/reference/smoke"))


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run says of a system; None: nothing."""

    method: str
    loss: float | None
    wer: float | None
    seconds: float | None


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("smoke_training", __doc__)
    options.add_argument("--folder", type=Path, help="of the runs; default: results/bench/<device>/training")
    options.add_argument("--at-once", type=int, default=AT_ONCE, help="jobs beside each other; default %(default)s")
    options.add_argument("--compare", type=Path, nargs="+", default=RUNS, help="runs on a CPU; the first that is there")
    arguments = options.parse_args(argv)
    bench = Bench(arguments)
    folder = arguments.folder or Path("results/bench") / bench.device.type / "training"
    merged = merged_file(TINY if bench.quick else CONFIG_FOLDER / "smoke.yaml")
    systems = ["a4", "f2"] if bench.quick else one_of_each_method(merged["systems"])
    place, reference = first_run([] if bench.quick else arguments.compare, systems)
    for number, (name, precision) in enumerate(PRECISIONS.items()):
        until = bench.until(number, len(PRECISIONS))
        finished = make(bench, merged, precision, folder, f"smoke_{name}", systems, until, arguments.at_once)
        found = {system: read_system(folder / f"smoke_{name}", system) for system in systems}
        found = {system: trained for system, trained in found.items() if trained}
        bench.report.say(f"{name}; *there* is {place}:\n\n{table(found, reference)}\n")
        bench.report.add(*seconds_row(found, reference, name, place, f"{arguments.at_once} at once, {bench.where}"))
        if not finished:
            say(f"{name}: {len(found)} of {len(systems)} systems are trained; run it again to go on")
    return bench.report.rows


def one_of_each_method(systems: dict[str, Any]) -> list[str]:
    """Names of systems that together have every method, in the experiment's order."""
    chosen: dict[str, str] = {}
    for name in (*PREFERRED, *systems):
        if name in systems:
            chosen.setdefault(systems[name]["method"], name)
    return [name for name in systems if name in (*chosen.values(), *FURTHER)]


def make(
    bench: Bench,
    merged: dict[str, Any],
    precision: str,
    folder: Path,
    name: str,
    systems: Sequence[str],
    until: float,
    at_once: int,
) -> bool:
    """Have the systems trained and decoded in one precision; False when time ran out first. Raises `UserError` with
    Snakemake's last words when a job fails."""
    experiment = folder / f"{name}.yaml"
    text = yaml.safe_dump({**merged, "training": {**merged["training"], "precision": precision}}, sort_keys=False)
    if not experiment.exists() or experiment.read_text() != text:
        write_text(experiment, text)
    targets = [f"{folder}/{name}/systems/{system}/seed0/eval/points.json" for system in systems]
    command = [sys.executable, "-m", "snakemake", "--nolock", "--cores", str(at_once), "--rerun-incomplete"]
    command += ["--config", f"experiment={experiment}", f"results={folder}", f"systems={','.join(systems)}"]
    hidden = {} if bench.device.type == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **hidden, "FOLDBENCH_JOBS_A_DEVICE": str(at_once)}
    log = folder / f"{name}.log"
    with open(log, "wb") as said:
        streams = {"stdout": said, "stderr": subprocess.STDOUT}
        process = psutil.Popen([*command, "--", *targets], cwd=ROOT, env=environment, **streams)
        try:
            status = process.wait(max(1.0, until - time.monotonic()))
        except psutil.TimeoutExpired:
            for each in (*process.children(recursive=True), process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()
            return False
    if status:
        lines = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line]
        raise UserError(f"{name}: {lines[0].strip() if lines else f'Snakemake ended with {status}'} ({log})")
    return True


def first_run(folders: Sequence[Path], systems: Sequence[str]) -> tuple[str, dict[str, Trained]]:
    """The first folder with a run that knows some of the systems, and what it says of them."""
    for folder in folders:
        found = {system: read_system(folder, system) for system in systems}
        if any(found.values()):
            return str(folder), {system: trained for system, trained in found.items() if trained}
    return "no run on a CPU", {}


def read_system(folder: Path, system: str) -> Trained | None:
    """What a run's folder says of a system; None where it has not been trained."""
    place = folder / "systems" / system / "seed0"
    if not (place / "provenance.json").exists():
        return None
    provenance = read_json(place / "provenance.json")
    method, seconds = provenance["configuration"]["method"], provenance.get("wall_seconds")
    return Trained(method, last_loss(place / "log.jsonl"), deepest_wer(folder, system), seconds)


def last_loss(path: Path) -> float | None:
    """The total loss of the last validation."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return next((row["dev.total"] for row in reversed(rows) if "dev.total" in row), None)


def deepest_wer(folder: Path, system: str) -> float | None:
    """WER in percent of the deepest trained point (or the deepest, where none is), all test sets pooled, decoded
    greedily: from transcripts, or, where a run keeps none, from its table of points."""
    decoded = folder / "systems" / system / "seed0" / "eval"
    if (decoded / "points.json").exists():
        return _from_transcripts(decoded, sorted(folder.glob("data/*/test*.trn")))
    points = folder / "tables" / "points.csv"
    if not points.exists():
        return None
    with open(points, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == system and row["decode"] == "greedy"]
    rows = [row for row in rows if row["set"].startswith("test")]
    rows = [row for row in rows if row["trained"] == "1"] or rows
    deepest = max(rows, key=lambda row: int(row["depth"] or 0), default={"point": None})["point"]
    counts = [Counts(*(int(row[key]) for key in ("sub", "del", "ins", "ref_words"))) for row in rows]
    return sum((each for each, row in zip(counts, rows, strict=True) if row["point"] == deepest), Counts.zero()).wer


def _from_transcripts(decoded: Path, references: Sequence[Path]) -> float | None:
    points = read_json(decoded / "points.json")["points"]
    total = Counts.zero()
    for point in sorted(points, key=lambda point: (not point["trained"], -(point["depth"] or 0))):
        for reference in references:
            heard = decoded / "greedy" / reference.stem / f"{point['id']}.trn"
            if heard.exists():
                total += align(read_trn(reference), read_trn(heard)).counts
        if total.ref_words:
            return total.wer
    return None


def table(found: dict[str, Trained], reference: dict[str, Trained]) -> str:
    """Markdown: each system here and there."""
    heads = ["system", "method", "dev loss", "there", "WER %", "there", "seconds", "there"]
    lines = ["| " + " | ".join(heads) + " |", "|:--|:--|" + "--:|" * 6]
    for system, ours in found.items():
        there = reference.get(system) or Trained("", None, None, None)
        pairs = [(ours.loss, there.loss, ".4f"), (ours.wer, there.wer, ".2f"), (ours.seconds, there.seconds, ".0f")]
        cells = ["–" if value is None else format(value, form) for *both, form in pairs for value in both]
        lines.append(f"| {system} | `{ours.method}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def seconds_row(
    found: dict[str, Trained], reference: dict[str, Trained], precision: str, place: str, where: str
) -> list[Row]:
    """Seconds of training of all systems that both have."""
    both = [(ours.seconds, reference[name].seconds) for name, ours in found.items() if name in reference]
    both = [(ours, theirs) for ours, theirs in both if ours and theirs]
    if not both:
        return []
    ours, theirs = (sum(side) for side in zip(*both, strict=True))
    name = f"training of {len(both)} systems of `smoke`, {precision}"
    times = {"ours": ours, "theirs": theirs, "unit": "s"}
    return [counted(name, f"on a CPU ({place})", theirs / ours, f"sum of their seconds, {where}", FAST, **times)]


if __name__ == "__main__":
    sys.exit(run(main))
