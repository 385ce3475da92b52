"""What jobs make, and why one would be made again: the words of `workflows.why`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflows.accepted import TRAINED

NEVER_MADE = "not made yet"
SHOWN = 4


@dataclass(frozen=True)
class Product:
    """Something that one job makes: what it is called, where its identity was written down, what it is today."""

    name: str
    made: Path
    """The file without which it is not there."""
    written: dict[str, Any] | None
    """The identity that was written down when it was made."""
    today: dict[str, Any]
    needs: tuple[str, ...] = ()
    """Products that it is made from."""
    folder: Path | None = None
    """Of the system that it is a product of."""
    system: str = ""
    seed: int | None = None
    recorded: dict[str, Any] | None = None
    """As `written`, where a change was accepted since."""

    @property
    def kind(self) -> str:
        """What it is of whatever system: `train`, `costs of`; its name where it belongs to none."""
        return self.name.partition(f" {self.system}, seed ")[0] if self.system else self.name

    @property
    def is_training(self) -> bool:
        return self.kind == TRAINED


@dataclass(frozen=True)
class Reason:
    """Why a product would be made again: what changed of it, or which products it follows."""

    changed: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    missing: bool = False
    needed_by: tuple[str, ...] = ()
    """Products that need its weights, where these are not here."""

    @property
    def is_its_own(self) -> bool:
        """Whether it lies in the product itself, and not in what it is made from."""
        return bool(self.changed or self.needed_by)

    def __str__(self) -> str:
        if self.missing:
            return NEVER_MADE
        if self.needed_by:
            return f"its weights are not here, and {', '.join(self.needed_by[:SHOWN])} needs them"
        parts = list(self.changed[:SHOWN])
        parts += [f"{len(self.changed) - SHOWN} more"] if len(self.changed) > SHOWN else []
        return ", ".join(parts) if parts else f"follows {', '.join(self.follows[:SHOWN])}"


def inputs_name(family: str | None) -> str:
    """What tokenizer and features of a family (None: the experiment's own) are called."""
    return f"inputs of {family}" if family else "inputs"
