"""docs/findings.md, and the lines of it that stand in the README: what held, what did not, what cannot be said here.

    python -m analysis.findings

Written from the committed results alone (`results/reference`), so that no number stands there that no run gave. Of an
experiment that was not run, or of which a part is missing, stands the command that goes on.
"""

import argparse
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.tables.formats import MISSING, pipe_table
from analysis.tables.short import short_table
from common.errors import run
from common.files import read_json, write_text
from common.marked import write_between
from common.wording import counted

if TYPE_CHECKING:
    from analysis.inputs.schemas import Experiment
    from analysis.page.claims import Claim, Claims

REFERENCE, PAGE, README = Path("results/reference"), Path("docs/findings.md"), Path("README.md")
MARKS = "findings"

ASKED = {
    "mini_cpu": "All tables of the first paper, its sisters, and what they leave open, on synthetic sentences.",
    "mini_real": "Tables 1 and 4 on real recordings of six people, too few for verdicts on error rates.",
}
"""The experiments that are to answer, and what they ask."""

INTRODUCTION = """\
# Findings

What held, what did not, and what cannot be said, by experiments at small scale: narrow models, short trainings of equal
steps, a few hours of speech. They speak of these tasks and not of the papers' sizes. Margins stood in
`analysis/claims.yaml` before the first run, and each verdict has its interval, seeds and test words beside it;
half-widths and power stand under Claims in an experiment's tables. Of a claim that makes several comparisons stands the
one with the worst verdict (the least sure of several, of contradicted ones the surest), with the others behind it.
`smoke` is not among these: it shows that all steps work. What was changed after first verdicts stands
[below](#changed-after-first-verdicts). Written by `python -m analysis.findings` from `results/reference`.
"""

CHANGED = """\
## Changed after first verdicts

- A direction (a gain above 0) had been contradicted by an interval below the margin and below what the paper found. An
  interval like that can hold 0, and the same gain would have been borne out with more data. Only losses contradict now:
  "8 (6, 4, 3) wav2vec2 layers do better at depth 12 than all-physical ones" was contradicted four times by that, and is
  open, by gains that are surely smaller than the paper's.
- "By over 20 % relative" had been held against the paper's points, at other WERs, and is held against its share. That
  made a contradicted claim of an open one, with the same numbers.
- A margin that is a share of a WER alone (7.3 %, 20 %) had been taken as a fixed number of points, and has that WER's
  chance: intervals of these claims became longer, no verdict changed.
- Intervals had been over the 60 voices of `mini_cpu`, which have 16 timbres between them, and are over these, which are
  what chance can draw anew: no verdict changed, one part of an open claim did.
- "30 % fewer parameters" had been contradicted by 29.75 %, and is what rounds to it, as 35 % is; as that claim names
  sets that are not here, one of ours asks it of all.
- Memory in training had been called the paper's claim, and is ours; that of the best path lost its part on `f4`, and
  got it back. Bounds of sizes were set to what our formats reach before any system was kept.
"""

HEADINGS = {"reproduced": "Held", "contradicted": "Did not hold"}
COLUMNS, SETTLED = ("claim", "found [95 %]", "on"), "for a power of 80 %"


def write_findings(reference: Path, page: Path, readme: Path) -> None:
    """The page, and the README's lines between their marks. Raises `UserError` where the README has no marks."""
    write_between(readme, MARKS, first_lines(reference))
    write_text(page, findings(reference))


def findings(reference: Path) -> str:
    """The page: one screen for an experiment."""
    parts = [INTRODUCTION]
    for name in _experiments(reference):
        parts.append(f"## `{name}`\n\n" + _section(name, reference, Path("..")))
    return "\n".join([*parts, CHANGED])


def first_lines(reference: Path) -> str:
    """What the README has of it: of every experiment Figure 2, Table 1, and what error rates decided."""
    return "\n".join(
        f"**`{name}`**: " + _section(name, reference, Path(), in_readme=True) for name in _experiments(reference)
    )


