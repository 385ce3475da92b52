"""Files that are either whole or absent: written beside their place, then renamed.

A reader never sees half a file, and a full disk leaves the earlier file as it was.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import UserError, is_disk_full


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on any error it is removed.

    Raises `UserError` when the disk is full; the earlier file, if there was one, is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are for everybody
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if is_disk_full(error):
            raise UserError(f"{path}: no space left on the disk while saving; the earlier file is unchanged") from error
        raise


@contextlib.contextmanager
def appending(path: Path | str) -> Iterator[None]:
    """For files that grow (logs). Raises `UserError` naming `path` when the disk is full."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise UserError(f"{path}: no space left on the disk while writing; make room and run again") from error
        raise


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, in_order: bool = False) -> None:
    """Write `value` as JSON with sorted keys, so that equal content gives equal bytes; or with its keys in their own
    order, where that says something."""
    write_text(path, json.dumps(value, indent=1, sort_keys=not in_order, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises `UserError` naming the file when it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None


def read_yaml(path: Path | str, what: str = "file") -> Any:
    """Read a YAML file. Raises `UserError` naming the file when it is missing (`what` it should be), is not YAML, or
    says a key of one mapping twice, of which YAML's own reader takes the last."""
    import yaml  # not all that write files read YAML

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
            node, found = super().compose_mapping_node(anchor), set()
            for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key in found:
                    place = f"line {node.start_mark.line + 1}"
                    raise UserError(f"{path}: the mapping that begins in {place} has the key '{key}' twice")
                found.add(key)
            return node

    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such {what}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
