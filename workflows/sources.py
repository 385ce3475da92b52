"""Which source files of this repository a module needs, and what they say, comments and docstrings apart.

Snakemake sees rules, not imported modules. Each rule carries a hash over this, so that editing a method retrains that
method's systems and no others, and editing a comment retrains nothing. Imports are read from the syntax tree; nothing
is executed.
"""

import ast
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterable
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.files import write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "asr", "methods", "baselines", "analysis", "workflows", "tests")

DECIDES_NOTHING = (
    # Errors, safe files, checks of settings: what they let through stands in an identity as settings or as content.
    "common",
    "asr.settings",
    "asr.training_log",
    # What they read and work out is the identity itself; where a result comes from is written down beside it.
    "workflows.experiment",
    "workflows.identity",
    "workflows.accepted",
    "workflows.sources",
    # Which names there are decides whether something is run, not what comes out.
    "methods.names",
    "workflows.provenance",
    "workflows.normaliser",
)
"""Modules whose code is in no hash, and neither is what they alone import."""

REMEMBERED = ROOT / ".snakemake" / "sources.json"

FILE_NAME = re.compile(r"[\w-]+\.[a-z0-9]+")

DISTRIBUTIONS = {
    "av": "av",
    "espnet": "espnet",
    "espnet2": "espnet",
    "espeakng_loader": "espeakng-loader",
    "jinja2": "Jinja2",
    "lhotse": "lhotse",
    "lightning_fabric": "lightning-fabric",
    "matplotlib": "matplotlib",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sentencepiece": "sentencepiece",
    "soundfile": "soundfile",
    "torch": "torch",
    "torchao": "torchao",
    "transformers": "transformers",
    "typeguard": "typeguard",
}
"""Packages that compute, by the name under which they are imported: their versions decide numbers."""


def module_hashes(
    modules: Iterable[str], without: tuple[str, ...] = (), packages: tuple[str, ...] = ()
) -> dict[str, str]:
    """Every file that decides what `modules` do -> a hash of what it says: themselves, everything in this repository
    and in further `packages` that they import, directly or not, and the data files that they name and that lie beside
    them; the modules of `without` and what they alone import left out."""
    files = needed_files(modules, without, packages)
    beside = {other for path in files for other in _source(path).data_beside}
    found = {path: _source(path).code_hash for path in files}
    found |= {path: _short(path.read_bytes()) for path in beside}
    return {_name(path): found[path] for path in sorted(found)}


def file_hashes(patterns: Iterable[str]) -> dict[str, str]:
    """The files that match the patterns -> a hash of their content: templates, claims, word lists.

    Patterns are relative to this repository; an absolute path stands for itself.
    """
    found: set[Path] = set()
    for pattern in patterns:
        elsewhere = Path(pattern)
        if elsewhere.is_absolute():
            found |= {elsewhere} if elsewhere.is_file() else set()
        else:
            found |= {path for path in ROOT.glob(pattern) if path.is_file()}
    return {_name(path): _short(path.read_bytes()) for path in sorted(found)}


def package_versions(
    modules: Iterable[str], without: tuple[str, ...] = (), packages: tuple[str, ...] = ()
) -> dict[str, str]:
    """The packages that compute and that `modules` import, directly or not -> their versions without local labels
    (`2.13.0+cpu` is 2.13.0)."""
    files = needed_files(modules, without, packages)
    names = {name.split(".")[0] for path in files for name in _source(path).imports}
    return {each: _version(each) for each in sorted({DISTRIBUTIONS[name] for name in names & set(DISTRIBUTIONS)})}


@cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def code_hash(text: str) -> str:
    """A hash of what Python source says: of its syntax tree without comments, docstrings and empty fields.

    The tree is written by us, not by `ast.dump`: the fields of a node, and how the text of an f-string is cut, differ
    between Python versions. Equal under 3.11 and 3.12.
    """
    return _tree_hash(ast.parse(text))


def _tree_hash(tree: ast.Module) -> str:
    return _short(repr(_form(tree)).encode())


def _form(node: object) -> object:
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", *_joined(node)]
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *((name, _form(value)) for name, value in fields if name != "kind")]
    if isinstance(node, list):
        return [_form(each) for each in node if not _is_docstring(each)]
    return repr(node)


