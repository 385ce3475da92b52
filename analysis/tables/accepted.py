"""Which systems of a table were kept although something that decides them has changed since they were made."""

from collections.abc import Iterable, Sequence

from analysis.tables.rows import MeasuredRow

WORDS = {"train": "trained", "evaluate": "decoded", "costs of": "measured"}
"""What was done to a system, by what a change was accepted for; all others are studies."""
FEW = 6
"""So many changed files are named."""


def accepted_notes(rows: Iterable[MeasuredRow]) -> list[str]:
    """A note for each thing that is done to systems, where changes were accepted for it: with the shown systems that
    they were accepted for, and what changed for any of them."""
    systems: dict[str, dict[str, None]] = {}
    changed: dict[str, list[Sequence[str]]] = {}
    for row in rows:
        for choice in row.choices:
            facts = row.results.provenance(choice.point.system, choice.point.seed)
            # A difference counts from when the system was made: the last one holds those before it.
            last = {change.of: change.difference for change in (facts.accepted if facts else ())}
            for of, difference in last.items():
                done = WORDS.get(of, "studied")
                systems.setdefault(done, {})[choice.point.system] = None
                changed.setdefault(done, []).append(difference)
    return [_note(done, list(names), changed[done]) for done, names in systems.items()]


def _note(done: str, systems: Sequence[str], differences: Iterable[Sequence[str]]) -> str:
    different = dict.fromkeys(tuple(each) for each in differences)
    what = in_words(list(dict.fromkeys(line for difference in different for line in difference)))
    said = f"{', '.join(systems)} {'was' if len(systems) == 1 else 'were'} {done} before"
    if len(different) == 1:
        return f"{said} a change that was accepted: {what}."
    return f"{said} changes that were accepted, not all of them before each (see provenance.json): {what}."


def in_words(difference: Sequence[str]) -> str:
    """A difference as one line; of many changed source files the first are named."""
    files = [line.removeprefix("sources: ") for line in difference if line.startswith("sources: ")]
    others = [line for line in difference if not line.startswith("sources: ")]
    more = [f"{len(files) - FEW} more"] if len(files) > FEW else []
    return ", ".join([*others, *([f"sources: {', '.join([*files[:FEW], *more])}"] if files else [])])
