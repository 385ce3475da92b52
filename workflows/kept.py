"""A finished system as it is committed: `results/reference/<experiment>/systems/<system>/seed<k>/`.

What people read stands there as it is; transcripts, of which a system with 64 paths has hundreds, and identities are in
one archive. Weights are there for the systems that the experiment names (`keep_weights`). Beside the systems stands
what analysis reads of the corpus, and what says which recordings it held.
"""

import contextlib
import hashlib
import io
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.corpora.content import content_file
from common.errors import UserError
from common.files import replacing, sha256
from workflows.accepted import brought_of, is_brought, write_brought
from workflows.experiment import Experiment

REFERENCE = Path("results/reference")
ARCHIVE = "transcripts.tar.xz"
PLAIN = (
    "system.json",
    "provenance.json",
    "accepted.json",
    "log.jsonl",
    "eval/points.json",
    "measured/costs.json",
    "sensitivity.json",
    "weight_errors.json",
)
"""Files of a system that are kept as they are."""
OF_HERE = {"provenance.json", "accepted.json"}
"""Those of them that say what was accepted in one place."""
PACKED = ("eval", "sensitivity", "measured/identity.json", "weight_errors.identity.json")
"""Files and folders of a system that go into the archive."""
WEIGHTS = ("model.safetensors", "running_statistics.safetensors")
SHOWN = ("RESULTS.md", "claims.json", "claims.csv", "experiment.json", "figures/*", "tables/*")
"""What analysis wrote, below the experiment's folder."""


def piece(folder: Path, system: str, seed: int) -> Path:
    """Where a system stands below an experiment's folder, here or among the committed results."""
    return folder / "systems" / system / f"seed{seed}"


def copy_files(source: Path, target: Path, files: Iterable[Path]) -> None:
    """Copy files that lie somewhere below `source` to the same places below `target`."""
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _there(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def pack(source: Path, target: Path, weights: bool) -> None:
    """Put a finished system into the committed results, with its weights or without."""
    shutil.rmtree(target, ignore_errors=True)
    copy_files(source, target, _there(source, (*PLAIN, *(WEIGHTS if weights else ()))))
    with replacing(target / ARCHIVE) as temporary, tarfile.open(temporary, "w:xz", preset=6) as archive:
        for path in _packed(source):
            content = path.read_bytes()
            entry = tarfile.TarInfo(str(path.relative_to(source)))  # no times and owners: equal files, equal archive
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def digest(folder: Path) -> str:
    """Of the files of a committed system, what was accepted somewhere apart."""
    found = hashlib.sha256()
    for path in _there(folder, (*(name for name in PLAIN if name not in OF_HERE), ARCHIVE, *WEIGHTS)):
        found.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return found.hexdigest()


def is_older(here: Path, committed: Path) -> bool:
    """Whether the system `here` was brought, and another than it was taken from is committed now."""
    return is_brought(here) and (committed / "system.json").is_file() and brought_of(here) != digest(committed)


def _packed(source: Path) -> list[Path]:
    found = [source / name for name in PACKED]
    inside = [path for folder in found if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
    # Transcripts of one set beside each other: they are alike.
    found = sorted([*inside, *(path for path in found if path.is_file())])
    return [path for path in found if str(path.relative_to(source)) not in PLAIN]


def unpack(source: Path, target: Path) -> None:
    """Take a committed system into a results folder, whole or not at all, and marked as brought. Raises `UserError` for
    a damaged archive."""
    stage = target.with_name(f".{target.name}.brought")
    shutil.rmtree(stage, ignore_errors=True)
    try:
        copy_files(source, stage, _there(source, (*PLAIN, *WEIGHTS)))
        try:
            with tarfile.open(source / ARCHIVE, "r:xz") as archive:
                archive.extractall(stage, filter="data")
        except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
            raise UserError(f"{source / ARCHIVE}: cannot be unpacked ({error})") from None
        write_brought(stage, settled=False, of=digest(source))
        shutil.rmtree(target, ignore_errors=True)
        stage.replace(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """The folder of a system with all its files: itself; of a committed one, whose transcripts are in an archive, a
    copy among links to what stands beside it, which is there as long as the context lasts."""
    folder = folder.resolve()
    if not (folder / ARCHIVE).is_file():
        yield folder
        return
    above = folder.parents[:3]  # the system's, all systems', the experiment's
    with tempfile.TemporaryDirectory(prefix="foldbench.") as temporary:
        copy = Path(temporary) / folder.relative_to(above[-1].parent)
        copy.parent.mkdir(parents=True)
        for place, original in zip(copy.parents, above, strict=False):
            for each in original.iterdir():
                if not (place / each.name).exists() and each != folder:
                    (place / each.name).symlink_to(each)
        unpack(folder, copy)
        yield copy


def data_files(experiment: Experiment, folder: Path) -> list[Path]:
    """What of the prepared corpus in `folder` is kept: what analysis reads, and what says what the sets held and what
    was made of them; in the order in which it is made."""
    sets = experiment.decoded_sets
    names = ["corpus.json", "data.identity.json", *(content_file(name) for name in ("train", *sets))]
    names += [f"{name}.{ending}" for name in sets for ending in ("trn", "speakers.json")]
    for family in (None, *experiment.families):
        below = "" if family is None else f"{family}/"
        stored = [experiment.store_file(family, name) for name in ("train", *sets)]
        names += [*experiment.input_files(family), *stored, f"{below}inputs.identity.json"]
    return _there(folder, names)
