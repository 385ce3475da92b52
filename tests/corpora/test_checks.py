"""Bad input: one clear message through the real code, and the earlier corpus stays as it was."""

import dataclasses
import filecmp
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpora import Utterance, prepare, read_audio, read_cuts
from asr.corpora.preparation import _check_ids
from common.errors import UserError


def test_a_healthy_folder_becomes_a_corpus(recordings):
    corpus = recordings.prepare()
    held = {key: value for key, value in corpus["sets"]["train"].items() if key != "content"}
    assert held == {
        "utterances": 1,
        "seconds": 1.0,
        "longest_seconds": 1.0,
        "words": 1,
        "speakers": 1,
        "dropped": {},
    }
    (utterance,) = read_cuts(recordings.out / "train.jsonl.gz")
    expected, _ = soundfile.read(recordings.audio, dtype="float32")
    np.testing.assert_array_equal(read_audio(utterance), expected)
    assert utterance.audio == recordings.audio


def _missing(recordings):
    recordings.audio.unlink()


def _empty(recordings):
    recordings.audio.write_bytes(b"")


def _no_samples(recordings):
    soundfile.write(recordings.audio, np.zeros(0, np.int16), 8000)


def _no_audio(recordings):
    recordings.audio.write_text("this is a text")


def _truncated(recordings):
    recordings.audio.write_bytes(recordings.audio.read_bytes()[:9000])


