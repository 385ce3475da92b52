"""Digit strings of real recordings: no take in two splits, content checked, the same bytes every time."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from asr.corpora import archives, fsdd, prepare, read_audio, read_cuts
from asr.corpora.grammar import DIGITS
from common.errors import UserError
from tests.corpora.conftest import QUIET
from tests.corpora.test_synth import same_files

SMALL = {"train": {"utterances": 90}, "dev": {"utterances": 30}, "test_sets": {"test": {"utterances": 30}}}


@pytest.fixture(scope="module")
def contents(fsdd_archive) -> dict[str, bytes]:
    return archives.read_members(fsdd_archive, lambda name: name.suffix == ".wav")


def pack(path: Path, contents: dict[str, bytes], folder: str, mode: str = "w:gz") -> Path:
    """Pack recordings anew, as a release would: another folder, and code beside them."""
    with tarfile.open(path, mode, **({"compresslevel": 1} if mode == "w:gz" else {})) as archive:
        files = {f"{folder}/{name}": content for name, content in contents.items()}
        for name, content in {f"{Path(folder).parent}/setup.py": b"print()", **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_the_list_names_each_speaker_digit_and_take_once():
    names = [name.removesuffix(".wav").split("_") for name in fsdd.read_hashes()]
    assert len(names) == 3000
    assert len({speaker for _, speaker, _ in names}) == 6
    takes = {(int(digit), speaker, int(take)) for digit, speaker, take in names}
    assert len(takes) == 3000
    assert {take for _, _, take in takes} == set(range(50))


def test_each_split_says_only_its_own_takes(fsdd_archive, tmp_path):
    """Single digits without noise: each utterance must be a recording of its split, and of no other."""
    settings = {**SMALL, "words": [1, 1], "acoustics": {**QUIET, "silence_seconds": [0, 0]}}
    prepare("fsdd", {**settings, "archive": str(fsdd_archive)}, tmp_path)
    recordings = fsdd.read_recordings(fsdd_archive)
    for name, takes in (("train", range(10, 50)), ("dev", range(5, 10)), ("test", range(5))):
        for utterance in read_cuts(tmp_path / f"{name}.jsonl.gz"):
            samples = read_audio(utterance)
            likeness = {}
            for take in range(50):
                recording = recordings[DIGITS.index(utterance.text), utterance.speaker, take]
                if len(recording) == len(samples):
                    norm = np.linalg.norm(samples) * np.linalg.norm(recording)
                    likeness[take] = float(samples @ recording) / norm
            assert max(likeness.values()) > 0.999
            assert max(likeness, key=likeness.get) in takes


def test_takes_do_not_overlap():
    takes = [set(each) for each in fsdd.TAKES.values()]
    assert sum(map(len, takes)) == len(set.union(*takes)) == 50


def test_strings_are_one_to_seven_digits_of_one_speaker(fsdd_archive, tmp_path):
    corpus = prepare("fsdd", {**SMALL, "archive": str(fsdd_archive)}, tmp_path)
    utterances = read_cuts(tmp_path / "train.jsonl.gz")
    assert {len(utterance.words) for utterance in utterances} == set(range(1, 8))
    assert {word for utterance in utterances for word in utterance.words} == set(DIGITS)
    assert corpus["sets"]["train"]["speakers"] == corpus["sets"]["test"]["speakers"] == 6
    assert all(0.3 < each.seconds / len(each.words) < 3 for each in utterances)
    assert "archive" not in json.loads((tmp_path / "corpus.json").read_text())["settings"]


def test_the_same_bytes_with_two_workers_and_from_a_repacked_archive(fsdd_archive, contents, tmp_path):
    packed = pack(tmp_path / "again.tar.gz", contents, "free-spoken-digit-dataset-1.0.10/recordings")
    prepare("fsdd", {**SMALL, "archive": str(fsdd_archive)}, tmp_path / "a")
    prepare("fsdd", {**SMALL, "archive": str(packed), "workers": 2}, tmp_path / "b")
    assert same_files(tmp_path / "a", tmp_path / "b")


def test_missing_and_differing_recordings_are_named(contents, tmp_path):
    changed = {**contents, "3_theo_7.wav": contents["3_theo_8.wav"]}
    del changed["0_george_0.wav"]
    packed = pack(tmp_path / "bad.tar", changed, "x/recordings", "w")
    with pytest.raises(UserError) as caught:
        prepare("fsdd", {**SMALL, "archive": str(packed)}, tmp_path / "out")
    message = str(caught.value)
    assert str(packed) in message
    assert "1 missing (0_george_0.wav)" in message
    assert "1 with other content (wrong checksum) (3_theo_7.wav)" in message


def test_another_archive_is_not_the_data_set(tmp_path):
    packed = pack(tmp_path / "other.tar.gz", {"0_nobody_0.wav": b"RIFF"}, "x/recordings")
    with pytest.raises(UserError, match="not the Free Spoken Digit Dataset: of 3000 recordings 3000 missing"):
        prepare("fsdd", {**SMALL, "archive": str(packed)}, tmp_path / "out")


def test_a_link_among_the_recordings_is_refused(contents, tmp_path):
    packed = pack(tmp_path / "bad.tar", contents, "x/recordings", "w")
    with tarfile.open(packed, "a") as archive:
        info = tarfile.TarInfo("x/recordings/link.wav")
        info.type, info.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match="is a link"):
        prepare("fsdd", {**SMALL, "archive": str(packed)}, tmp_path / "out")


def test_without_archive_and_network_the_message_says_what_to_put_where(register_copy, tmp_path):
    entries = yaml.safe_load(register_copy.read_text())
    keep = tmp_path / "kept.tar.gz"
    entries["fsdd"].update(url="https://127.0.0.1:9/fsdd.tar.gz", archives=["nowhere/fsdd.tar.gz"], keep=str(keep))
    register_copy.write_text(yaml.safe_dump(entries))
    with pytest.raises(UserError, match="cannot be downloaded") as caught:
        prepare("fsdd", SMALL, tmp_path / "out", register_copy)
    assert f"put it at {keep}" in str(caught.value)


def test_a_configured_archive_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.tar.gz: no such archive"):
        prepare("fsdd", {**SMALL, "archive": str(tmp_path / "absent.tar.gz")}, tmp_path / "out")
