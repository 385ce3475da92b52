"""Archives from outside: nothing leaves its folder, and a download that fails says what to do."""

import functools
import http.server
import io
import ssl
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from asr.corpora import archives
from common.errors import UserError


def make_tar(path: Path, *members: tarfile.TarInfo, content: bytes = b"RIFF") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


GOOD = entry("recordings/0_a_0.wav")


def test_wanted_members_are_read_and_others_ignored(tmp_path):
    path = make_tar(tmp_path / "x.tar.gz", entry("set-1.0", tarfile.DIRTYPE), GOOD, entry("set-1.0/setup.py"))
    assert archives.read_members(path, lambda name: name.suffix == ".wav") == {"0_a_0.wav": b"RIFF"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry("/etc/0_a_1.wav"), "'/etc/0_a_1.wav' leaves the archive's folder"),
        (entry("../0_a_1.wav"), "leaves the archive's folder"),
        (entry("recordings/../../0_a_1.wav"), "leaves the archive's folder"),
        (entry("..\\0_a_1.wav"), "leaves the archive's folder"),
        (entry("recordings/0_a_1.wav", tarfile.SYMTYPE, "/etc/passwd"), "is a link to '/etc/passwd'"),
        (entry("recordings", tarfile.SYMTYPE, "/tmp"), "is a link to '/tmp'"),
        (entry("recordings/0_a_1.wav", tarfile.LNKTYPE, "recordings/0_a_0.wav"), "is a link to 'recordings/0_a_0.wav'"),
        (entry("recordings/0_a_1.wav", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (entry("recordings/0_a_1.wav", tarfile.CHRTYPE), "neither a file nor a folder"),
        (entry("other/0_a_0.wav"), "holds 0_a_0.wav twice"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_archive_that_reaches_outside_is_refused_as_a_whole(tmp_path, bad, message, first):
    members = (bad, GOOD) if first else (GOOD, bad)
    path = make_tar(tmp_path / "x.tar.gz", *members)
    with pytest.raises(UserError, match=message.replace("\\", "\\\\")) as caught:
        archives.read_members(path, lambda name: name.suffix == ".wav")
    assert str(path) in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["x.tar.gz"]


def test_members_larger_than_recordings_are_refused(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "x.tar.gz", GOOD, content=bytes(archives.LARGEST_MEMBER_BYTES + 1))
    with pytest.raises(UserError, match="larger than such an archive can be"):
        archives.read_members(path, lambda name: True)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = make_tar(tmp_path / "x.tar.gz", *(entry(f"recordings/{n}.wav") for n in range(9)), content=bytes(range(256)))
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 20]) + whole[middle + 20 :]
    path.write_bytes({"truncated": whole[:middle], "flipped": flipped, "text": b"no archive", "empty": b""}[damage])
    with pytest.raises(UserError, match="not a whole tar archive") as caught:
        archives.read_members(path, lambda name: True)
    assert str(path) in str(caught.value)


def test_only_https_is_fetched(tmp_path):
    with pytest.raises(UserError, match="only https"):
        archives.download("http://127.0.0.1/x.tar.gz", tmp_path / "x.tar.gz", 100)


def test_without_a_network_the_message_names_the_file_and_the_place(tmp_path):
    target = tmp_path / "kept" / "x.tar.gz"
    with pytest.raises(UserError, match="cannot be downloaded") as caught:
        archives.download("https://127.0.0.1:9/x.tar.gz", target, 100)
    assert f"fetch https://127.0.0.1:9/x.tar.gz by other means and put it at {target}" in str(caught.value)
    assert not target.exists()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; /moved redirects to http, /broken promises more than it sends."""

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1/x")
            self.end_headers()
        elif self.path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An https server with a certificate of its own: its address, and the certificate's file."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "x.bin").write_bytes(bytes(1000))
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout key.pem -out cert.pem -subj /CN=localhost"
    try:
        subprocess.run(
            [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, check=True, capture_output=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl to make a certificate with")
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        served.socket = context.wrap_socket(served.socket, server_side=True)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{served.server_port}", folder / "cert.pem"
        served.shutdown()


def test_a_download_arrives_whole(server, tmp_path, monkeypatch):
    url, certificate = server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    archives.download(f"{url}/x.bin", tmp_path / "x.bin", 1000)
    assert (tmp_path / "x.bin").read_bytes() == bytes(1000)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x.bin", "larger than the 999 bytes expected"),
        ("moved", "not https; refused"),
        ("broken", "broke off after 10 of 5000 bytes|cannot be downloaded"),
        ("absent", "cannot be downloaded .File not found"),
    ],
)
def test_a_download_that_goes_wrong_leaves_nothing(server, tmp_path, monkeypatch, path, message):
    url, certificate = server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(UserError, match=message):
        archives.download(f"{url}/{path}", tmp_path / "y.bin", 999)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_certificate_is_not_trusted(server, tmp_path):
    with pytest.raises(UserError, match="cannot be downloaded"):
        archives.download(f"{server[0]}/x.bin", tmp_path / "x.bin", 1000)
