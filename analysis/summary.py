"""Print what an experiment found, from what the analysis wrote: the answers, the main table, where the rest stands.

    python -m analysis.summary --experiment-folder results/smoke

Reads CSV and text only, so it answers at once.
"""

import argparse
import csv
import sys
from pathlib import Path

from common.errors import UserError, run
from common.files import read_json

COLUMNS = {
    "sys": "Sys.",
    "system": "system",
    "depth": "depth",
    "params_millions": "params M",
    "wer": "WER %",
    "star": "",
    "published_params_millions": "paper: params M",
    "published_wer": "paper: WER %",
    "published_star": "",
}


def main_table(path: Path) -> str:
    """The most telling columns of a Table 1, aligned for a terminal."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [[_shown(key, row.get(key, "")) for key in COLUMNS] for row in csv.DictReader(file)]
    rows.insert(0, [*COLUMNS.values()])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, "* no significant increase over the reference system (MAPSSWE, p < 0.05)"])


def _shown(key: str, value: str) -> str:
    if key in ("star", "published_star"):
        return "*" if value == "1" else " "
    return f"{float(value):.2f}" if key in ("wer", "params_millions") and value else value


def answers(path: Path) -> list[str]:
    """The lines of RESULTS.md that say whether deeper is better."""
    section = path.read_text(encoding="utf-8").partition("## Is deeper better?")[2].partition("\n## ")[0]
    return [line.removeprefix("- ") for line in section.splitlines() if line.startswith("- ")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.summary", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    folder = parser.parse_args().experiment_folder

    experiment, summary = read_json(folder / "experiment.json"), folder / "RESULTS.md"
    if not summary.exists():
        raise UserError(f"{summary}: no such file; the analysis has not been run")
    for name, table in experiment.get("tables", {}).items():
        if table["kind"] == "table1":
            print(f"{name} of {experiment['name']}, ours beside the paper's")
            print(main_table(folder / "tables" / f"{name}.csv"))
    print(*answers(summary), sep="\n")
    if not experiment.get("evidence"):
        print("These numbers show that the machinery works; they are no evidence about the method.")
    report = folder / "report.html"
    print(f"Everything: {f'{report} and ' if report.exists() else ''}{summary}")


if __name__ == "__main__":
    sys.exit(run(main))
