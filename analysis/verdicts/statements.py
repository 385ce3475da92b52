"""What every predicate of a claim is: the rows and sets that it names, and a verdict from an experiment's evidence."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from analysis.verdicts.evidence import Evidence
from analysis.verdicts.outcomes import NOT_TESTED, NotTestedHere, Outcome
from common.settings import Settings


class Predicate(Settings):
    """One statement. `rows` are all the rows it names, by the key that names them."""

    kind: ClassVar[str]

    def rows(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """`(key, table row, sets that are named for it)` of everything it names."""
        keys = [key for key in ("row", "against", "than", "of") if hasattr(self, key)]
        yield from ((key, getattr(self, key), self.named_sets) for key in keys)

    def outcome(self, evidence: Evidence) -> Outcome:
        """The verdict; *not tested here* where the experiment lacks something."""
        try:
            return self.judged(evidence)
        except NotTestedHere as missing:
            return Outcome(NOT_TESTED, str(missing), name=self.said(evidence))

    @abstractmethod
    def judged(self, evidence: Evidence) -> Outcome:
        """The verdict. Raises `NotTestedHere`."""

    @abstractmethod
    def name(self, evidence: Evidence) -> str:
        """The statement in a few words."""

    @property
    def named_sets(self) -> tuple[str, ...]:
        """The sets that it asks for; none where all test sets are meant, or no set at all."""
        return ()

    @property
    def on(self) -> str:
        """Where it is judged, as sentences end; nothing for all test sets."""
        return f" on {', '.join(self.named_sets)}" if self.named_sets else ""

    def said(self, evidence: Evidence) -> str:
        """The statement, and where it is judged."""
        return self.name(evidence) + self.on
