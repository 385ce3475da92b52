"""Which systems of a table were kept although something that decides them has changed since they were made."""

from collections.abc import Iterable, Sequence

from analysis.tables.rows import MeasuredRow

WORDS = {"train": "trained", "evaluate": "decoded", "costs of": "measured"}
"""What was done to a system, by what a change was accepted for; all others are studies."""
FEW = 6
"""So many changed files are named."""


def accepted_notes(rows: Iterable[MeasuredRow]) -> list[str]:
    """A note for each change that was accepted, with the shown systems that it was accepted for."""
    systems: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for choice in row.choices:
            facts = row.results.provenance(choice.point.system, choice.point.seed)
            for change in facts.accepted if facts else ():
                key = WORDS.get(change.of, "studied"), in_words(change.difference)
                systems.setdefault(key, {})[choice.point.system] = None
    return [
        f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} {done} before a change that was accepted: {what}."
        for (done, what), names in systems.items()
    ]


def in_words(difference: Sequence[str]) -> str:
    """A difference as one line; of many changed source files the first are named."""
    files = [line.removeprefix("sources: ") for line in difference if line.startswith("sources: ")]
    others = [line for line in difference if not line.startswith("sources: ")]
    more = [f"{len(files) - FEW} more"] if len(files) > FEW else []
    return ", ".join([*others, *([f"sources: {', '.join([*files[:FEW], *more])}"] if files else [])])
