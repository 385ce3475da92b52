"""What a prepared set holds, known by content: one digest a set, over what is said and over the samples.

Preparation hashes every audio file once and notes its size and time beside the hash (`audio.json.gz`). Whoever is about
to spend hours on a set calls `check_audio`, which hashes a file again only where size or time are others. Where a
recording lies is no part of a digest: a corpus that was moved is the same corpus.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr.corpora.manifests import read_cuts
from asr.corpora.utterances import AGAIN, Utterance, check_utterance
from common.errors import UserError
from common.files import read_json, replacing, sha256, write_json

SCHEMA = 1
INDEX = "audio.json.gz"
Index = dict[str, tuple[int, int, str]]
"""Audio file, relative to the corpus's folder if it lies below it -> size in bytes, time of change in ns, SHA-256."""


def content_file(name: str) -> str:
    """The file beside the manifests that holds the digest of a set."""
    return f"{name}.content.json"


def write_content(folder: Path, sets: dict[str, list[Utterance]]) -> dict[str, str]:
    """Hash the audio of all sets, write index and digests below `folder`, and return the digests by set."""
    files = sorted({utterance.audio for utterances in sets.values() for utterance in utterances})
    with ThreadPoolExecutor() as threads:  # hashing leaves Python's lock
        index: Index = dict(zip((_name(path, folder) for path in files), threads.map(_entry, files), strict=True))
    _write_index(folder, index)
    digests = {name: digest(utterances, folder, index) for name, utterances in sets.items()}
    for name, found in digests.items():
        write_json(folder / content_file(name), {"schema": SCHEMA, "content": found, "utterances": len(sets[name])})
    return digests


def digest(utterances: Iterable[Utterance], folder: Path, index: Index) -> str:
    """SHA-256 over the utterances of a set, in order: what is said by whom, which stretch of which samples."""
    found = hashlib.sha256()
    for each in utterances:
        samples = index[_name(each.audio, folder)][2]
        said = [each.id, each.speaker, each.text, each.start, each.seconds, each.channel, each.sampling_rate, samples]
        found.update(json.dumps(said).encode() + b"\n")
    return found.hexdigest()


def set_content(folder: Path, name: str) -> str:
    """The digest of a prepared set. Raises `UserError` where it was not prepared."""
    path = folder / content_file(name)
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("content"), str):
        raise UserError(f"{path}: names no content; prepare the corpus again")
    return found["content"]


def check_audio(folder: Path, names: Iterable[str]) -> None:
    """Hash the audio of some sets again where its size or time changed since it was prepared.

    Raises `UserError` naming the first file, in the order of the manifests, that holds something else.
    """
    index = _read_index(folder)
    utterances = (utterance for name in names for utterance in read_cuts(folder / f"{name}.jsonl.gz"))
    files = {_name(utterance.audio, folder): utterance for utterance in utterances}
    moved: Index = {}
    for file, utterance in files.items():
        size, time, content = index.get(file, (-1, -1, ""))
        if not utterance.audio.is_file():
            raise UserError(f"{utterance.audio}: utterance {utterance.id}: there is no such audio file; {AGAIN}")
        status = utterance.audio.stat()
        if (status.st_size, status.st_mtime_ns) == (size, time):
            continue
        if sha256(utterance.audio) != content:
            check_utterance(utterance)  # what is wrong with it may have a name: empty, truncated
            raise UserError(
                f"{utterance.audio}: utterance {utterance.id}: the recording is another than when the corpus was "
                f"prepared; {AGAIN}"
            )
        moved[file] = (status.st_size, status.st_mtime_ns, content)
    if moved:  # looked at once, not before every training
        _write_index(folder, {**index, **moved})


def _entry(path: Path) -> tuple[int, int, str]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, sha256(path)


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path.resolve())


def _write_index(folder: Path, index: Index) -> None:
    with replacing(folder / INDEX) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(index).encode(), mtime=0))


def _read_index(folder: Path) -> Index:
    path = folder / INDEX
    try:
        return {file: (size, time, content) for file, (size, time, content) in json.loads(_unzipped(path)).items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; prepare the corpus again") from None
    except (OSError, EOFError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not an index of audio files ({error}); prepare the corpus again") from None


def _unzipped(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read()