def _experiments(reference: Path) -> list[str]:
    """Those that are to answer, then others whose results are there and are evidence."""
    found = sorted(path.parent.name for path in reference.glob("*/claims.json") if read_json(path)["evidence"])
    return [*ASKED, *(name for name in found if name not in ASKED)]


def _section(name: str, reference: Path, above: Path, in_readme: bool = False) -> str:
    """An experiment: what was found, each claim a row with a link to its tables, then what is missing. The README has
    Table 1 of it, and the page what is counted, waits for a verdict or was not tested. Links begin with `above`."""
    folder = reference / name
    if not (folder / "claims.json").exists():
        return f"{ASKED[name]} Not run yet: `make reproduce EXPERIMENT={name}` begins, and goes on after a stop.\n"
    from analysis.inputs.schemas import Experiment  # pydantic: not needed to answer --help
    from analysis.page.claims import Claims
    from analysis.verdicts.outcomes import VERDICTS
    from common.settings import parse

    experiment = parse(Experiment, read_json(folder / "experiment.json"), str(folder / "experiment.json"))
    found = parse(Claims, read_json(folder / "claims.json"), str(folder / "claims.json"))
    links = f"[tables]({above / folder / 'RESULTS.md'}), [every part of every claim]({above / folder / 'claims.csv'})"
    figure = above / folder / "figures/figure2.svg"
    parts = [f"{experiment.title}. {experiment.note}".strip(), f"{_tally(found)} {links}."]
    if (folder / "figures/figure2.svg").exists():
        parts.append(f"![{experiment.rate} against executed depth, {name}]({figure})")
    of = {verdict: [claim for claim in found.claims if claim.verdict == verdict] for verdict in VERDICTS}
    decided = {verdict: of[verdict] for verdict in HEADINGS}
    if in_readme:
        if (rows := folder / "tables/table1.csv").exists():
            parts.append(short_table(rows, experiment.rate, experiment.resampled))
        parts += _decided(decided, True, folder, above)
        parts += _elsewhere(name, of, experiment)
    else:
        parts += _decided(decided, True, folder, above) + _decided(decided, False, folder, above)
        parts += _undecided(of["inconclusive"], of["not tested here"], experiment, folder, above)
    return "\n\n".join([*parts, *_made(name, folder), *_missing(name, folder, experiment, found)]) + "\n"


def _decided(claims: "dict[str, list[Claim]]", recognised: bool, folder: Path, above: Path) -> list[str]:
    """Claims that held or did not, by verdict: those that error rates decided (`recognised`), or the others."""
    where = "" if recognised else ", by what is counted or measured"
    some = {verdict: [claim for claim in each if bool(claim.behind) == recognised] for verdict, each in claims.items()}
    return [
        part for verdict, each in some.items() for part in _rows(f"{HEADINGS[verdict]}{where}", each, folder, above)
    ]


def _elsewhere(name: str, of: "dict[str, list[Claim]]", experiment: "Experiment") -> list[str]:
    """How many claims the page has besides those that the README shows."""
    page, said = f"{PAGE}#{name}", []
    numbers = {HEADINGS[verdict].lower(): sum(not claim.behind for claim in of[verdict]) for verdict in HEADINGS}
    if counted_ones := [f"{number} {heading}" for heading, number in numbers.items() if number]:
        said.append(f"by what is counted or measured {' and '.join(counted_ones)}")
    if some := of["inconclusive"]:
        without = " (intervals over utterances give no verdict)" if experiment.intervals == "utterances" else ""
        said.append(f"{len(some)} inconclusive with their numbers{without}")
    return [f"[On the page]({page}) too: {'; '.join(said)}."] if said else []


