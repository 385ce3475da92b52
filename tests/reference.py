"""Make a finished run the committed reference, and the README's numbers of methods those of the reference.

    python -m tests.reference results/smoke

Copies tables, figures, claims, RESULTS.md, experiment and, of each system, provenance, losses, costs and studies; no
models, audio and transcripts. What the README says around them (commit, machine, time) is written by hand.
"""

import argparse
import csv
import shutil
from pathlib import Path

README, REFERENCE = Path("README.md"), Path("results/reference/smoke")
KEPT = ("RESULTS.md", "claims.json", "claims.csv", "experiment.json", "figures/*", "tables/*")
KEPT_OF_SYSTEMS = ("provenance.json", "log.jsonl", "measured/costs.json", "sensitivity.json", "weight_errors.json")

METHODS = {
    "methods.unfolding": ("combined", "f6@12"),
    "methods.allinone": ("allinone", "nested 12 int2"),
    "methods.selfpinching": ("gates", "gate 65"),
    "methods.usmlite": ("usmlite", "int4 2:4"),
    "baselines.fine_tuning": ("combined", "f6@12 tuned"),
    "baselines.magnitude": ("gates", "uniform 65"),
    "baselines.post_training": ("bits", "f6@12 int4"),
    "baselines.distillation": ("baselines", "distilled"),
    "baselines.low_rank": ("baselines", "low rank"),
    "baselines.layer_drop": ("baselines", "layer drop 6"),
    "baselines.intermediate_ctc": ("baselines", "exits 6"),
}
"""The table and the row that stand for a method in the README's list of methods."""


def of_method(name: str, reference: Path = REFERENCE) -> list[str]:
    """Three cells of a method: the row that stands for it, its WER and the row it is compared with, its bytes."""
    table, wanted = METHODS[name]
    with open(reference / "tables" / f"{table}.csv", newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    row, against = rows[wanted], rows.get(rows[wanted]["against"])
    wer = f"{float(row['wer']):.2f}"
    wer += f" ({float(against['wer']):.2f}, {row['against']})" if against else ""
    return [f"{table}: {wanted}", wer, f"{float(row['stored_bytes']):,.0f}"]


def with_methods(text: str, reference: Path = REFERENCE) -> str:
    """The README with these cells in the lines of its list of methods."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        cells = line.split(" | ")
        if (name := cells[0].strip("| `")) in METHODS and len(cells) == 7:
            lines[number] = " | ".join([*cells[:3], *of_method(name, reference), cells[6]])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.reference", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="results/smoke")
    run = parser.parse_args().run
    shutil.rmtree(REFERENCE, ignore_errors=True)
    found = [path for pattern in KEPT for path in run.glob(pattern)]
    found += [path for name in KEPT_OF_SYSTEMS for path in run.glob(f"systems/*/seed*/{name}")]
    for path in found:
        target = REFERENCE / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    README.write_text(with_methods(README.read_text()))


if __name__ == "__main__":
    main()
