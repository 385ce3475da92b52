"""The matrix of docs/recipe.md, from the log of the trials."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.marked import write_between
from workflows.steps.recipe_trials import read_rows

PAGE = Path("docs/recipe.md")
SYSTEMS = ("a12", "f6", "f4")
Row = dict[str, str]


def write_page(log: Path, page: Path = PAGE) -> None:
    """Put the tables of a log between the page's marks."""
    write_between(page, "trials", tables(read_rows(log)))


def tables(rows: list[Row]) -> str:
    """Tuning, judging and where it ran, as Markdown."""
    parts = ["### Tuned on\n", tuning([row for row in rows if row["conditions"] == "tune"])]
    judged = [row for row in rows if row["conditions"] == "judge"]
    for recipe in _values(judged, "recipe"):
        parts += [f"\n### Judged: `{recipe}`\n", judging([row for row in judged if row["recipe"] == recipe])]
    commits = ", ".join(dict.fromkeys(row["commit"][:7] + row["commit"][40:] for row in rows))
    same = ("conditions", "condition", "system", "seed", "seconds", "quarter_nats_a_token")
    trained = len({tuple(row[key] for key in same) for row in rows})
    parts.append(
        f"\n{trained} trainings, {', '.join(_values(rows, 'processor'))}, commits {commits} (+: with changes).\n"
    )
    return "\n".join(parts)


def tuning(rows: list[Row]) -> str:
    """A line a condition, a column a recipe: blank frames in per cent and nats a token of each system."""
    recipes = _values(rows, "recipe")
    lines = [["condition", "log V", *(f"`{recipe}`" for recipe in recipes)]]
    for condition in _values(rows, "condition"):
        here = [row for row in rows if row["condition"] == condition]
        dense = [row["log_units"] for row in here if row["recipe"] != "word"] or [here[0]["log_units"]]
        cells = [" · ".join(map(_at_a_quarter, _ordered(here, recipe))) for recipe in recipes]
        lines.append([condition, f"{float(dense[0]):.1f}", *cells])
    off = [[row for row in rows if row["recipe"] == recipe] for recipe in recipes]
    lines.append(["off the plateau", "", *(f"{_off(each)} of {len(each)}" for each in off)])
    return _markdown(lines)


def judging(rows: list[Row]) -> str:
    """A line a condition and system: how many seeds left the plateau, the worst seed's numbers, and WERs."""
    lines = [
        ["condition", "system", "off the plateau", "blank % (worst)", "nats a token (worst)", "log V"]
        + ["test WER % deepest", "test WER % seed's depth"]
    ]
    for condition in _values(rows, "condition"):
        for system in SYSTEMS:
            here = [row for row in rows if (row["condition"], row["system"]) == (condition, system)]
            if not here:
                continue
            worst = [max(float(row[name]) for row in here) for name in ("quarter_blank", "quarter_nats_a_token")]
            lines.append(
                [condition, system, f"{_off(here)} of {len(here)}", f"{100 * worst[0]:.0f}", f"{worst[1]:.2f}"]
                + [f"{float(here[0]['log_units']):.2f}", _spread(here, "test_wer_deep")]
                + ["" if system == "a12" else _spread(here, "test_wer_seed")]
            )
    lines.append(["all", "", f"{_off(rows)} of {len(rows)}", "", "", "", "", ""])
    return _markdown(lines)


def _at_a_quarter(row: Row) -> str:
    text = f"{100 * float(row['quarter_blank']):.0f} % {float(row['quarter_nats_a_token']):.1f}"
    return text if row["off_plateau"] == "1" else f"**{text}**"


def _spread(rows: list[Row], name: str) -> str:
    found = sorted(float(row[name]) for row in rows if row[name])
    if not found:
        return ""
    mean = sum(found) / len(found)
    return f"{mean:.1f} ({found[0]:.1f} to {found[-1]:.1f})"


def _off(rows: Iterable[Row]) -> int:
    return sum(row["off_plateau"] == "1" for row in rows)


def _ordered(rows: list[Row], recipe: str) -> list[Row]:
    return sorted((row for row in rows if row["recipe"] == recipe), key=lambda row: SYSTEMS.index(row["system"]))


def _values(rows: Iterable[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _markdown(lines: list[list[Any]]) -> str:
    ruled = [lines[0], [":--"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in ruled)
