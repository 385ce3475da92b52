"""Which systems of a table were kept although something that decides them has changed since they were trained."""

from collections.abc import Iterable

from analysis.tables.rows import MeasuredRow


def accepted_notes(rows: Iterable[MeasuredRow]) -> list[str]:
    """A note for each shown system and each change that was accepted for it."""
    notes = []
    for row in rows:
        for choice in row.choices:
            facts = row.results.provenance(choice.point.system, choice.point.seed)
            for change in facts.accepted if facts else ():
                what = ", ".join(change.difference)
                notes.append(f"{choice.point.system} was trained before a change that was accepted: {what}.")
    return list(dict.fromkeys(notes))
