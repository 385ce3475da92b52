"""The control of every compression that trains on: the source trained as long, with nothing compressed.

    settings: {source: {system: f6}}

A source that could still improve does so in the steps that a compressed copy of it gets, whatever the compression
does. What the compression costs is the difference from this system, not from the untouched source.
"""

from methods.shared.derived import Derived


class FineTuning(Derived):
    """The source, trained on with its own losses at its own points."""

    kind = "fine-tuned"
