"""Texts survive the way to ids and back, in all units; what the units cannot write is named."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import tokenizer as tokenizers
from asr.corpora import Utterance, grammar
from asr.settings import TokenizerSettings
from asr.tokenizer import LETTERS, Letters, Tokenizer
from common.errors import UserError

WORDS = st.text(st.characters(exclude_characters="▁", exclude_categories=("C", "Z")), min_size=1, max_size=8)
TEXTS = st.lists(
    st.lists(WORDS.filter(lambda word: word not in ("<blank>", "<sos/eos>")), min_size=1, max_size=6).map(" ".join),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    stream = grammar.texts("sentences", (3, 10), False, np.random.default_rng(0))
    return [next(stream) for _ in range(2500)]


@pytest.mark.parametrize(("units", "size"), [("word", None), ("char", None), ("bpe", 60), ("bpe", 2000)])
def test_sentences_survive_saving_and_loading(sentences, units, size, tmp_path):
    tokenizer = Tokenizer.train(sentences, units, size)
    assert tokenizer.tokens[0] == "<blank>"
    assert tokenizer.tokens[-1] == "<sos/eos>"
    assert (tokenizer.blank, tokenizer.sos_eos) == (0, len(tokenizer) - 1)
    assert len(set(tokenizer.tokens)) == len(tokenizer)
    if size:
        assert len(tokenizer) == size + 2
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.tokens == tokenizer.tokens
    for text in sentences[:500]:
        ids = tokenizer.encode(text)
        assert loaded.encode(text) == ids
        assert loaded.decode(ids) == text
        assert tokenizer.blank not in ids
        assert tokenizer.sos_eos not in ids


@pytest.mark.parametrize(("units", "size"), [("word", None), ("char", None), ("bpe", 100)])
def test_training_twice_gives_the_same_file(sentences, units, size, tmp_path):
    for name in ("a", "b"):
        Tokenizer.train(sentences, units, size).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(["word", "char"]))
def test_any_text_survives(texts, units):
    tokenizer = Tokenizer.train(texts, units)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_any_text_survives_byte_pairs(texts):
    characters = len(set("".join(texts)) - {" "}) + 1  # the single characters are the smallest model
    tokenizer = Tokenizer.train(texts, "bpe", characters)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


@given(st.lists(st.integers(0, 11)))
@settings(max_examples=50, deadline=None)
def test_special_tokens_say_nothing(ids):
    tokenizer = Tokenizer.train([" ".join(grammar.DIGITS)], "word")
    assert len(tokenizer) == 12
    assert tokenizer.decode(ids) == " ".join(tokenizer.tokens[each] for each in ids if each not in (0, 11))


@pytest.mark.parametrize(
    ("units", "size", "text", "message"),
    [
        ("word", None, "one eleven", "word 'eleven' is not in the tokenizer"),
        ("char", None, "one é", "character 'é' is not in the tokenizer"),
        ("char", None, "one <space>", "character '<' is not in the tokenizer"),
        ("bpe", 20, "one é", "character 'é' is not in the tokenizer"),
        ("bpe", 20, "one▁two", "character '▁' is not in the tokenizer"),
        ("word", None, "<blank>", "word '<blank>' is not in the tokenizer"),
    ],
)
def test_what_is_outside_is_named_with_its_utterance(tmp_path, units, size, text, message):
    tokenizer = Tokenizer.train([" ".join(grammar.DIGITS)], units, size)
    with pytest.raises(UserError, match=message):
        tokenizer.encode(text)
    good = Utterance("ann-1", tmp_path / "1.wav", 8000, 1.0, "ann", "one two")
    bad = Utterance("ann-2", tmp_path / "2.wav", 8000, 1.0, "ann", text)
    tokenizer.check([good])
    with pytest.raises(UserError, match=f"utterance ann-2: .*{message}"):
        tokenizer.check([good, bad])


@pytest.mark.parametrize(
    ("texts", "units", "size", "message"),
    [
        (["a b"], "words", None, "units 'words' are unknown"),
        (["a b"], "bpe", None, "vocabulary_size goes with units 'bpe'"),
        (["a b"], "word", 10, "vocabulary_size goes with units 'bpe'"),
        ([" ", ""], "word", None, "no words to train on"),
        (["a <blank>"], "word", None, "holds '<blank>'"),
        (["a▁b"], "bpe", 5, "holds '▁'"),
        (["ab ba"], "bpe", 4000, "vocabulary_size 4000 is not possible; these texts allow at most"),
        (["abcdefgh"], "bpe", 3, "vocabulary_size 3 is not possible"),
    ],
)
def test_impossible_training_is_said(texts, units, size, message):
    with pytest.raises(UserError, match=message):
        Tokenizer.train(texts, units, size)


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"units": "word"},
        {"units": "bytes", "tokens": ["<blank>", "<sos/eos>"], "model": None},
        {"units": "word", "tokens": ["a", "<sos/eos>"], "model": None},
        {"units": "bpe", "tokens": ["<blank>", "a", "<sos/eos>"], "model": "AAAA"},
        {"units": "bpe", "tokens": ["<blank>", "a", "<sos/eos>"], "model": None},
        {"units": "letter", "tokens": ["<blank>", "|", "A"], "model": None},
        {"units": "letter", "tokens": ["<pad>", "A"], "model": None},
        {"units": ["letter"], "tokens": ["<pad>", "|", "A"], "model": None},
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, data):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer.load(path)


def test_an_id_outside_the_list_is_our_mistake():
    tokenizer = Tokenizer.train(["a"], "word")
    for number in (-1, 3):
        with pytest.raises(IndexError):
            tokenizer.decode([number])


# What transformers' own tokenizer gives for these texts with the vocabulary of wav2vec2-base-100h.
HUB = [("it's a quiz", [10, 6, 27, 12, 4, 7, 4, 30, 16, 10, 31]), ("ZERO  ONE", [31, 5, 13, 8, 4, 8, 9, 5])]


@pytest.mark.parametrize(("text", "ids"), HUB)
def test_letters_are_those_of_the_hub(text, ids):
    letters = Letters()
    assert len(letters) == 32 and letters.blank == 0
    assert letters.encode(text) == ids
    assert letters.decode(ids) == " ".join(text.upper().split())


def test_letters_agree_with_transformers_own_tokenizer(tmp_path, sentences):
    import transformers

    vocab = tmp_path / "vocab.json"
    vocab.write_text(json.dumps({token: number for number, token in enumerate(LETTERS)}))
    theirs = transformers.Wav2Vec2CTCTokenizer(str(vocab))
    ours = Tokenizer.from_vocab(vocab)
    for text in sentences[:200]:
        ids = ours.encode(text)
        assert ids == theirs(text.upper()).input_ids
        assert ours.decode(ids) == theirs.decode(ids, group_tokens=False)


def test_letters_survive_saving_and_have_no_decoder(tmp_path):
    letters = Letters()
    letters.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert isinstance(loaded, Letters) and loaded.tokens == letters.tokens == list(LETTERS)
    assert loaded.decode([0, 1, 2, 3, 24, 4, 4, 7]) == "B A"
    assert not hasattr(loaded, "sos_eos")


def test_another_case_is_said_once_a_process(capsys, monkeypatch):
    monkeypatch.setattr(tokenizers, "_said", set())
    Letters().encode("ONE")
    assert capsys.readouterr().err == ""
    Letters().encode("one")
    Letters().encode("Two")
    assert capsys.readouterr().err == "note: transcripts are brought to upper case, the tokenizer's case\n"


def vocab(tmp_path, tokens):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(tokens if isinstance(tokens, dict) else {t: n for n, t in enumerate(tokens)}))
    return path


def test_a_list_of_small_letters_keeps_small_letters(tmp_path):
    letters = Tokenizer.from_vocab(vocab(tmp_path, ["<pad>", "[UNK]", "|", "a", "b"]))
    assert letters.case == "lower" and letters.decode(letters.encode("A bA")) == "a ba"
    both = Tokenizer.from_vocab(vocab(tmp_path, ["<pad>", "|", "a", "A"]))
    assert both.case is None and both.decode(both.encode("aA")) == "aA"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "does not begin with <pad>"),
        (["|", "<pad>", "A"], "does not begin with <pad>"),
        (["<pad>", "A"], "has no '|' for the space"),
        (["<pad>", "|", "AB"], "'AB' is no letter"),
        ({"<pad>": 0, "|": 2}, "does not number its entries"),
        ({"<pad>": 0, "|": "1"}, "not a list of letters"),
    ],
)
def test_a_vocabulary_that_is_no_list_of_letters_is_named(tmp_path, tokens, message):
    path = vocab(tmp_path, tokens)
    with pytest.raises(UserError) as error:
        Tokenizer.from_vocab(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_all_missing_letters_are_named(tmp_path):
    letters = Tokenizer.from_vocab(vocab(tmp_path, ["<pad>", "|", "O", "N", "E"]))
    texts = [SimpleNamespace(id=f"ann-{n}", text=text) for n, text in enumerate(["one", "two|", "one six"])]
    letters.check(texts[:1])
    with pytest.raises(UserError, match=r"lacks 'I' 'S' 'T' 'W' 'X' '\|', .*first: utterance ann-1"):
        letters.check(texts)
    with pytest.raises(UserError, match="transcript 'two': character 'T' is not in the tokenizer"):
        letters.encode("two")


def test_settings_choose_the_tokenizer(tmp_path):
    texts = ["one two"]
    assert Tokenizer.make(TokenizerSettings(units="letter"), texts).tokens == list(LETTERS)
    path = vocab(tmp_path, ["<pad>", "|", "A"])
    assert Tokenizer.make(TokenizerSettings(units="letter", letters=str(path)), texts).tokens == ["<pad>", "|", "A"]
    assert Tokenizer.make(TokenizerSettings(units="word"), texts).tokens == ["<blank>", "one", "two", "<sos/eos>"]
    assert len(Tokenizer.make(TokenizerSettings(vocabulary=7), texts)) == 9
