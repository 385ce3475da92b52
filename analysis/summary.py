"""Print what an experiment found, from what the analysis wrote: the answers, the main tables, where the rest stands.

    python -m analysis.summary --experiment-folder results/smoke
    python -m analysis.summary --experiment-folder results/smoke --only sisters      the tables of a part

Reads CSV and text only, so it answers at once.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError, run
from common.files import read_json

PAPERS = {"published_params_millions": "paper: params M", "published_wer": "paper: WER %", "published_star": ""}
COLUMNS = {
    "table1": {
        "sys": "Sys.",
        "system": "system",
        "depth": "depth",
        "params_millions": "params M",
        "wer": "WER %",
        "star": "",
        **PAPERS,
    },
    "table3": {"method": "method", "system": "system", "params_millions": "params M", "wer": "WER %", **PAPERS},
    "table4": {
        "sys": "Sys.",
        "system": "system",
        "depth": "depth",
        "how": "how",
        "wer": "WER %",
        "star": "",
        "published_wer": "paper: WER %",
    },
    "systems": {
        "row": "row",
        "bits_a_weight": "bits a weight",
        "stored_bytes": "bytes",
        "wer": "WER %",
        "star": "",
        "against": "against",
        "difference": "minus it",
    },
}
"""Of a table's kind: column to heading. A Table 2 has those of its sets."""
SHOWN = ("table1", "table2")
"""The kinds of tables that are printed unless tables are asked for; where there are none, all are."""
WHOLE, BESIDE = "all", "ours beside the paper's"


def asked_tables(tables: Mapping[str, Any], parts: Mapping[str, Sequence[str]], only: str, systems: str) -> list[str]:
    """The tables that a run was asked for by name, by their part, or by a system in their rows; the main ones where it
    was asked for none of these."""
    named, shown = ([name.strip() for name in text.split(",") if name.strip()] for text in (only, systems))
    if WHOLE in named or not (named or shown):
        return [name for name, table in tables.items() if table["kind"] in SHOWN] or [*tables]
    names = {name for each in named for name in parts.get(each, [each])}
    rows = {name: {row["system"] for row in table["rows"].values()} for name, table in tables.items()}
    return [name for name, table in tables.items() if name in names or rows[name].intersection(shown)]


def main_table(path: Path, kind: str) -> str:
    """The most telling columns of a table, aligned for a terminal."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = COLUMNS[kind] if kind in COLUMNS else columns_by_set(reader.fieldnames or [])
        cells, rate = [*reader], "cer" if "cer" in (reader.fieldnames or []) else "wer"
    if rate == "cer":
        columns = {"cer" if key == "wer" else key: heading.replace("WER", "CER") for key, heading in columns.items()}
    if len({row["seeds"] for row in cells if row.get("seeds")}) > 1:
        columns = {**_up_to(columns, rate), "seeds": "seeds", **columns}
    rows = [[_shown(key, row.get(key, ""), _compared(row)) for key in columns] for row in cells]
    rows.insert(0, [*columns.values()])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    against = "what it stands against" if kind == "systems" else "the reference system"
    return "\n".join([*lines, f"* no significant increase over {against} (MAPSSWE, p < 0.05)"])


def columns_by_set(keys: Sequence[str]) -> dict[str, str]:
    """The columns of a Table 2 with their headings: each set has a WER in percent and a star."""
    columns = {key: COLUMNS["table1"][key] for key in ("sys", "system", "depth", "params_millions")}
    for before, heading in (("", ""), ("published_", "paper ")):
        for name in (key.removeprefix(f"{before}star_") for key in keys if key.startswith(f"{before}star_")):
            wer = f"wer_{name}" if not before else f"{before}{name}"
            columns |= {wer: f"{heading}{name}", f"{before}star_{name}": ""}
    return columns


def _up_to(columns: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The columns up to the last one of ours whose key begins so."""
    keys = [*columns]
    last = max(place for place, key in enumerate(keys) if key.startswith(prefix))
    return {key: columns[key] for key in keys[: last + 1]}


def _compared(row: Mapping[str, str]) -> int:
    """Over how many seeds a row is compared."""
    return len(row.get("seeds_compared", "").split())


def _shown(key: str, value: str, seeds: int) -> str:
    if "star" in key.split("_"):
        if not key.startswith("published_") and value and seeds > 1:
            return f"{'*' if int(value) else ''} {value}/{seeds}"  # in how many of them
        return "*" if value == "1" else " "
    if key == "bits_a_weight" and value:
        return f"{float(value):.4g}"
    ours = key in ("params_millions", "difference") or key.startswith(("wer", "cer"))
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
    parser.add_argument("--only", default="", metavar="NAMES", help="tables, figures and parts that were asked for")
    parser.add_argument("--systems", default="", metavar="NAMES", help="systems that were asked for")
    arguments = parser.parse_args()
    folder = arguments.experiment_folder

    from analysis.inputs.made import not_made, read_made, shown_part
    from analysis.inputs.schemas import Experiment
    from common.settings import parse

    experiment, summary = read_json(folder / "experiment.json"), folder / "RESULTS.md"
    if not summary.exists():
        raise UserError(f"{summary}: no such file; the analysis has not been run")
    whole, made = parse(Experiment, experiment, str(folder / "experiment.json")), read_made(folder)
    shown = shown_part(whole, made).tables
    tables = experiment.get("tables", {})
    for name in asked_tables(tables, experiment.get("parts", {}), arguments.only, arguments.systems):
        if name in shown:
            table = tables[name]
            print(f"{name} of {experiment['name']}, {table.get('title') or BESIDE}")
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