def _truncated_flac(recordings):
    noise = np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16)
    soundfile.write(recordings.audio.with_suffix(".flac"), noise, 8000)
    whole = recordings.audio.with_suffix(".flac").read_bytes()
    recordings.audio.write_bytes(whole[: len(whole) // 2])


def _too_long(recordings):
    recordings.write_table("train", seconds=1.5)


def _nan(recordings):
    samples = np.zeros(8000, np.float32)
    samples[1234] = np.nan
    soundfile.write(recordings.audio, samples, 8000, subtype="FLOAT")


def _infinite(recordings):
    samples = np.zeros(8000, np.float32)
    samples[7] = np.inf
    soundfile.write(recordings.audio, samples, 8000, subtype="FLOAT")


def _no_words(recordings):
    recordings.write_table("train", text="  ")


BAD = [
    (_missing, "there is no such audio file"),
    (_empty, "the audio file is empty"),
    (_no_samples, "the audio file is empty"),
    (_no_audio, "not an audio file that can be read"),
    (_truncated, r"truncated \(4478 of 8000 samples\)"),
    (_truncated_flac, "truncated"),
    (_too_long, r"truncated \(8000 of 12000 samples\)"),
    (_nan, "sample 1234 is NaN or infinite"),
    (_infinite, "sample 7 is NaN or infinite"),
    (_no_words, "the transcript is empty"),
]


@pytest.mark.parametrize(("damage", "message"), BAD)
def test_bad_input_is_named_and_the_earlier_corpus_stays(recordings, damage, message):
    recordings.prepare()
    before = recordings.out.with_name("before")
    shutil.copytree(recordings.out, before)
    damage(recordings)
    with pytest.raises(UserError, match=message) as caught:
        recordings.prepare()
    assert str(recordings.audio) in str(caught.value)
    assert "utterance ann-train" in str(caught.value)
    names = sorted(path.name for path in before.iterdir())
    assert sorted(path.name for path in recordings.out.iterdir()) == names
    assert filecmp.cmpfiles(before, recordings.out, names, shallow=False) == (names, [], [])


@pytest.mark.parametrize(("damage", "message"), [bad for bad in BAD if bad[0] not in (_too_long, _no_words)])
def test_audio_that_goes_bad_later_is_named_when_it_is_read(recordings, damage, message):
    recordings.prepare()
    (utterance,) = read_cuts(recordings.out / "train.jsonl.gz")
    damage(recordings)
    with pytest.raises(UserError, match=message.split(r" \(")[0]) as caught:
        read_audio(utterance)
    assert str(recordings.audio) in str(caught.value)
    assert "utterance ann-train" in str(caught.value)


def test_another_sampling_rate_is_resampled_and_said_once(recordings, capsys):
    for name in ("train", "dev", "test"):
        soundfile.write(recordings.data / f"{name}.wav", np.sin(np.arange(16000) * 2 * np.pi * 400 / 16000) / 2, 16000)
    recordings.prepare()
    said = capsys.readouterr().err
    assert said.count("16000 Hz, not the declared 8000 Hz") == 1
    (utterance,) = read_cuts(recordings.out / "train.jsonl.gz")
    assert soundfile.info(utterance.audio).samplerate == utterance.sampling_rate == 8000
    samples = read_audio(utterance)
    assert samples.shape == (8000,)
    assert np.argmax(np.abs(np.fft.rfft(samples))) == 400
    assert capsys.readouterr().err == ""


def test_a_file_whose_rate_changed_later_is_resampled_when_it_is_read(recordings, capsys):
    recordings.prepare()
    (utterance,) = read_cuts(recordings.out / "train.jsonl.gz")
    soundfile.write(recordings.audio, np.sin(np.arange(11025) * 2 * np.pi * 400 / 11025) / 2, 11025)
    for _ in range(2):
        samples = read_audio(utterance)
    assert samples.shape == (8000,)
    assert np.argmax(np.abs(np.fft.rfft(samples))) == 400
    assert capsys.readouterr().err.count("11025 Hz") == 1


def test_a_stretch_and_a_channel_of_a_file(recordings):
    recordings.prepare()
    (utterance,) = read_cuts(recordings.out / "train.jsonl.gz")
    both = np.stack([np.arange(8000), -np.arange(8000)], axis=1).astype(np.int16)
    soundfile.write(recordings.audio, both, 8000)
    part = dataclasses.replace(utterance, start=0.25, seconds=0.5, channel=1)
    np.testing.assert_array_equal(read_audio(part) * 32768, -np.arange(2000, 6000))
    with pytest.raises(UserError, match="no channel 2"):
        read_audio(dataclasses.replace(utterance, channel=2))


def test_an_id_must_be_unique(recordings):
    recordings.write_table("test")
    (recordings.data / "dev.txt").write_text("test.wav\tann\t1.0\thello\n")
    with pytest.raises(UserError, match="utterance ann-test is in set 'dev' and in set 'test'"):
        recordings.prepare()


@pytest.mark.parametrize(("speaker", "message"), [("a b", "has spaces or parentheses"), ("a(1)", "has spaces")])
def test_an_id_must_be_one_that_nists_programs_read(recordings, speaker, message):
    recordings.write_table("test", speaker=speaker)
    with pytest.raises(UserError, match=message):
        recordings.prepare()
    assert not (recordings.out / "corpus.json").exists()


def test_an_id_must_begin_with_its_speaker():
    other = Utterance("ann-1", Path("x"), 8000, 1.0, "bob", "a")
    with pytest.raises(UserError, match="utterance ann-1: the id does not begin with its speaker, 'bob-'"):
        _check_ids({"test": [other]}, set())


def test_an_empty_set_is_an_error(recordings):
    (recordings.data / "dev.txt").write_text("")
    with pytest.raises(UserError, match="set 'dev' has no utterances"):
        recordings.prepare()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trian": {"hours": 1}}, "unknown key 'trian'; did you mean 'train'"),
        ({"train": {"hours": 1, "acoustics": {"snr": [1, 2]}}}, "train.acoustics.*'snr'; did you mean 'snr_db'"),
        ({"acoustics": {"snr_db": [20, 10]}}, "acoustics.snr_db: .*20.* is not below"),
        ({"acoustics": {"noises": []}}, "acoustics.noises: name at least one"),
        ({"acoustics": {"noises": ["pinc"]}}, "acoustics.noises.0"),
        ({"acoustics": {"snr_db": [float("nan"), 10]}}, "acoustics.snr_db"),
        ({"train": {}}, "train: give either utterances or hours"),
        ({"train": {"hours": 1, "utterances": 3}}, "train: give either utterances or hours"),
        ({"test_sets": {"train": {"hours": 1}}}, "'train' cannot name a test set"),
        ({"test_sets": {"../x": {"hours": 1}}}, "'../x' cannot name a test set"),
        ({"test_sets": {}}, "name at least one test set"),
        ({"words": [0, 3]}, "0 to 3 words cannot be made"),
        ({"grammar": "digit"}, "grammar"),
    ],
)
def test_wrong_settings_name_the_file_and_the_key(tmp_path, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        prepare("synth", settings, tmp_path / "out", where="config/my.yaml: corpus.settings")
    assert "config/my.yaml: corpus.settings" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_corpus_gets_the_closest_name(tmp_path):
    with pytest.raises(UserError, match="unknown corpus 'sinth'; did you mean 'synth'"):
        prepare("sinth", {}, tmp_path)


def test_a_register_with_a_wrong_key_is_named(recordings):
    recordings.register.write_text(recordings.register.read_text() + "  licens: x\n")
    with pytest.raises(UserError, match="corpora.yaml: folder: unknown key 'licens'; did you mean 'licence'"):
        recordings.prepare()
