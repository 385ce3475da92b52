"""Lines of a page that a command writes, between `<!-- name:begin -->` and `<!-- name:end -->`."""

import re
from pathlib import Path

from common.errors import UserError
from common.files import write_text


def lines_between(path: Path, name: str) -> str:
    """The lines that stand between the marks. Raises `UserError` where the page has none."""
    found = _between(name).search(path.read_text(encoding="utf-8"))
    if found is None:
        raise UserError(f"{path}: the marks <!-- {name}:begin --> and <!-- {name}:end --> are missing")
    return found[0]


def write_between(path: Path, name: str, lines: str) -> None:
    """Put `lines`, the last one ended, in their place. Raises `UserError` where the page has no marks."""
    lines_between(path, name)
    write_text(path, _between(name).sub(lambda _: lines, path.read_text(encoding="utf-8")))


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name}:begin -->\n).*?(?=<!-- {name}:end -->)", re.DOTALL)
