"""Manifests are lhotse's, stay valid when a corpus is moved, need no torch; LibriSpeech comes in through a recipe."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpora import prepare, read_audio, read_cuts, write_cuts
from common.errors import UserError

ROOT = Path(__file__).parents[2]


def test_lhotse_reads_what_is_written(small_synth):
    lhotse = pytest.importorskip("lhotse")
    path = small_synth / "dev.jsonl.gz"
    cuts = lhotse.CutSet.from_file(path).with_recording_path_prefix(path.parent)
    lhotse.validate(cuts, read_data=True)
    for cut, utterance in zip(cuts, read_cuts(path), strict=True):
        assert (cut.id, cut.sampling_rate, cut.duration) == (
            utterance.id,
            utterance.sampling_rate,
            utterance.seconds,
        )
        (supervision,) = cut.supervisions
        assert (supervision.text, supervision.speaker) == (utterance.text, utterance.speaker)
        np.testing.assert_array_equal(cut.load_audio()[0], read_audio(utterance))


def test_what_lhotse_writes_is_read(small_synth, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    path = small_synth / "dev.jsonl.gz"
    cuts = lhotse.CutSet.from_file(path).with_recording_path_prefix(path.parent)
    cuts.to_file(tmp_path / "dev.jsonl.gz")
    assert read_cuts(tmp_path / "dev.jsonl.gz") == read_cuts(path)


def test_written_and_read_back(small_synth, tmp_path):
    utterances = read_cuts(small_synth / "train.jsonl.gz")
    write_cuts(tmp_path / "again.jsonl.gz", utterances)
    assert read_cuts(tmp_path / "again.jsonl.gz") == utterances


def test_a_corpus_can_be_moved(small_synth, tmp_path):
    shutil.copytree(small_synth, tmp_path / "moved")
    for utterance in read_cuts(tmp_path / "moved" / "dev.jsonl.gz"):
        assert utterance.audio.is_relative_to(tmp_path / "moved")
        assert len(read_audio(utterance)) == utterance.samples


@pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b\x08\x00broken"])
def test_a_broken_manifest_is_named(tmp_path, content):
    path = tmp_path / "train.jsonl.gz"
    with pytest.raises(UserError, match="no such manifest"):
        read_cuts(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.jsonl\.gz: not a manifest"):
        read_cuts(path)


def test_nothing_here_imports_torch():
    code = (
        "import sys, asr.corpora, asr.tokenizer, asr.corpora.synth, asr.corpora.fsdd, asr.corpora.librispeech;"
        "assert not {'torch', 'lhotse'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_help_is_quick_and_errors_have_no_traceback(tmp_path):
    command = [sys.executable, "-m", "asr.corpora"]
    begin = time.perf_counter()
    assert subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, check=True).stdout
    assert time.perf_counter() - begin < 3
    settings = tmp_path / "settings.yaml"
    settings.write_text("sede: 1\n")
    failed = subprocess.run(
        [*command, "synth", "--out", str(tmp_path / "out"), "--settings", str(settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {settings}: unknown key 'sede'; did you mean 'seed'?")
    assert "Traceback" not in failed.stderr


class LibriSpeech:
    """A tiny folder in the shape of LibriSpeech."""

    def __init__(self, folder: Path):
        self.folder = folder
        rng = np.random.default_rng(0)
        for speaker, part in enumerate(("train-clean-5", "dev-clean", "test-clean"), 11):
            chapter = folder / part / str(speaker) / "7"
            chapter.mkdir(parents=True)
            lines = []
            for number in range(2):
                name = f"{speaker}-7-{number:04d}"
                soundfile.write(chapter / f"{name}.flac", rng.integers(-999, 999, 16000).astype(np.int16), 16000)
                lines.append(f"{name} HELLO WORLD")
            (chapter / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")
        self.settings = {
            "folder": str(folder),
            "train": ["train-clean-5"],
            "dev": ["dev-clean"],
            "test_sets": {"test_clean": ["test-clean"]},
        }


@pytest.fixture
def librispeech(tmp_path) -> LibriSpeech:
    return LibriSpeech(tmp_path / "LibriSpeech")


def test_librispeech_comes_in_through_lhotse(librispeech, tmp_path):
    corpus = prepare("librispeech", librispeech.settings, tmp_path / "out")
    held = {key: value for key, value in corpus["sets"]["train"].items() if key != "content"}
    counts = {"utterances": 2, "seconds": 2.0, "words": 4, "speakers": 1}
    assert held == {**counts, "longest_seconds": 1.0, "dropped": {}}
    assert corpus["test_sets"] == ["test_clean"]
    first = read_cuts(tmp_path / "out" / "dev.jsonl.gz")[0]
    assert (first.id, first.speaker, first.text) == ("12-7-0000", "12", "hello world")
    expected, _ = soundfile.read(librispeech.folder / "dev-clean/12/7/12-7-0000.flac", dtype="float32")
    np.testing.assert_array_equal(read_audio(first), expected)
    assert json.loads((tmp_path / "out" / "corpus.json").read_text()) == corpus


def test_further_sets_of_librispeech_repeat_parts_of_others_but_not_of_training(librispeech, tmp_path):
    further = {"dev_clean": ["dev-clean"], "everything": ["dev-clean", "test-clean"]}
    settings = {**librispeech.settings, "further_sets": further}
    corpus = prepare("librispeech", settings, tmp_path / "out")
    assert corpus["test_sets"] == ["test_clean"]
    ids = {name: [each.id for each in read_cuts(tmp_path / "out" / f"{name}.jsonl.gz")] for name in corpus["sets"]}
    assert ids["dev_clean"] == ids["dev"] and ids["everything"] == ids["dev"] + ids["test_clean"]
    for wrong, message in [
        ({"again": ["train-clean-5"]}, "is in set 'train' and in set 'again'"),
        ({"twice": ["dev-clean", "dev-clean"]}, "is in set 'twice' and in set 'twice'"),
        ({"test_clean": ["dev-clean"]}, "further_sets: 'test_clean' is a test set already"),
        ({"dev": ["dev-clean"]}, "'dev' cannot name a test set"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare("librispeech", {**librispeech.settings, "further_sets": wrong}, tmp_path / "wrong")
    with pytest.raises(UserError, match="is in set 'dev' and in set 'test_clean'"):
        prepare("librispeech", {**librispeech.settings, "test_sets": {"test_clean": ["dev-clean"]}}, tmp_path / "wrong")


def test_librispeech_at_another_rate_is_resampled(librispeech, tmp_path):
    corpus = prepare("librispeech", {**librispeech.settings, "sampling_rate": 8000}, tmp_path / "out")
    assert corpus["sampling_rate"] == 8000
    first = read_cuts(tmp_path / "out" / "dev.jsonl.gz")[0]
    assert soundfile.info(first.audio).samplerate == 8000
    assert first.audio.is_relative_to(tmp_path / "out" / "audio" / "dev")


def test_librispeech_that_is_not_there_or_lacks_something(librispeech, tmp_path):
    def message(**settings):
        with pytest.raises(UserError) as caught:
            prepare("librispeech", {**librispeech.settings, **settings}, tmp_path / "out")
        return str(caught.value)

    assert "no such folder (setting 'folder'); fetch LibriSpeech from https" in message(folder=str(tmp_path / "no"))
    assert "'dev-claen'; did you mean 'dev-clean'" in message(dev=["dev-claen"])
    audio = librispeech.folder / "dev-clean/12/7/12-7-0001.flac"
    audio.write_bytes(b"")
    assert f"{audio}: utterance 12-7-0001: the audio file is empty" in message()
    audio.unlink()
    assert f"{audio}: utterance 12-7-0001: there is no such audio file" in message()
    (audio.parent / "12-7.trans.txt").write_text("12-7-0000 HELLO\n12-7-0001\n")
    assert "line 2: utterance 12-7-0001: the transcript is empty" in message()
