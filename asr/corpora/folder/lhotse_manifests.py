"""lhotse's manifests, read by lhotse itself: cuts, or recordings and supervisions. Each supervision is an utterance."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asr.corpora.folder.items import Item, audio_path, composed
from asr.corpora.folder.settings import Settings
from common.errors import UserError

NAMES = re.compile(r"\.jsonl(\.gz)?$")
AGAIN = "write a manifest of plain files: whole recordings on disk, as lhotse's recipes do"


def is_manifest(path: Path) -> bool:
    """Whether a path is named as a manifest."""
    return NAMES.search(path.name) is not None


def read_cut_manifest(path: Path, settings: Settings) -> list[Item]:
    """The supervisions of a manifest of cuts, in its order. Raises `UserError` naming file and cut."""
    from lhotse import CutSet  # imports torch: only where such a manifest is read
    from lhotse.cut.data import DataCut

    items = []
    for cut in _load(path, CutSet, "cuts"):
        where = f"{path}: cut {cut.id}"
        if not isinstance(cut, DataCut) or cut.recording is None:
            raise UserError(f"{where}: is a {type(cut).__name__} without a recording of its own; {AGAIN}")
        for each in cut.supervisions:
            items.append(_item(where, cut.recording, each, cut.start + each.start, cut.channel, path, settings))
    return items


def read_pair(recordings: Path, supervisions: Path, settings: Settings) -> list[Item]:
    """The supervisions of a manifest, whose recordings stand in another one."""
    from lhotse import RecordingSet, SupervisionSet

    known = {each.id: each for each in _load(recordings, RecordingSet, "recordings")}
    items = []
    for each in _load(supervisions, SupervisionSet, "supervisions"):
        where = f"{supervisions}: supervision {each.id}"
        if each.recording_id not in known:
            raise UserError(f"{where}: its recording '{each.recording_id}' is not in {recordings}")
        items.append(_item(where, known[each.recording_id], each, each.start, each.channel, recordings, settings))
    return items


def _load(path: Path, kind: type, what: str) -> Iterable[Any]:
    from lhotse.serialization import load_manifest

    try:
        found = load_manifest(path)
    except Exception as error:  # lhotse has no error of its own for a file that is none of its manifests
        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"{path}: lhotse cannot read it ({problem})") from None
    if not isinstance(found, kind):
        raise UserError(
            f"{path}: is a {type(found).__name__} of lhotse, not a manifest of {what}; name cuts, or both "
            "{recordings: …, supervisions: …}"
        )
    return found


def _item(
    where: str, recording: Any, supervision: Any, start: float, channel: Any, manifest: Path, settings: Settings
) -> Item:
    if recording.transforms:
        raise UserError(f"{where}: recording '{recording.id}' is changed when it is read ({AGAIN})")
    if len(recording.sources) != 1 or recording.sources[0].type != "file":
        raise UserError(f"{where}: recording '{recording.id}' is not one file; {AGAIN}")
    audio = audio_path(recording.sources[0].source, settings.audio_folder, manifest.parent)
    whole = start == 0 and abs(supervision.duration - recording.duration) < 1e-3
    chosen = channel if isinstance(channel, int) and recording.num_channels > 1 else None
    return Item(
        where,
        composed(supervision.id),
        audio,
        composed(supervision.text or ""),
        composed(supervision.speaker or ""),
        start,
        None if whole else supervision.duration,
        chosen,
    )