def _undecided(
    inconclusive: "list[Claim]", untested: "list[Claim]", experiment: "Experiment", folder: Path, above: Path
) -> list[str]:
    """What waits for a verdict, can have none or was not tested. Of intervals over utterances no number of trainings
    gives a verdict, and the reader must not miss the numbers."""
    if experiment.intervals == "utterances":
        said = _rows("Numbers without verdicts", inconclusive, folder, above)
    else:
        said = _open(inconclusive, folder, above)
    if untested:
        why = f"[each with what it needs]({above / folder / 'RESULTS.md'}#claims)"
        said.append(f"Not tested here, {why}: {', '.join(claim.short for claim in untested)}.")
    return said


def _rows(heading: str, claims: "list[Claim]", folder: Path, above: Path, settled: bool = False) -> list[str]:
    """Claims as a table below their heading; nothing where there are none."""
    return [f"{heading}:\n\n{_claims_table(claims, folder, above, settled)}"] if claims else []


def _open(claims: "list[Claim]", folder: Path, above: Path) -> list[str]:
    """Inconclusive claims: a row each of those that have their trainings, the others with what they show so far."""
    judged, few = ([claim for claim in claims if _waits(claim) == waits] for waits in (False, True))
    said = _rows("Cannot be said here", judged, folder, above, settled=True)
    if any(_power(claim) == MISSING for claim in judged):
        said.append(f"{MISSING}: neither more test words nor more trainings would settle it, if the effect stays.")
    if few:
        numbers = f"[by one training or two]({above / folder / 'RESULTS.md'}#claims)"
        said.append(f"Waiting for further seeds, {numbers}: {'; '.join(map(_so_far, few))}.")
    return said


def _so_far(claim: "Claim") -> str:
    """A claim that waits, in short: `joint w2v2 +2.53 points [+2.21, +2.85], points for`."""
    points = f", points {claim.points}" if claim.points != "neither" else ""
    return f"{claim.short} {claim.effect.measured if claim.effect else MISSING}{points}"


def _tally(found: "Claims") -> str:
    said = ", ".join(f"{number} {verdict}" for verdict, _, number in found.tally)
    return " ".join([f"{said}.", *_kinds(found), *([found.false_ones] if found.false_ones else [])])


def _kinds(found: "Claims") -> list[str]:
    """How many verdicts speak of error rates: what is counted in a model or measured of it needs no training."""
    decided = [claim for claim in found.claims if claim.verdict in ("reproduced", "contradicted")]
    if not decided:
        return []
    of_errors = sum(bool(claim.behind) for claim in decided)
    return [f"Of the {len(decided)} decided, {of_errors} by error rates, the others by what is counted or measured."]


def _claims_table(claims: "list[Claim]", folder: Path, above: Path, settled: bool = False) -> str:
    """Claims as rows: with what decides each and what is behind it; `settled`: and with what would settle it."""
    columns = [(each, False) for each in (*COLUMNS, *([SETTLED] if settled else []))]
    rows = ((*_row(claim, folder, above), *([_power(claim)] if settled else [])) for claim in claims)
    return "\n".join(pipe_table(columns, rows))


def _row(claim: "Claim", folder: Path, above: Path) -> tuple[str, str, str]:
    statement = " ".join([claim.statement, *_where(claim, folder, above)])
    effect = claim.effect
    if effect is None or effect.value is None:
        return statement, MISSING, claim.behind or MISSING
    beside = [
        f"{name} {number:{form}}"
        for name, number, form in (
            ("paper", effect.published, f"{effect.sign}.2f"),
            ("margin", claim.deciding_margin, ".2f"),
            ("bound", None if claim.behind else claim.margin, "g"),
        )
        if number is not None
    ]
    found = f"{effect.name}: {effect.measured}" + f" ({', '.join(beside)})" * bool(beside) + _others(claim)
    return statement, found, claim.behind or MISSING


def _others(claim: "Claim") -> str:
    """What a claim's other comparisons say than the one that stands for it: ` (the others: 2 reproduced)`."""
    found = Counter(part.verdict for part in claim.parts)
    found[claim.verdict] -= 1
    said = [f"{number} {verdict}" for verdict, number in found.items() if number > 0]
    return f" (the others: {', '.join(said)})" if said else ""


