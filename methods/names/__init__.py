"""Which modules may hold a method: the files of `methods/` and `baselines/`, and of packages that the user lists. What
methods share stands in folders there.

A file that names a method, an experiment or the `system.json` of a trained system, names code that is imported and run.
So nothing but a method of this project is taken from it, unless the experiment that is run, or whoever starts the
command, lists the package; a `system.json` cannot. Only file names are read: no method is imported, torch least of all.
"""

import importlib.util
import pkgutil
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

from common.errors import UserError, unknown

ROOT = Path(__file__).resolve().parents[2]
OWN = ("methods", "baselines")


def method_names(packages: Iterable[str] = ()) -> list[str]:
    """Module paths in `methods/`, in `baselines/`, and in further `packages`."""
    folders = {package: [str(ROOT / package)] for package in OWN}
    folders |= {package: _folders(package) for package in packages}
    found = [(package, info) for package, paths in folders.items() for info in pkgutil.iter_modules(paths)]
    return [f"{package}.{info.name}" for package, info in found if package not in OWN or not info.ispkg]


def check_method_exists(name: str, where: str, packages: Iterable[str] = ()) -> None:
    """Raise `UserError` with the closest name unless `name` is a module of ours or of one of `packages`. Imports only
    its parent packages, and nothing of a package that is not listed."""
    packages = tuple(packages)
    if not any(name.startswith(f"{package}.") for package in (*OWN, *packages)):
        error = unknown("method", name, method_names(packages), where)
        raise UserError(
            f"{error}; a method of another package needs that package listed: `packages: [mylab]` in the experiment, "
            "`--package mylab` for a trained system by itself"
        )
    ours = name.startswith(tuple(f"{package}." for package in OWN))
    if name not in method_names() if ours else _spec(name) is None:
        raise unknown("method", name, method_names(packages), where)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _folders(package: str) -> list[str]:
    """Where the modules of a package are; none where there is no such package."""
    spec = _spec(package)
    return [] if spec is None else list(spec.submodule_search_locations or [])
