"""Print what an experiment found, from what the analysis wrote: the answers, the main tables, where the rest stands.

    python -m analysis.summary --experiment-folder results/smoke

Reads CSV and text only, so it answers at once.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
SHOWN = ("table1", "table2")
"""The kinds of tables that are printed."""


def main_table(path: Path, kind: str) -> str:
    """The most telling columns of a Table 1 or 2, aligned for a terminal."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = COLUMNS if kind == "table1" else columns_by_set(reader.fieldnames or [])
        rows = [[_shown(key, row.get(key, ""), row.get("seeds", "")) for key in columns] for row in reader]
    rows.insert(0, [*columns.values()])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "* no significant increase over the reference system (MAPSSWE, p < 0.05)"])


def columns_by_set(keys: Sequence[str]) -> dict[str, str]:
    """The columns of a Table 2 with their headings: each set has a WER in percent and a star."""
    columns = {key: COLUMNS[key] for key in ("sys", "system", "depth", "params_millions")}
    for before, heading in (("", ""), ("published_", "paper ")):
        for name in (key.removeprefix(f"{before}star_") for key in keys if key.startswith(f"{before}star_")):
            wer = f"wer_{name}" if not before else f"{before}{name}"
            columns |= {wer: f"{heading}{name}", f"{before}star_{name}": ""}
    return columns


def _shown(key: str, value: str, seeds: str) -> str:
    if "star" in key.split("_"):
        if not key.startswith("published_") and value and int(seeds) > 1:
            return f"{'*' if int(value) else ''} {value}/{seeds}"  # in how many of them
        return "*" if value == "1" else " "
    ours = key == "params_millions" or key.startswith("wer")
    return f"{float(value):.2f}" if ours and value else value


def families(experiment: dict[str, Any], table: dict[str, Any]) -> list[str]:
    """What the models of a table are, a line for each family that occurs in it."""
    systems = [experiment["systems"].get(row["system"], {}) for row in table["rows"].values()]
    names = dict.fromkeys(system.get("family") for system in systems)
    return [f"{name} systems: {experiment['families'][name]['title']}" for name in names if name is not None]


def answers(path: Path) -> list[str]:
    """The lines of RESULTS.md that say whether deeper is better."""
    section = path.read_text(encoding="utf-8").partition("## Is deeper better?")[2].partition("\n## ")[0]
    return [line.removeprefix("- ") for line in section.splitlines() if line.startswith("- ")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.summary", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    folder = parser.parse_args().experiment_folder

    from analysis.inputs.made import not_made, read_made, shown_part
    from analysis.inputs.schemas import Experiment
    from common.settings import parse

    experiment, summary = read_json(folder / "experiment.json"), folder / "RESULTS.md"
    if not summary.exists():
        raise UserError(f"{summary}: no such file; the analysis has not been run")
    whole, made = parse(Experiment, experiment, str(folder / "experiment.json")), read_made(folder)
    shown = shown_part(whole, made).tables
    for name, table in experiment.get("tables", {}).items():
        if table["kind"] in SHOWN and name in shown:
            print(f"{name} of {experiment['name']}, ours beside the paper's")
            print(main_table(folder / "tables" / f"{name}.csv", table["kind"]))
            for line in families(experiment, table):
                print(line)
    print(*answers(summary), sep="\n")
    if not experiment.get("evidence"):
        print("These numbers show that the machinery works; they are no evidence about the method.")
    if lacking := not_made(whole, made):
        print(lacking)
    report = folder / "report.html"
    print(f"Everything: {f'{report} and ' if report.exists() else ''}{summary}")


if __name__ == "__main__":
    sys.exit(run(main))
