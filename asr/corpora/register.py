"""The register of corpora, `config/corpora.yaml`: where data comes from, its checksum, its licence, its size."""

from pathlib import Path

from pydantic import Field

from common.errors import UserError, unknown
from common.files import read_yaml
from common.settings import Settings, parse

ROOT = Path(__file__).resolve().parents[2]
REGISTER = ROOT / "config" / "corpora.yaml"


class Entry(Settings):
    """One corpus. `checksum` says what is checked against what; `archives` are places to look at before downloading
    from `url`, relative to the repository; a download is kept in `keep`. `normaliser` and `glm` say how transcripts
    are normalised before they are scored (`analysis.scoring.normalise`)."""

    module: str | None = None
    """None: nothing prepares it yet."""
    source: str
    url: str | None = None
    checksum: str | None = None
    licence: str
    size: str
    note: str = ""
    normaliser: str = "identity-1"
    glm: str | None = None
    archives: tuple[str, ...] = ()
    keep: str | None = None
    largest_bytes: int = Field(200_000_000, gt=0)


def read_register(path: Path | str = REGISTER) -> dict[str, Entry]:
    """All entries by corpus name. Raises `UserError` naming the file and the key."""
    path = Path(path)
    data = read_yaml(path, "register of corpora")
    if not isinstance(data, dict):
        raise UserError(f"{path}: a register maps the names of corpora to their entries")
    return {str(name): parse(Entry, entry, f"{path}: {name}") for name, entry in data.items()}


def module_of(name: str, path: Path | str = REGISTER) -> str:
    """The module that prepares a corpus. Raises `UserError` where there is none yet, or no such corpus."""
    module = look_up(name, path).module
    if module is None:
        raise UserError(
            f"{path}: corpus '{name}' cannot be prepared yet: no module reads it (docs/add_a_corpus.md says how one is "
            "written); what systems cost is known without it (python -m workflows.cost)"
        )
    return module


def look_up(name: str, path: Path | str = REGISTER) -> Entry:
    """The entry of a corpus. Raises `UserError` with the closest name for one that is not registered."""
    entries = read_register(path)
    if name not in entries:
        raise unknown("corpus", name, entries, str(path))
    return entries[name]