def _is_docstring(node: object) -> bool:
    """A string that stands as a statement: of a module, a class, a function, or below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _joined(node: ast.JoinedStr) -> list[object]:
    """The parts of an f-string, neighbouring texts put together."""
    parts: list[object] = []
    for value in node.values:
        if not isinstance(value, ast.Constant):
            parts.append(_form(value))
        elif parts and isinstance(parts[-1], str):
            parts[-1] += str(value.value)
        elif value.value:
            parts.append(str(value.value))
    return parts


def needed_files(modules: Iterable[str], without: tuple[str, ...] = (), packages: tuple[str, ...] = ()) -> set[Path]:
    """Files of `modules`, their parent packages, and all modules of this repository and of further `packages` that they
    import, directly or not: without those that decide nothing, the modules of `without`, and what these alone
    import."""
    found: set[Path] = set()
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or _is_one_of(name, (*DECIDES_NOTHING, *without)):
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
        path = module_file(name, packages)
        if path is not None:
            found.add(path)
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += [_absolute(each, package) for each in _source(path).imports]
    return found


def _is_one_of(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in modules)


@cache
def module_file(name: str, packages: tuple[str, ...] = ()) -> Path | None:
    """The file of a module of this repository or of further `packages`, or None (a name inside a module, a package of
    others)."""
    top, *rest = name.split(".")
    if top in PACKAGES:
        base = ROOT.joinpath(top, *rest)
    elif top in {package.split(".")[0] for package in packages} and (found := find_spec(top)) and found.origin:
        base = Path(found.origin).parent.joinpath(*rest)  # the top of a package is found without importing it
    else:
        return None
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _absolute(name: str, package: str) -> str:
    """The module that `name` is for a file in `package`: `..batches` within `mylab.models` is `mylab.batches`."""
    bare = name.lstrip(".")
    if bare == name:
        return name
    parents = package.split(".")
    parents = parents[: len(parents) - (len(name) - len(bare) - 1)]
    return ".".join([*parents, bare] if bare else parents)


class _Source:
    """What one file says, worked out as far as somebody asks; `known` is what was worked out before."""

    def __init__(self, path: Path, known: dict[str, Any] | None):
        self.path = path
        self.known = known

    @cached_property
    def facts(self) -> dict[str, Any]:
        """A hash of the code, the imports, and strings that may name files beside it, as JSON."""
        return self.known or self._worked_out()

    @property
    def code_hash(self) -> str:
        return self.facts["code"]

    @property
    def imports(self) -> list[str]:
        """Modules, and what may be modules, as they are written: relative ones begin with dots."""
        return self.facts["imports"]

    @property
    def data_beside(self) -> set[Path]:
        """Files beside a module that a string in it names: a list of checksums, a word list."""
        return {path for name in self.facts["names"] if (path := self.path.parent / name).is_file()}

    def _worked_out(self) -> dict[str, Any]:
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        imports, names = [], set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imports += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = "." * node.level + (node.module or "")
                dot = "." if node.module else ""
                imports += [origin, *(f"{origin}{dot}{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE_NAME.fullmatch(node.value):
                names.add(node.value)
        return {"code": _tree_hash(tree), "imports": imports, "names": sorted(names)}


def _source(path: Path) -> _Source:
    status = path.stat()
    return _source_of(path, status.st_mtime_ns, status.st_size)


_asked: dict[str, tuple[list[int], _Source]] = {}
"""Every file that this process asked about: as of which time and size, and what it says."""


@cache
def _source_of(path: Path, time: int, size: int) -> _Source:
    """Read once: many systems need the same files. What another command worked out of the same file holds too."""
    as_of, entry = [time, size], _remembered().get(str(path), {})
    source = _Source(path, entry.get("facts") if entry.get("as_of") == as_of else None)
    _asked[str(path)] = as_of, source
    return source


@cache
def _remembered() -> dict[str, Any]:
    """What `remember_sources` wrote; nothing where that was by another version of this file."""
    try:
        found = json.loads(REMEMBERED.read_text(encoding="utf-8"))
        return found["files"] if found["by"] == _version_of_this_file() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def remember_sources() -> None:
    """Write down what all files say that this process asked about, for the commands of a run, each of which would read
    them again. A file whose time or size changed is read again all the same."""
    files = {path: {"as_of": as_of, "facts": source.facts} for path, (as_of, source) in _asked.items()}
    if REMEMBERED.parent.is_dir() and any(_remembered().get(path) != entry for path, entry in files.items()):
        write_json(REMEMBERED, {"by": _version_of_this_file(), "files": files})  # the folder is Snakemake's


def _version_of_this_file() -> str:
    return _short(Path(__file__).read_bytes())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
