"""Table 1 as pages show it that speak of several experiments: from its CSV, with what a reader needs at first sight."""

import csv
from pathlib import Path

from analysis.tables.formats import MISSING, pipe_table


def short_table(path: Path, rate: str, resampled: str = "speakers") -> str:
    """The rows that have an error rate, below a line that says on what they are. `path`: a table with `difference`s to
    its first row, as `analysis.tables.papers` writes it; `rate`: WER or CER; `resampled`: what its intervals are over.
    Empty where there are none."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["wer"]]
    if not rows:
        return ""
    first = next(iter(rows))["sys"]
    numbers = ["physical layers", "depth", "params M", f"{rate} % [95 %]", f"minus Sys. {first} [95 %]", "seeds"]
    columns = [("Sys.", False), ("system", False), *((each, True) for each in (*numbers, "paper: WER %"))]
    lines = pipe_table(columns, (_cells(row) for row in rows))
    return "\n".join([_said(rows, rate, resampled), "", *lines])


def _cells(row: dict[str, str]) -> list[str]:
    name = [row["sys"], row["system"], row["physical_layers"], row["depth"], f"{float(row['params_millions']):.2f}"]
    difference = _with_interval(row, "difference", "+.2f") if row["difference"] else MISSING
    return [*name, _with_interval(row, "wer", ".2f"), difference, row["seeds"] or "1", _paper(row)]


def _with_interval(row: dict[str, str], key: str, form: str) -> str:
    value, *ends = (row[each] and format(float(row[each]), form) for each in (key, f"{key}_low", f"{key}_high"))
    return f"{value} [{', '.join(ends)}]" if all(ends) else value


def _paper(row: dict[str, str]) -> str:
    return row["published_wer"] + r"\*" * (row["published_star"] == "1") if row["published_wer"] else MISSING


def _said(rows: list[dict[str, str]], rate: str, resampled: str) -> str:
    words = max(int(row["ref_words"]) for row in rows)
    several = any(int(row["seeds"] or 1) > 1 for row in rows)
    over = f"seeds and {resampled}" if several else resampled
    means = "means over seeds, differences over the seeds that both have; " if several else "one training; "
    unit = "words" if rate == "WER" else "characters"
    return (
        f"Table 1 on {words:,} {unit}: {means}intervals over {over}. The paper's numbers are of other data and larger "
        "systems."
    )
