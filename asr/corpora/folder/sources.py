"""What lies at the path that a user names: a table, a Kaldi data folder, a lhotse manifest, or given splits of them."""

from pathlib import Path

from asr.corpora.folder.items import Item
from asr.corpora.folder.kaldi import FILES, is_kaldi, read_kaldi
from asr.corpora.folder.lhotse_manifests import is_manifest, read_cut_manifest, read_pair
from asr.corpora.folder.settings import PAIR, Pair, Settings, Source
from asr.corpora.folder.tables import is_table, read_table
from common.errors import UserError

Found = Path | tuple[Path, Path]
"""A table, a manifest of cuts or a Kaldi data folder; or a manifest of recordings and one of supervisions."""
KINDS = (
    "a .csv or .tsv table, a Kaldi data folder (wav.scp), a lhotse manifest of cuts (.jsonl, .jsonl.gz), or recordings "
    "and supervisions"
)


def read_source(settings: Settings) -> list[Item] | dict[str, list[Item]]:
    """All utterances; or, where splits are given, those of each set.

    Raises `UserError` naming the setting, the file or the line.
    """
    found = find(settings.source)
    if isinstance(found, dict):
        return {name: _read(each, settings) for name, each in found.items()}
    return _read(found, settings)


def source_files(settings: Settings) -> list[Path]:
    """The tables, manifests and files of Kaldi data folders that are read, whether they are there or not: where one of
    them says something else, the corpus is another. Raises `UserError` for a source that is not there."""
    found = find(settings.source)
    return [file for each in (found.values() if isinstance(found, dict) else [found]) for file in _files(each)]


def _files(found: Found) -> list[Path]:
    if isinstance(found, tuple):
        return [*found]
    return [found / name for name in FILES] if found.is_dir() else [found]


def find(source: Source | dict[str, Source]) -> Found | dict[str, Found]:
    """What a source is: one of the kinds, or one for each set. Raises `UserError` for something else."""
    if isinstance(source, dict) and set(source) != PAIR:
        return {name: _one(each) for name, each in source.items()}
    if isinstance(source, str) and (given := _given(Path(source).expanduser())):
        return {name: _one(str(path)) for name, path in given.items()}
    return _one(source)


def _one(source: str | Pair) -> Found:
    if isinstance(source, dict):
        pair = tuple(Path(source[each]).expanduser() for each in sorted(PAIR)) if set(source) == PAIR else ()
        if not pair or not all(path.is_file() for path in pair):
            raise UserError(f"corpus.settings.source: {source}: needs the files {' and '.join(sorted(PAIR))}")
        return pair
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(f"corpus.settings.source: {path}: no such file or folder; name your recordings: {KINDS}")
    if path.is_dir():
        return path if is_kaldi(path) else _inside(path)
    if not (is_table(path) or is_manifest(path)):
        raise UserError(f"corpus.settings.source: {path}: is none of these: {KINDS}")
    return path


def _inside(folder: Path) -> Found:
    """The one table, manifest or pair of manifests in a folder."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    manifests = [path for path in files if is_manifest(path)]
    cuts = [path for path in manifests if "cuts" in path.name]
    pair = [[path for path in manifests if word in path.name] for word in sorted(PAIR)]
    whole = [path for path in files if is_table(path)] + (cuts or manifests)
    if len(whole) == 1:
        return whole[0]
    if not cuts and len(manifests) == 2 and all(len(found) == 1 for found in pair):
        return pair[0][0], pair[1][0]
    here = ", ".join(path.name for path in whole[:5]) or "none of them"
    raise UserError(f"corpus.settings.source: {folder}: holds {here}, not one of these alone; name one: {KINDS}")


def _given(folder: Path) -> dict[str, Path]:
    """Sources of a folder that are named as sets are; none where it has no `train`.

    Raises `UserError` where the dev set or a test set is missing, or two sources have one name.
    """
    if not folder.is_dir() or is_kaldi(folder):
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.partition(".")[0]
        if name not in ("train", "dev") and not name.startswith("test"):
            continue
        if path.is_dir() or is_table(path) or is_manifest(path):
            if name in found:
                raise UserError(f"{folder}: both {found[name].name} and {path.name} are a source of '{name}'; keep one")
            found[name] = path
    if "train" not in found:
        return {}
    if "dev" not in found or len(found) < 3:
        lacking = "'dev'" if "dev" not in found else "a set whose name begins with 'test'"
        raise UserError(
            f"{folder}: has given splits ({', '.join(found)}), but not {lacking}; add it, or name one source without "
            "splits"
        )
    tests = {name: path for name, path in found.items() if name not in ("train", "dev")}
    return {"train": found["train"], "dev": found["dev"], **tests}


def _read(found: Found, settings: Settings) -> list[Item]:
    if isinstance(found, tuple):
        return read_pair(*found, settings)
    if found.is_dir():
        return read_kaldi(found, settings)
    return read_table(found, settings) if is_table(found) else read_cut_manifest(found, settings)
