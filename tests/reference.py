"""Make a finished run the committed reference, and the README's tables those of the reference.

    python -m tests.reference results/smoke

Copies tables, figures, claims, RESULTS.md, experiment and, of each system, provenance, losses, costs and studies; no
models, audio and transcripts. What the README says around its tables (commit, machine, time) is written by hand.
"""

import argparse
import csv
import re
import shutil
from pathlib import Path

README, REFERENCE = Path("README.md"), Path("results/reference/smoke")
KEPT = ("RESULTS.md", "claims.json", "claims.csv", "experiment.json", "figures/*", "tables/*")
KEPT_OF_SYSTEMS = ("provenance.json", "log.jsonl", "measured/costs.json", "sensitivity.json", "weight_errors.json")

SYSTEM = [("sys", "Sys.", "", ""), ("system", "system", "", "")]
LAYERS = [("physical_layers", "physical layers", "", ""), ("depth", "depth", "", "")]
SIZE = [("params_millions", "params M", ".2f", "")]
TABLES = {
    "table1": [
        *SYSTEM,
        *LAYERS,
        *SIZE,
        ("wer", "WER %", ".2f", "star"),
        ("difference", "minus Sys. 1", "+.2f", ""),
        ("published_params_millions", "paper: params M", "", ""),
        ("published_wer", "paper: WER %", "", "published_star"),
    ],
    "table2": [
        *SYSTEM,
        *LAYERS,
        *SIZE,
        ("wer_test_clean", "test_clean", ".2f", "star_test_clean"),
        ("wer_test_noisy", "test_noisy", ".2f", "star_test_noisy"),
        ("published_params_millions", "paper: params M", "", ""),
        ("published_test_clean", "paper: test-clean", "", "published_star_test_clean"),
        ("published_test_other", "paper: test-other", "", "published_star_test_other"),
    ],
    "bits": [
        ("row", "system and depth", "", ""),
        ("bits_a_weight", "bits a weight", ".4g", ""),
        ("stored_bytes", "bytes", ",.0f", ""),
        ("wer", "WER %", ".2f", "star"),
        ("difference", "minus float32", "+.2f", ""),
        ("difference_low", "95 % interval: from", "+.2f", ""),
        ("difference_high", "to", "+.2f", ""),
    ],
}
"""The tables in the README: key, heading, how a number is printed, key of the star beside it."""


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


def shown(name: str, reference: Path = REFERENCE) -> list[list[str]]:
    """The rows of a table as the README has them, the heading first; rows without a WER of ours are left out."""
    with open(reference / "tables" / f"{name}.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["wer"]]
    heading = [heading for _, heading, _, _ in TABLES[name]]
    return [heading, *([_printed(row, key, form, star) for key, _, form, star in TABLES[name]] for row in rows)]


def _printed(row: dict[str, str], key: str, form: str, star: str) -> str:
    value = format(float(row[key]), form) if form and row[key] else row[key] or "–"
    return value + r"\*" * (row.get(star) == "1")


def block(name: str) -> re.Pattern[str]:
    """The lines of a table in the README, between its marks."""
    return re.compile(rf"(?<=<!-- {name}:begin -->\n)(?:\|.*\n)+")


def markdown(name: str, reference: Path = REFERENCE) -> str:
    """A table as it stands in the README."""
    heading, *rows = shown(name, reference)
    words = 1 if heading[0].startswith("system") else 2  # the first columns name the row
    rule = [":--"] * words + ["--:"] * (len(heading) - words)
    lines = ["| " + " | ".join(cells) + " |" for cells in (heading, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]]) + "\n"


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
    text = README.read_text()
    for name in TABLES:
        text = block(name).sub(lambda _, name=name: markdown(name), text)
    README.write_text(with_methods(text))


if __name__ == "__main__":
    main()
