"""`.trn` files: what is written comes back, nothing in a hypothesis buys credit, bad files get one clear message."""

import random
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.scoring.alignment import align
from analysis.scoring.trn import Transcript, check_same_utterances, escape, read_trn, unescape, write_trn
from common.errors import UserError
from tests.analysis import nist

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(str.split)
hostile = st.lists(st.sampled_from(["{", "}", "/", "@", ";;", "**", "*", "a", "b", "a;b", "a*", "\\a", "a\\", "(a)"]))


@given(words)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_what_is_written_is_read(tmp_path, utterance):
    write_trn(tmp_path / "x.trn", [("s-1", " ".join(utterance)), ("s-2", "")])
    transcript = read_trn(tmp_path / "x.trn")
    assert transcript.words("s-1") == utterance
    assert transcript.words("s-2") == []


@given(st.text())
def test_escapes_are_undone(word):
    assert unescape(escape(word)) == word


def test_only_what_must_be_is_escaped():
    assert escape("%HESITATION") == "%HESITATION"
    assert escape("100%") == "100%"
    assert escape("it's") == "it's"
    assert escape("a@b") == "a@b"
    assert escape("@") == "%40"
    assert escape("%7B") == "%257B"


@pytest.mark.skipif(not nist.program("sclite"), reason="sclite is NOT installed (Debian: apt-get install sctk)")
@given(hostile)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_sclite_gives_no_credit_for_what_we_write(tmp_path, heard):
    """sclite on the file we write counts what we count, and every word that is not the reference's is an error."""
    write_trn(tmp_path / "ref", [("s-1", "a b")])
    write_trn(tmp_path / "hyp", [("s-1", " ".join(heard))])
    theirs = nist.paths_of(nist.sclite(tmp_path / "ref", tmp_path / "hyp"))["s-1"]
    counts = align(read_trn(tmp_path / "ref"), read_trn(tmp_path / "hyp")).counts
    assert (theirs.count("S"), theirs.count("D"), theirs.count("I")) == (counts.sub, counts.dele, counts.ins)
    assert theirs.count("C") + theirs.count("S") + theirs.count("I") == len(heard)
    assert theirs.count("C") <= heard.count("a") + heard.count("b")


@pytest.mark.skipif(not nist.program("sclite"), reason="sclite is NOT installed (Debian: apt-get install sctk)")
@pytest.mark.parametrize("seed", range(4))
def test_sclite_counts_what_we_count_whatever_the_words_are_made_of(tmp_path, seed):
    rng = random.Random(seed)
    signs = [*string.printable.strip(), *"éÉñßİ漢\u00a0\u2028"]

    def word() -> str:
        return "".join(rng.choices(signs, k=rng.choice([1, 1, 2, 3])))

    def misheard(said: str) -> str:
        return rng.choice([said, said, said + rng.choice(signs), rng.choice(signs) + said, said.swapcase(), word()])

    reference = {f"s-{n}": " ".join(word() for _ in range(rng.randint(0, 6))) for n in range(60)}
    heard = {
        u: " ".join(misheard(said) for said in words.split(" ") if rng.random() < 0.9) for u, words in reference.items()
    }
    write_trn(tmp_path / "ref", reference.items())
    write_trn(tmp_path / "hyp", heard.items())
    counts = align(read_trn(tmp_path / "ref"), read_trn(tmp_path / "hyp")).counts
    assert nist.sclite_totals(tmp_path / "ref", tmp_path / "hyp") == counts.to_json()


@pytest.mark.parametrize("line", ["{ a / b } c", "a @ b", ";; a", "a;1 b", "a* b", "** a", "a\\b", "@"])
def test_syntax_is_refused_when_read(tmp_path, line):
    (tmp_path / "h.trn").write_text(f"a (s-1)\n{line} (s-2)\n")
    with pytest.raises(UserError, match=r"h\.trn, line 2: .* has a meaning of its own to sclite"):
        read_trn(tmp_path / "h.trn")


def test_ordinary_signs_are_read(tmp_path):
    (tmp_path / "h.trn").write_text("a/b (uh) <x> it's 5% a@b.c - (s-1)\n\n")
    assert read_trn(tmp_path / "h.trn").words("s-1") == ["a/b", "(uh)", "<x>", "it's", "5%", "a@b.c", "-"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a b (s-1)\nc d\n", "line 2: no utterance id"),
        (b"a b (s 1)\n", "line 1: no utterance id"),
        (b"a b ()\n", "line 1: no utterance id"),
        (b"a (s-1)\nb (s-2)\nc (s-1)\n", "line 3: utterance 's-1' comes a second time"),
        (b"a (s-1)\ncaf\xe9 (s-2)\n", "line 2: not UTF-8 .byte 0xe9"),
        (b"a\x00b (s-1)\n", "line 1: .*sclite"),
        (b"", "holds no utterance"),
        (b"\n \n", "holds no utterance"),
    ],
)
def test_bad_files_name_file_and_line(tmp_path, content, message):
    (tmp_path / "x.trn").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.trn.*{message}"):
        read_trn(tmp_path / "x.trn")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_trn(tmp_path / "x.trn")
    with pytest.raises(UserError, match="cannot be read"):
        read_trn(tmp_path)


@pytest.mark.parametrize("utterance", ["", "a b", "a(b", "a\nb"])
def test_ids_that_a_file_cannot_hold_are_not_written(tmp_path, utterance):
    with pytest.raises(UserError, match="cannot be an utterance id"):
        write_trn(tmp_path / "x.trn", [(utterance, "a")])
    assert not list(tmp_path.iterdir())


def test_an_id_is_written_once(tmp_path):
    with pytest.raises(UserError, match="'s-1' comes twice"):
        write_trn(tmp_path / "x.trn", [("s-1", "a"), ("s-1", "b")])


def test_differing_utterances_are_named_with_their_side(tmp_path):
    write_trn(tmp_path / "r.trn", [(f"s-{n}", "a") for n in range(6)])
    write_trn(tmp_path / "h.trn", [("s-0", "a"), ("t-9", "a")])
    with pytest.raises(UserError) as error:
        check_same_utterances(read_trn(tmp_path / "r.trn"), read_trn(tmp_path / "h.trn"))
    message = str(error.value)
    assert "5 only in the reference (s-1, s-2, s-3, ...)" in message
    assert "1 only in the hypothesis (t-9)" in message
    assert "r.trn" in message and "h.trn" in message


def test_an_id_says_nothing_of_its_speaker():
    lines = dict.fromkeys(("s01-a-3", "s01-b-1"), b"a")
    assert Transcript(Path("r.trn"), lines).units == ["s01-a-3", "s01-b-1"]
    assert Transcript(Path("r.trn"), lines, {"s01-b-1": "b", "s01-a-3": "a"}).units == ["a", "b"]
