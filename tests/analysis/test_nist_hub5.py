"""Hub-5 scoring against NIST's own programs, on generated files: rules, text filter, networks, conversations."""

import json

import pytest

from analysis.scoring.glm import read_glm
from analysis.scoring.hub5 import filter_text, hypothesis_items
from analysis.scoring.lattice import align_items, parse
from analysis.scoring.normalise import load_normaliser
from analysis.scoring.score import align_all
from analysis.scoring.segments import segments
from analysis.significance.mapsswe import mapsswe
from analysis.stm import score
from tests.analysis import nist, nist_hub5

INSTALLED = nist_hub5.installed()
MISSING = "NIST's hubscr.pl, csrfilt.sh, rfilter1 and sclite are NOT installed (Debian: apt-get install sctk)"


@pytest.fixture(scope="module")
def answer() -> dict:
    """NIST's answers: from the programs where they are installed, else the recorded ones."""
    return nist_hub5.ask() if INSTALLED else json.loads(nist_hub5.VECTORS.read_text())


@pytest.fixture(scope="module")
def glm(tmp_path_factory):
    """The made-up GLM as a file."""
    path = tmp_path_factory.mktemp("glm") / "test.glm"
    path.write_text(nist_hub5.GLM)
    return path


@pytest.mark.skipif(not INSTALLED, reason=MISSING)
def test_the_recorded_answers_are_those_of_the_real_programs(answer):
    """Skipped, visibly, where the tests below had to fall back on the recorded answers."""
    assert json.loads(nist_hub5.VECTORS.read_text()) == answer


def test_every_line_is_rewritten_as_rfilter1_rewrites_it(answer, tmp_path):
    for seed, theirs in enumerate(answer["rfilter1"]):
        rules, text = nist_hub5.rule_file(seed)
        (tmp_path / "rules.glm").write_text(rules)
        read = read_glm(tmp_path / "rules.glm")
        assert "".join(read.apply(line.encode()).decode() for line in text.splitlines(True)) == theirs, rules


def test_every_transcript_is_filtered_as_csrfilt_filters_it(answer, glm):
    read = read_glm(glm, "trn")
    for line, theirs in zip(nist_hub5.filtered_lines(), answer["csrfilt"]["trn"], strict=True):
        assert filter_text(line.encode(), read).decode() == theirs, line


def test_every_recognised_word_becomes_what_csrfilt_makes_of_it(answer, glm):
    marks = {"<ALT_BEGIN>": "{", "<ALT>": "/", "<ALT_END>": "}"}
    read = read_glm(glm, "ctm", "hyp")
    ours = hypothesis_items([word.encode() for word in nist_hub5.WORDS], read, {})
    theirs = " ".join(marks.get(word, word.lower()) for word in answer["csrfilt"]["ctm"])
    assert ours == parse(theirs.encode())


def test_every_pair_of_networks_is_scored_as_sclite_scores_it(answer):
    for (reference, hypothesis), theirs in zip(nist_hub5.networks(), answer["sclite"], strict=True):
        operations, totals, heard = align_items(parse(reference.encode()), parse(hypothesis.encode()))
        assert totals == theirs, (reference, hypothesis)
        assert len(heard) == sum(operation != 2 for operation in operations)


def test_conversations_are_scored_as_hubscr_scores_them_speaker_by_speaker(answer, glm, tmp_path):
    for seed, theirs in enumerate(answer["hubscr"]):
        for path, text in zip(("r.stm", "h.ctm"), nist_hub5.conversations(seed), strict=True):
            (tmp_path / path).write_text(text)
        found = score(tmp_path / "r.stm", tmp_path / "h.ctm", load_normaliser("hub5-1", glm))
        ours = {}
        for utterance, (correct, sub, dele, ins) in zip(found.reference.lines, found.totals.tolist(), strict=True):
            row = ours.setdefault(utterance.rpartition("-")[0], [0] * 6)
            figures = [1, correct + sub + dele, correct, sub, dele, ins]
            row[:] = [sum(pair) for pair in zip(row, figures, strict=True)]
        assert ours == theirs, seed


def test_utterances_without_alternatives_are_scored_alike_by_both_aligners():
    for seed in range(3):
        reference, systems = nist.group(seed)
        for system in systems:
            for utterance, words in reference.items():
                sides = [[word.lower().encode() for word in side] for side in (words, system[utterance])]
                plain = align_all("ref", {"u": sides[0]}, {"u": sides[1]})
                operations, totals, _ = align_items(*sides)
                assert (plain.operations.tolist(), plain.totals[0].tolist()) == (operations, totals)


def test_systems_that_took_different_alternatives_are_compared_word_by_word():
    reference = {"u": parse(b"a { b c d / e } f (uh) g h")}
    long = align_all("ref", reference, {"u": parse(b"a b c d f g h")})
    short = align_all("ref", reference, {"u": parse(b"a e f uh x h")})
    assert long.reference.lines == {"u": b"a b c d f (uh) g h"} == short.reference.lines
    assert long.totals.tolist() == [[8, 0, 0, 0]] and short.totals.tolist() == [[5, 1, 0, 0]]
    assert short.hypothesis.lines["u"].split() == b"a e @ @ f uh x h".split()
    assert segments(long.operations, long.starts, short.operations, short.starts, 2).tolist() == [[0, 1]]


@pytest.mark.skipif(not INSTALLED, reason=MISSING)
def test_significance_with_optional_words_and_fragments_is_that_of_sc_stats(tmp_path):
    reference = {f"s{n % 3}-{n}": f"(uh) a b wor- c d (um) e f{n % 4} g".split() for n in range(30)}
    systems = [
        {
            u: [w.strip("()") for i, w in enumerate(words) if (i * k + n) % 7]
            for n, (u, words) in enumerate(reference.items())
        }
        for k in (2, 3)
    ]
    for name, side in zip(("ref", "sys0", "sys1"), [reference, *systems], strict=True):
        (tmp_path / name).write_text("".join(f"{' '.join(words)} ({u})\n" for u, words in side.items()))
    sgml = ""
    for name in ("sys0", "sys1"):
        sgml += nist_hub5.run(
            "sclite", *f"-r ref trn -h {name} trn -i rm -F -D -o sgml stdout".split(), folder=tmp_path
        )
    theirs = nist.sc_stats(sgml, tmp_path)["sys0 sys1"]
    items = [{u: parse(" ".join(w).encode()) for u, w in side.items()} for side in (reference, *systems)]
    result = mapsswe([(align_all("ref", items[0], items[1]), align_all("ref", items[0], items[2]))])
    assert (result.segments, result.significant) == (theirs["segments"], theirs["significant"])
    assert result.z == pytest.approx(theirs["z"], abs=0.000501)


def test_the_cases_hold_what_they_are_meant_to_hold(answer):
    texts = [side for pair in nist_hub5.networks() for side in pair]
    assert sum("{" in text for text in texts) > 100 and sum("@" in text for text in texts) > 50
    assert any("{ {" in text or "/ {" in text for text in texts) and any("-" in text and "(" in text for text in texts)
    changed = sum(nist_hub5.rule_file(seed)[1] != theirs for seed, theirs in enumerate(answer["rfilter1"]))
    assert changed > 0.8 * nist_hub5.RULE_FILES
    assert any(sum(row[4:]) for speakers in answer["hubscr"] for row in speakers.values())
