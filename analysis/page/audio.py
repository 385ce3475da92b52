"""The sound of a few utterances, cut from the recordings that the corpus manifests name, as `data:` addresses.

The manifests are lhotse's (`data/<corpus>/<set>.jsonl.gz`): one cut a line, file names relative to that folder. Only
files are read; a manifest's command or web address is never followed. Sound is stored as 16-bit WAV, which every
browser plays.
"""

import base64
import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.errors import UserError


def read_cuts(folder: Path, test_set: str) -> dict[str, dict[str, Any]]:
    """The cuts of one set by utterance id; empty where the corpus has no manifest of it."""
    path = folder / f"{test_set}.jsonl.gz"
    if not path.exists():
        return {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return {cut["id"]: cut for cut in map(json.loads, file)}
    except (OSError, EOFError, UnicodeDecodeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a lhotse manifest of cuts ({error!r})") from None


def source(cut: dict[str, Any] | None) -> str:
    """The file of a cut as the manifest names it; empty where it is not one file."""
    sources = ((cut or {}).get("recording") or {}).get("sources") or []
    return str(sources[0].get("source", "")) if len(sources) == 1 and sources[0].get("type") == "file" else ""


def embed(
    folder: Path, cuts: Iterable[tuple[int, dict[str, Any] | None]], limit: int, limit_bytes: int
) -> dict[int, str]:
    """The first cuts as `{number: data address}`: at most `limit` of them and `limit_bytes` of WAV altogether.

    `cuts` come most wanted first, as `(number, cut)`. What cannot be read is left out: a report without one sound is
    better than none.
    """
    found: dict[int, str] = {}
    total = 0
    for number, cut in cuts:
        if len(found) == limit:
            break
        sound = None if cut is None or number in found else _wav(folder, cut)
        if sound and total + len(sound) <= limit_bytes:
            total += len(sound)
            found[number] = f"data:audio/wav;base64,{base64.b64encode(sound).decode()}"
    return found


def _wav(folder: Path, cut: dict[str, Any]) -> bytes | None:
    """The stretch of the recording that the cut names, one channel, 16 bits a sample; None where it cannot be read."""
    import soundfile

    name = source(cut)
    if not name or not (folder / name).is_file():
        return None
    try:
        with soundfile.SoundFile(folder / name) as file:
            file.seek(round(float(cut.get("start", 0.0)) * file.samplerate))
            samples = file.read(round(float(cut["duration"]) * file.samplerate), dtype="int16", always_2d=True)
            channel = cut.get("channel", 0)
            channel = channel if isinstance(channel, int) and channel < samples.shape[1] else 0
            out = io.BytesIO()
            soundfile.write(out, samples[:, channel], file.samplerate, format="WAV", subtype="PCM_16")
            return out.getvalue()
    except (soundfile.SoundFileError, KeyError, ValueError):
        return None