def _where(claim: "Claim", folder: Path, above: Path) -> list[str]:
    """The tables that hold its rows."""
    names = [name for name in _tables_of(claim.id) if (folder / "tables" / f"{name}.md").exists()]
    links = [f"[{name}]({above / folder / 'tables' / f'{name}.md'})" for name in names]
    return [f"({', '.join(links)})"] if links else []


@cache
def _rows_of_claims() -> dict[str, tuple[str, ...]]:
    """The rows that each known claim compares, `table1.S1`, by its id."""
    from analysis.verdicts.claims_file import CLAIMS, read_claims

    return {claim.id: tuple(row for _, row, _ in claim.holds_if.rows()) for claim in read_claims(CLAIMS).claims}


def _tables_of(claim: str) -> list[str]:
    return list(dict.fromkeys(row.partition(".")[0] for row in _rows_of_claims().get(claim, ())))


def _power(claim: "Claim") -> str:
    """The words or trainings for a power of 80 %."""
    from analysis.significance.power import shown_ways

    power = claim.power or {}
    words, trainings = claim.words_needed or power.get("words"), claim.seeds_needed or power.get("seeds")
    return shown_ways(words, trainings, claim.score) or MISSING


def _waits(claim: "Claim") -> bool:
    """Whether further trainings alone give a verdict: where speakers are too few none is given."""
    return claim.verdict == "inconclusive" and claim.shown != claim.verdict


def _made(name: str, folder: Path) -> list[str]:
    """By what command the numbers were made, from which commits and on which processors."""
    facts = [read_json(path) for path in sorted(folder.glob("systems/*/seed*/provenance.json"))]
    commits = Counter(
        f"{each['commit'][:7]}{'+' if each.get('modified') else ''}" for each in facts if each.get("commit")
    )
    machines = dict.fromkeys(each.get("processor") or each.get("device") or "an unknown machine" for each in facts)
    if not commits:
        return []
    at = f"commit{'s' if len(commits) > 1 else ''} {', '.join(each for each, _ in commits.most_common())}"
    changed = " (+: with changes)" if any(each.endswith("+") for each in commits) else ""
    return [
        f"{len(facts)} systems, each seed counted, by `make reproduce EXPERIMENT={name}` and its parts, on "
        f"{', '.join(machines)}, at {at}{changed}: each system's `provenance.json` names its own."
    ]


def _missing(name: str, folder: Path, experiment: "Experiment", found: "Claims") -> list[str]:
    """What was not made, with the command that goes on."""
    said = []
    made = {path.stem for shown in ("tables/*.csv", "figures/*.svg") for path in folder.glob(shown)}
    asked = {*experiment.tables, *experiment.figures}
    parts = [part for part, names in experiment.parts.items() if set(names) & asked - made]
    if parts:
        said.append(
            f"Not made: `make reproduce EXPERIMENT={name} ONLY={','.join(parts)}` goes on, in the hours that "
            f"`config/{name}.yaml` plans. Weights of few systems are committed: FRESH=sources lets it train again what "
            "the others stand on."
        )
    if waiting := [claim for claim in found.claims if _waits(claim)]:
        of = {table: part for part, names in experiment.parts.items() for table in names}
        parts = Counter(of.get(table, "") for claim in waiting for table in _tables_of(claim.id)[:1])
        ways = [f"`make reproduce EXPERIMENT={name}{f' ONLY={part}' * bool(part)}` ({parts[part]})" for part in parts]
        wait = "waits" if len(waiting) == 1 else "wait"
        said.append(f"{counted(len(waiting), 'claim')} {wait} for further seeds. What goes on: {', '.join(ways)}.")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.findings", description=__doc__.split("\n\n")[0])
    parser.parse_args()
    write_findings(REFERENCE, PAGE, README)


if __name__ == "__main__":
    sys.exit(run(main))
