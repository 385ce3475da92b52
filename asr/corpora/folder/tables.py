"""Tables with a line for each recording: `.csv` (commas, or semicolons where the header has no comma, quotes as
spreadsheets write them) or `.tsv` (tabs, nothing quoted)."""

import csv
import io
from pathlib import Path
from typing import Any

from asr.corpora.folder.items import Item, audio_path, composed
from asr.corpora.folder.settings import Columns, Settings
from common.errors import UserError, closest

SUFFIXES = (".csv", ".tsv")


def is_table(path: Path) -> bool:
    """Whether a path is named as a table."""
    return path.suffix.lower() in SUFFIXES


def read_table(path: Path, settings: Settings) -> list[Item]:
    """The utterances of a table, in its order. Raises `UserError` naming file, line and column."""
    header, *lines = _rows(path)
    columns = _places(path, header[1], settings.columns)
    items: list[Item] = []
    first: dict[str, int] = {}
    for number, cells in lines:
        where = f"{path}: line {number}"
        if len(cells) != len(header[1]):
            raise UserError(f"{where}: {len(cells)} cells, but the header has {len(header[1])}")
        found = {what: composed(cells[place]).strip() for what, place in columns.items()}
        if not found["audio"]:
            raise UserError(f"{where}: names no recording (column '{settings.columns.audio}')")
        if "speaker" in found and not found["speaker"]:
            raise UserError(
                f"{where}: names no speaker (column '{settings.columns.speaker}'); name all, or set columns.speaker to "
                "null"
            )
        if first.setdefault(found["audio"], number) != number:
            raise UserError(f"{where}: {found['audio']} is in line {first[found['audio']]} already; leave one of them")
        audio = audio_path(found["audio"], settings.audio_folder, path.parent)
        name = str(Path(found["audio"]).with_suffix(""))
        items.append(Item(where, name, audio, found["text"], found.get("speaker", "")))
    return items


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of all lines that are not empty, the header first."""
    text = _text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, **_dialect(path, text.partition("\n")[0]))
    try:
        rows = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not a line of such a table ({error})") from None
    if len(rows) < 2:
        raise UserError(f"{path}: a table has a line with the columns' names, and one for each recording")
    return rows


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise UserError(f"{path}: line {line}: not UTF-8 (byte 0x{byte:02x}); save it as UTF-8") from None


def _dialect(path: Path, header: str) -> dict[str, Any]:
    """How a table is written. Where commas are decimal signs, spreadsheets put semicolons between cells."""
    if path.suffix.lower() != ".csv":
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    return {"delimiter": ";" if ";" in header and "," not in header else ","}


def _places(path: Path, header: list[str], columns: Columns) -> dict[str, int]:
    """Which cell holds what. A speaker column that nobody asked for by name may be missing."""
    names = [name.strip() for name in header]
    wanted = {"audio": columns.audio, "text": columns.text}
    if columns.speaker is not None and (columns.speaker in names or "speaker" in columns.model_fields_set):
        wanted["speaker"] = columns.speaker
    for what, name in wanted.items():
        if names.count(name) != 1:
            problem = f"{'no' if name not in names else 'more than one'} column '{name}'"
            raise UserError(
                f"{path}: {problem}{closest(name, names)} (there are: {', '.join(names)}); say in columns.{what} which "
                "one it is"
            )
    return {what: names.index(name) for what, name in wanted.items()}
