"""How the paths were chosen that stand for the depths of a table: by which rule, where, and on how much speech."""

from collections.abc import Sequence

from analysis.inputs.choice import Choice
from analysis.tables.content import Content

RULE = "A depth with several paths is represented by the path with the median pooled errors (the lower one of an even"


def choice_notes(content: Content) -> list[str]:
    """What the rows' depths with several paths show; nothing where there are none."""
    dev, notes = content.experiment.dev_set, []
    chosen = [(name, choice) for name, row in content.rows.items() for choice in row.choices if choice.how is not None]
    median = [choice for _, choice in chosen if not choice.best]
    if on_dev := [choice for choice in median if choice.how.chosen_on == [dev]]:
        notes.append(
            f"{RULE} number) on the development set '{dev}'{_heard(content, on_dev)}: it was fixed before a test word "
            "was heard. The paper takes that of the test sets."
        )
    if on_test := [choice for choice in median if choice.how.chosen_on != [dev]]:
        notes.append(
            f"{RULE} number), chosen on the test sets as in the paper{_heard(content, on_test)}; where all columns "
            f"stand, beside it is the path that the same rule picks on the development set '{dev}', with its test WER."
        )
    if best := [(name, choice) for name, choice in chosen if choice.best]:
        names = ", ".join(dict.fromkeys(name for name, _ in best))
        heard = _heard(content, [choice for _, choice in best])
        notes.append(f"{names}: the path with the fewest errors on the development set{heard}, not the median one.")
    return notes


def _heard(content: Content, choices: Sequence[Choice]) -> str:
    """By which decode, where that is another than the table's, and on how many utterances."""
    decodes = sorted({choice.how.chosen_by for choice in choices if choice.how.chosen_by} - {content.spec.decode})
    if not decodes:
        return ""
    counts = sorted({choice.how.utterances for choice in choices if choice.how.utterances and not choice.best})
    numbers = " or ".join(f"{count:,}" for count in counts)
    return f" by the decode {' or '.join(decodes)}" + (f", {numbers} utterances" if counts else "")
