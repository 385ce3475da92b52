"""Cuts on disk: lhotse's JSON lines, written and read without importing lhotse (which imports torch).

A manifest is a lhotse `CutSet` of `MonoCut`s with one supervision each; `lhotse.CutSet.from_file` reads it. Audio
that lies below the manifest's folder is named relative to that folder, so a prepared corpus can be moved and its
bytes do not depend on where it stands. For lhotse:
`CutSet.from_file(path).with_recording_path_prefix(path.parent)`.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.corpora.utterances import Utterance
from common.errors import UserError
from common.files import replacing


def write_cuts(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a gzipped manifest. Equal utterances give equal bytes: the gzip header holds no name and no time."""
    lines = (json.dumps(_cut(utterance, path.parent), ensure_ascii=False) + "\n" for utterance in utterances)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress("".join(lines).encode(), compresslevel=6, mtime=0))


def read_cuts(path: Path | str) -> list[Utterance]:
    """The utterances of a manifest, in its order. Raises `UserError` when it is missing or is no such manifest.

    Also reads what lhotse wrote, as long as each cut has one recording file and one supervision.
    """
    return list(iterate_cuts(path))


def iterate_cuts(path: Path | str) -> Iterator[Utterance]:
    """As `read_cuts`, one after the other: a large manifest need not stand in memory."""
    path = Path(path)
    count = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                utterance = _utterance(json.loads(line), path.parent)
                count += 1
                yield utterance
        if not count:
            raise ValueError("it is empty")
    except FileNotFoundError:
        raise UserError(f"{path}: no such manifest; prepare the corpus first") from None
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        problem = f"not a manifest of cuts with one supervision each ({type(error).__name__}: {error})"
        raise UserError(f"{path}: {problem}; prepare the corpus again") from None


def _cut(utterance: Utterance, folder: Path) -> dict:
    audio = utterance.audio
    source = str(audio.relative_to(folder)) if audio.is_relative_to(folder) else str(audio.resolve())
    rate = utterance.sampling_rate
    # The recording is the file up to the end of the stretch; where utterances share a file each names only its part.
    samples = round((utterance.start + utterance.seconds) * rate)
    return {
        "id": utterance.id,
        "start": utterance.start,
        "duration": utterance.seconds,
        "channel": utterance.channel,
        "supervisions": [
            {
                "id": utterance.id,
                "recording_id": utterance.id,
                "start": 0.0,
                "duration": utterance.seconds,
                "channel": utterance.channel,
                "text": utterance.text,
                "speaker": utterance.speaker,
            }
        ],
        "recording": {
            "id": utterance.id,
            "sources": [{"type": "file", "channels": list(range(utterance.channel + 1)), "source": source}],
            "sampling_rate": rate,
            "num_samples": samples,
            "duration": samples / rate,
        },
        "type": "MonoCut",
    }


def _utterance(cut: dict, folder: Path) -> Utterance:
    (supervision,) = cut["supervisions"]
    (source,) = cut["recording"]["sources"]
    return Utterance(
        id=cut["id"],
        audio=folder / source["source"],  # an absolute source stays as it is
        sampling_rate=cut["recording"]["sampling_rate"],
        seconds=cut["duration"],
        speaker=supervision["speaker"],
        text=supervision["text"],
        start=cut["start"],
        channel=cut["channel"],
    )
