"""Methods by their names."""

import importlib
from collections.abc import Mapping, Sequence
from inspect import isabstract
from typing import Any

from asr.backbones import BackboneFactory
from common.errors import UserError
from common.settings import parse
from methods.contract.method import Method, TrainedSystem
from methods.names import check_method_exists


def load_method(name: str, where: str, packages: Sequence[str] = ()) -> type[Method]:
    """The one `Method` subclass that module `name` defines, a module of this project or of one of `packages`. Raises
    `UserError` with the closest name."""
    check_method_exists(name, where, packages)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"{where}: method '{name}' needs the package '{error.name}', which is not installed") from error
    except Exception as error:  # somebody's file: whatever is wrong with it is said as what is wrong with this method
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{where}: method '{name}' cannot be imported ({reason})") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == name and not isabstract(value)
    ]
    if len(found) != 1:
        raise UserError(f"{where}: module '{name}' defines {len(found)} subclasses of Method; it must define one")
    return found[0]


def make_method(
    name: str,
    settings: dict[str, Any],
    backbone: BackboneFactory,
    inputs: Mapping[str, TrainedSystem] | None = None,
    where: str = "method",
    packages: Sequence[str] = (),
) -> Method:
    """A method with validated settings. Raises `UserError` naming `where` and the key."""
    kind = load_method(name, where, packages)
    config = parse(kind.Config, settings, f"{where}: settings")
    try:
        method = kind(config, backbone, inputs)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    method.packages = tuple(packages)
    return method
