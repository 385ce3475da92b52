"""How paths are written: repeat counts, one for each physical layer. What may be done with them is `methods.paths`."""

from collections.abc import Iterable, Sequence

from common.errors import UserError

Path = tuple[int, ...]


def parse_path(value: str | Sequence[int]) -> Path:
    """Read a path from `"1 1 2 2"` or a list of counts."""
    try:
        return tuple(int(count) for count in (value.split() if isinstance(value, str) else value))
    except (TypeError, ValueError):
        raise UserError(f"'{value}' is not a path; a path is written as repeat counts, for example '1 1 2 2'") from None


def format_path(path: Iterable[int]) -> str:
    """Write a path as repeat counts: `1 1 2 2`."""
    return " ".join(str(count) for count in path)
