"""Which source files of this repository a module needs, and one hash over them.

Snakemake sees rules, not imported modules. Each rule carries this hash as a parameter, so that editing a method
retrains that method's systems and no others. Imports are read from the syntax tree; nothing is executed.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "asr", "methods", "baselines", "analysis", "workflows", "tests")


def sources_hash(*modules: str) -> str:
    """SHA-256 over the files of `modules` and everything in this repository that they import, by content."""
    return _hash({path for module in modules for path in needed_files(module)})


def files_hash(*patterns: str) -> str:
    """SHA-256 over the names and contents of the files that match the patterns: templates, say.

    Patterns are relative to this repository; an absolute path stands for itself.
    """
    found: set[Path] = set()
    for pattern in patterns:
        elsewhere = Path(pattern)
        if elsewhere.is_absolute():
            found |= {elsewhere} if elsewhere.is_file() else set()
        else:
            found |= set(ROOT.glob(pattern))
    return _hash(found)


def _hash(paths: set[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def needed_files(module: str) -> set[Path]:
    """Files of `module`, its parent packages, and all local modules that they import, directly or not."""
    found: set[Path] = set()
    waiting = [module]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
        path = module_file(name)
        if path is not None:
            found.add(path)
            waiting += _imports(path)
    return found


def module_file(name: str) -> Path | None:
    """The file of a local module, or None (a name inside a module, a package of others)."""
    if name.split(".")[0] not in PACKAGES:
        return None
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _imports(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)
