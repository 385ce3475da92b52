"""Which modules may hold a method. Only file names are read: nothing is imported, torch least of all."""

import importlib.util
import pkgutil
from pathlib import Path

from common.errors import unknown

ROOT = Path(__file__).resolve().parent.parent
HELPERS = ("methods.contract", "methods.names", "methods.paths", "methods.start")


def method_names() -> list[str]:
    """Module paths in `methods/` and `baselines/`."""
    names = []
    for package in ("methods", "baselines"):
        names += [f"{package}.{info.name}" for info in pkgutil.iter_modules([str(ROOT / package)])]
    return [name for name in names if name not in HELPERS]


def check_method_exists(name: str, where: str) -> None:
    """Raise `UserError` with the closest name unless there is a module `name`. Imports only its parent packages."""
    try:
        found = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        found = False
    if not found or name in HELPERS:
        raise unknown("method", name, method_names(), where)
