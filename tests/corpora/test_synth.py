"""The embedded corpus: voices that do not overlap, the same bytes every time, texts one can hear."""

import collections
import filecmp
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr.corpora import grammar, prepare, read_audio, read_cuts, synth
from asr.corpora.acoustics import power
from asr.corpora.content import INDEX
from asr.corpora.espeak import Engine, Voice
from tests.corpora.conftest import SMALL_SYNTH

SETS = ("train", "dev", "test_clean", "test_noisy")


def same_files(first: Path, second: Path) -> bool:
    """Whether two prepared corpora are the same, but for when their audio was written."""
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(second)) for path in second.rglob("*") if path.is_file())
    names.remove(INDEX)
    return filecmp.cmpfiles(first, second, names, shallow=False) == (names, [], [])


def test_corpus_json_says_what_is_there(small_synth):
    corpus = json.loads((small_synth / "corpus.json").read_text())
    assert corpus["dev_set"] == "dev"
    assert corpus["test_sets"] == ["test_clean", "test_noisy"]
    assert corpus["sampling_rate"] == 8000
    for name in SETS:
        utterances = read_cuts(small_synth / f"{name}.jsonl.gz")
        held = corpus["sets"][name]
        assert held["utterances"] == len(utterances)
        assert held["words"] == sum(len(utterance.words) for utterance in utterances)
        assert held["seconds"] == pytest.approx(sum(len(read_audio(each)) for each in utterances) / 8000, abs=0.01)
        assert held["speakers"] == len({utterance.speaker for utterance in utterances})


def test_strings_of_words_use_every_word_of_the_sentences_and_no_grammar():
    rng = np.random.default_rng(0)
    texts = grammar.texts("words", (2, 4), False, rng)
    drawn = [next(texts).split() for _ in range(6000)]
    assert {len(words) for words in drawn} == {2, 3, 4}
    assert sorted({word for words in drawn for word in words}) == grammar.vocabulary("sentences")
    assert grammar.vocabulary("words") == grammar.vocabulary("sentences")
    firsts = collections.Counter(words[0] for words in drawn)
    assert max(firsts.values()) < 30, "drawn evenly: 6000 / 698 is 8.6"


def test_the_same_bytes_from_another_process_with_two_workers_after_other_speech(small_synth, tmp_path):
    settings = json.dumps({**SMALL_SYNTH, "workers": 2})
    command = [sys.executable, "-m", "asr.corpora", "synth", "--out", str(tmp_path / "a"), "--settings", settings]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert same_files(small_synth, tmp_path / "a")
    with Engine(Voice("en-us", "Reed", 120, 50, 50)) as engine:  # leaves the engine's noise somewhere else
        engine.say("something else")
    prepare("synth", SMALL_SYNTH, tmp_path / "b")
    assert same_files(small_synth, tmp_path / "b")


@pytest.mark.parametrize("variant", synth.VARIANTS)
def test_a_voice_sounds_the_same_whatever_was_said_before(variant):
    spoken = []
    for before in (None, "a longer sentence that moves every state the engine has"):
        with Engine(Voice("en-gb-scotland", variant, 140, 50, 50)) as engine:
            if before is None:
                spoken.append(engine.say("three nine"))
        with Engine(Voice("en-us", "Reed", 120, 40, 50)) as engine:
            engine.say("noise")
    with Engine(Voice("en-gb-scotland", variant, 140, 50, 50)) as engine:
        spoken.append(engine.say("three nine"))
    np.testing.assert_array_equal(*spoken)
    assert np.sqrt(power(spoken[0])) > 0.005
    assert np.abs(spoken[0]).max() < 0.999, "the voice clips"


def test_another_seed_says_other_things(small_synth, tmp_path):
    prepare("synth", {**SMALL_SYNTH, "seed": 1}, tmp_path)
    texts = [[each.text for each in read_cuts(folder / "train.jsonl.gz")] for folder in (small_synth, tmp_path)]
    assert texts[0] != texts[1]


def test_voices_of_train_dev_and_test_are_disjoint_in_timbre():
    settings = synth.Settings()
    voices = {role: synth.draw_voices(role, settings) for role in ("train", "dev", "test")}
    timbres = {role: {voice.variant for voice in each.values()} for role, each in voices.items()}
    assert {role: len(each) for role, each in voices.items()} == {"train": 200, "dev": 20, "test": 40}
    assert not timbres["train"] & timbres["dev"]
    assert not timbres["train"] & timbres["test"]
    assert not timbres["dev"] & timbres["test"]
    assert set.union(*timbres.values()) == set(synth.VARIANTS)
    # What experiments find in names (`speaker_groups`) are the timbres.
    found = {(name.partition("_")[0], voice.variant) for name, voice in voices["test"].items()}
    assert len(found) == len(timbres["test"]) == 16 == len({name for name, _ in found})
    for each in voices.values():
        assert len(set(each.values())) == len(each)
        assert all(95 <= voice.words_per_minute <= 165 for voice in each.values())


