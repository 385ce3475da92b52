"""Archives of recordings: found on disk or downloaded, read without ever unpacking them to a path they name.

Why by hand: an archive comes from outside. One that names a place outside its own folder, or holds links, is
refused as a whole, and only the wanted members are read, into memory.
"""

import http.client
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from asr.corpora.register import REGISTER, ROOT, Entry
from common.errors import UserError
from common.files import replacing

LARGEST_MEMBER_BYTES = 10_000_000
LARGEST_TOTAL_BYTES = 2_000_000_000
TIMEOUT_SECONDS = 60


def find_archive(entry: Entry, configured: Path | None) -> Path:
    """The archive of a corpus: that of `archive_here`, else downloaded.

    Raises `UserError` when the configured one is missing, or when nothing is there and the download fails; the message
    says which file to put where.
    """
    here = archive_here(entry, configured)
    if here is None:
        here = ROOT / entry.keep
        download(entry.url, here, entry.largest_bytes)
    return here


def archive_here(entry: Entry, configured: Path | None) -> Path | None:
    """The archive of a corpus on this machine: the configured one, else the first of the register's that exists, None
    where none does. Raises `UserError` when the configured one is missing."""
    if configured is not None:
        if not configured.is_file():
            raise UserError(f"{configured}: no such archive (setting 'archive'); fetch {entry.url} and put it there")
        return configured
    if entry.keep is None:
        raise UserError(
            f"{REGISTER.relative_to(ROOT)}: the corpus has 'archives' or 'url' but no 'keep', the place of a download"
        )
    candidates = (*(ROOT / each for each in entry.archives), ROOT / entry.keep)
    return next((candidate.resolve() for candidate in candidates if candidate.is_file()), None)


def download(url: str, target: Path, largest_bytes: int) -> None:
    """Fetch `url` (https only, redirects too) into `target`. Raises `UserError`; a failed try leaves no file."""
    advice = f"fetch {url} by other means and put it at {target}"
    if not url.startswith("https://"):
        raise UserError(f"{url}: only https addresses are fetched; {advice}")
    opener = urllib.request.build_opener(_HttpsOnly)
    print(f"downloading {url} to {target}", flush=True)
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response, replacing(target) as temporary:
            received = 0
            with temporary.open("wb") as file:
                while block := response.read(1 << 20):
                    received += len(block)
                    if received > largest_bytes:
                        raise UserError(f"{url}: larger than the {largest_bytes} bytes expected; {advice}")
                    file.write(block)
            declared = response.headers.get("Content-Length")
            if declared is not None and int(declared) != received:
                raise UserError(f"{url}: the download broke off after {received} of {declared} bytes; {advice}")
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"{url}: cannot be downloaded ({getattr(error, 'reason', error)}); {advice}") from None


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to another https address."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # names as in the base class
        if not newurl.startswith("https://"):
            raise UserError(f"{req.full_url}: redirects to {newurl}, which is not https; refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def read_members(path: Path, wanted: Callable[[PurePosixPath], bool]) -> dict[str, bytes]:
    """The contents of the wanted members of a tar archive, by file name (without folders).

    Raises `UserError` for an archive that is damaged, has a member outside its folder (absolute, `..`), a link or a
    device, two wanted members of one name, or members larger than recordings are.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in _safe_members(path, archive):
                name = PurePosixPath(member.name)
                if not member.isfile() or not wanted(name):
                    continue
                if name.name in contents:
                    raise UserError(f"{path}: holds {name.name} twice; fetch the archive again")
                contents[name.name] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: not a whole tar archive ({type(error).__name__}: {error}); fetch it again") from None
    return contents


def _safe_members(path: Path, archive: tarfile.TarFile) -> Iterable[tarfile.TarInfo]:
    """The members one by one, each checked before it is looked at further."""
    total = 0
    for member in archive:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or "\\" in member.name:
            raise UserError(f"{path}: the entry '{member.name}' leaves the archive's folder; refused, nothing was read")
        if member.issym() or member.islnk():
            raise UserError(f"{path}: the entry '{member.name}' is a link to '{member.linkname}'; refused")
        if not (member.isfile() or member.isdir()):
            raise UserError(f"{path}: the entry '{member.name}' is neither a file nor a folder; refused")
        total += member.size
        if member.size > LARGEST_MEMBER_BYTES or total > LARGEST_TOTAL_BYTES:
            raise UserError(f"{path}: the entry '{member.name}' makes it larger than such an archive can be; refused")
        yield member
