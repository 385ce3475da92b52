"""Experiment files and what they extend.

An experiment is `config/<name>.yaml`, or any YAML file given by its path. `extends: other` starts from another
experiment of the same folder and overrides keys (mappings are merged, everything else is replaced; a system, table,
figure or part given as null is left out, and so is a table's row). `extends_only: {systems: [a12, f6]}` names what is
taken of systems, tables, figures or parts where that is little.
"""

from pathlib import Path
from typing import Any

from common.errors import UserError, unknown
from common.files import read_yaml

CONFIG_FOLDER = Path("config")
NO_EXPERIMENTS = ("base", "sisters", "recipe", "questions", "corpora")


def experiment_file(name: str) -> Path:
    """The YAML file of an experiment name or path. Raises `UserError` with the closest name."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.exists():
            raise UserError(f"{path}: no such experiment file")
        return path
    known = sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml") if path.stem not in NO_EXPERIMENTS)
    if name not in known:
        raise unknown("experiment", name, known, "experiment")
    return CONFIG_FOLDER / f"{name}.yaml"


def merged_file(path: Path) -> dict[str, Any]:
    """What an experiment file says, together with those that it extends. Raises `UserError`."""
    merged: dict[str, Any] = {}
    for file, values in reversed(chain_of(path)):
        merged = merge(_only(merged, values.get("extends_only"), file), values)
    merged.pop("extends", None)
    merged.pop("extends_only", None)
    for key in ("families", "systems", "decodes", "tables", "figures", "parts"):
        if isinstance(merged.get(key), dict):  # null leaves out what an extended experiment has
            merged[key] = _without_null(merged[key])
    for table in (merged.get("tables") or {}).values():
        if isinstance(table, dict) and isinstance(table.get("rows"), dict):
            table["rows"] = _without_null(table["rows"])
    return merged


def with_models_of_sources(values: dict[str, Any]) -> dict[str, Any]:
    """An experiment in which a system with a `source`, and no family and no backbone of its own, has the source's."""
    systems = values.get("systems")
    if not isinstance(systems, dict):
        return values

    def completed(name: str, trail: tuple[str, ...] = ()) -> Any:
        entry = systems[name]
        source = source_of(entry.get("settings")) if isinstance(entry, dict) else None
        if source not in systems or source in trail or {"family", "backbone"} & set(entry):
            return entry
        model = completed(source, (*trail, name))
        taken = {key: model[key] for key in ("family", "backbone") if isinstance(model, dict) and key in model}
        return {**entry, **taken}

    return {**values, "systems": {name: completed(name) for name in systems}}


def source_of(settings: Any) -> str | None:
    """The system whose weights, points and losses a derived system takes; None for one that derives from none."""
    source = settings.get("source") if isinstance(settings, dict) else None
    name = source.get("system") if isinstance(source, dict) else None
    return name if isinstance(name, str) else None


def chain_of(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """An experiment file, what it extends, what that extends, and so on: `(file, what it says)`."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if path in [earlier for earlier, _ in chain]:
            raise UserError(f"{path}: extends itself in a circle")
        values = read_yaml(path, "experiment file")
        if not isinstance(values, dict):
            raise UserError(f"{path}: an experiment is a mapping of keys")
        chain.append((path, values))
        if "extends" not in values:
            return chain
        path = path.parent / f"{values['extends']}.yaml"


def merge(base: Any, changes: Any) -> Any:
    """Mappings are merged key by key, everything else is replaced; so is a corpus or backbone of another `name`, or a
    system of another `method`, whose settings are others."""
    if isinstance(base, dict) and isinstance(changes, dict):
        if any(base.get(key) != changes.get(key, base.get(key)) for key in ("name", "method")):
            return changes
        return {**base, **{key: merge(base.get(key), value) for key, value in changes.items()}}
    return changes


LISTED = ("systems", "tables", "figures", "parts")
"""What has names of its own, of which `extends_only` takes some."""


def _only(merged: dict[str, Any], wanted: Any, path: Path) -> dict[str, Any]:
    """What a file that extends `merged` takes of it. Raises `UserError` for a name that is not there."""
    if wanted is None:
        return merged
    where = f"{path}: extends_only"
    if not isinstance(wanted, dict) or not all(isinstance(names, list) for names in wanted.values()):
        raise UserError(f"{where}: a mapping of {', '.join(LISTED)} to lists of names")
    taken = {}
    for key, names in wanted.items():
        if key not in LISTED:
            raise unknown("key", str(key), LISTED, where)
        there = merged.get(key) or {}
        for name in names:
            if name not in there:
                raise unknown("name", str(name), there, f"{where}.{key}")
        taken[key] = {name: entry for name, entry in there.items() if name in names}
    return {**merged, **taken}


def _without_null(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in entries.items() if entry is not None}