def test_speakers_of_the_sets_are_disjoint_in_the_manifests(small_synth):
    speakers = {name: {each.speaker for each in read_cuts(small_synth / f"{name}.jsonl.gz")} for name in SETS}
    assert len(speakers["train"]) == 12
    assert not speakers["train"] & (speakers["dev"] | speakers["test_clean"] | speakers["test_noisy"])
    assert not speakers["dev"] & speakers["test_clean"]
    assert speakers["test_clean"] == speakers["test_noisy"]


def test_utterances_are_audible_and_long_enough_for_their_words(small_synth):
    for name in SETS:
        for utterance in read_cuts(small_synth / f"{name}.jsonl.gz"):
            samples = read_audio(utterance)
            assert samples.shape == (utterance.samples,)
            assert -40 < 10 * np.log10(power(samples)) < -10
            assert 0.1 < utterance.seconds / len(utterance.words) < 2.5
            assert utterance.id.startswith(f"{utterance.speaker}-")


def test_a_noisy_test_set_is_noisy_and_a_clean_one_is_clean(small_synth):
    floors = {}
    for name in ("test_clean", "test_noisy"):
        levels = []
        for utterance in read_cuts(small_synth / f"{name}.jsonl.gz"):
            samples = read_audio(utterance)
            levels.append(10 * np.log10(max(power(samples[:800]), 1e-10) / power(samples)))
        floors[name] = np.median(levels)
    assert floors["test_clean"] < -60  # digital silence before the first word
    assert floors["test_noisy"] > -10


def test_hours_are_met_to_a_few_percent(tmp_path):
    settings = {**SMALL_SYNTH, "train": {"hours": 0.05}}
    corpus = prepare("synth", settings, tmp_path)
    assert corpus["sets"]["train"]["seconds"] == pytest.approx(180, rel=0.08)


def test_the_length_of_digit_strings_is_a_setting_of_the_set(tmp_path):
    settings = {**SMALL_SYNTH, "words": [2, 3], "dev": {"utterances": 6, "words": [5, 5]}}
    prepare("synth", settings, tmp_path)
    assert {len(each.words) for each in read_cuts(tmp_path / "train.jsonl.gz")} == {2, 3}
    assert {len(each.words) for each in read_cuts(tmp_path / "dev.jsonl.gz")} == {5}


def test_sentences_have_several_hundred_words_and_held_out_ones_are_never_trained_on():
    words = grammar.vocabulary("sentences")
    assert 600 <= len(words) <= 900
    streams = {held_out: grammar.texts("sentences", (3, 10), held_out, np.random.default_rng(0)) for held_out in (0, 1)}
    texts = {held_out: {next(stream) for _ in range(4000)} for held_out, stream in streams.items()}
    assert not texts[0] & texts[1]
    assert all(3 <= len(text.split()) <= 10 for text in texts[0] | texts[1])
    used = {word for text in texts[0] for word in text.split()}
    assert used <= set(words)
    assert len(used) > 0.98 * len(words), "some words of the grammar are hardly ever said"


@pytest.mark.parametrize("accent", synth.ACCENTS)
def test_no_two_words_of_the_grammar_sound_alike(accent):
    sounds = collections.defaultdict(list)
    with Engine(Voice(accent, "m3", 130, 50, 50)) as engine:
        for word in grammar.vocabulary("sentences"):
            sounds[engine.phonemes(word).replace("'", "").replace(",", "")].append(word)
    assert [words for words in sounds.values() if len(words) > 1] == []


def test_the_grammar_has_minimal_pairs():
    words = set(grammar.vocabulary("sentences"))
    for pair in (("bat", "pat"), ("pin", "bin"), ("fan", "van"), ("lock", "rock"), ("ship", "sheep"), ("cap", "cab")):
        assert words >= set(pair)


def test_sentences_are_spoken(tmp_path):
    settings = {**SMALL_SYNTH, "grammar": "sentences"}
    prepare("synth", settings, tmp_path)
    utterances = read_cuts(tmp_path / "train.jsonl.gz")
    assert {word for each in utterances for word in each.words} <= set(grammar.vocabulary("sentences"))
    # Characters must fit into 25 frames a second, what is left after subsampling by 4.
    assert max(len(each.text) / each.seconds for each in utterances) < 22
