"""Numbers with their nouns."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, which is given as one thing: `1 training`, `2 trainings`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
