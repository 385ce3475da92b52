"""Our scoring against NIST's own programs, on generated recognisers: alignments, totals, segments, Z, decisions."""

import json
import random
import warnings

import pytest

from analysis.scoring.alignment import align
from analysis.scoring.trn import read_trn
from analysis.significance.mapsswe import mapsswe
from tests.analysis import nist

INSTALLED = nist.program("sclite") and nist.program("sc_stats")


@pytest.fixture(scope="module", params=range(nist.GROUPS))
def case(request, tmp_path_factory):
    """One group of systems: our alignments, and NIST's answer from the programs or from the recorded vectors."""
    seed = request.param
    reference, systems = nist.group(seed)
    reference_path, paths = nist.write_group(tmp_path_factory.mktemp("group"), reference, systems)
    ours = [align(read_trn(reference_path), read_trn(path)) for path in paths]
    answer = nist.ask(reference, systems) if INSTALLED else json.loads(nist.VECTORS.read_text())[seed]
    return ours, answer


@pytest.mark.skipif(not INSTALLED, reason="sclite and sc_stats are NOT installed (Debian: apt-get install sctk)")
def test_the_recorded_answers_are_those_of_the_real_programs():
    """Skipped, visibly, where the tests below had to fall back on the recorded answers."""
    recorded = json.loads(nist.VECTORS.read_text())
    assert recorded == [nist.ask(*nist.group(seed)) for seed in range(nist.GROUPS)]


def test_every_alignment_is_the_one_sclite_chose(case):
    ours, answer = case
    for alignment, theirs in zip(ours, answer["alignments"], strict=True):
        for position, utterance in enumerate(alignment.reference.lines):
            operations = alignment.operations[alignment.starts[position] : alignment.starts[position + 1]]
            assert "".join("CSDI"[operation] for operation in operations) == theirs[utterance], utterance


def test_the_totals_are_those_of_sclites_own_summary(case):
    ours, answer = case
    assert [alignment.counts.to_json() for alignment in ours] == answer["totals"]


def test_every_pair_is_judged_as_sc_stats_judges_it(case):
    ours, answer = case
    assert len(answer["pairs"]) == nist.SYSTEMS * (nist.SYSTEMS - 1) // 2
    for names, theirs in answer["pairs"].items():
        a, b = (ours[int(name.removeprefix("sys"))] for name in names.split())
        result = mapsswe([(a, b)])
        assert (result.segments, result.significant) == (theirs["segments"], theirs["significant"]), names
        for figure in ("mean", "sd", "z"):  # sc_stats prints three digits
            assert getattr(result, figure) == pytest.approx(theirs[figure], abs=0.000501), (names, figure)


def test_the_cases_hold_what_they_are_meant_to_hold():
    groups = [nist.group(seed) for seed in range(nist.GROUPS)]
    hypotheses = [(r[u], words) for r, systems in groups for system in systems for u, words in system.items()]
    assert any(words and not heard for words, heard in hypotheses)  # empty hypotheses
    assert any(heard and not words for words, heard in hypotheses)  # empty references
    assert any(len(words) > len(set(words)) for words, _ in hypotheses)  # repeated words
    assert any(
        len(heard) > len(words) > 0 and heard[: len(words)] == words for words, heard in hypotheses
    )  # at the end
    assert any(len(heard) > len(words) > 1 and heard[-len(words) :] == words for words, heard in hypotheses)
    decisions = {v["significant"] for answer in json.loads(nist.VECTORS.read_text()) for v in answer["pairs"].values()}
    assert decisions == {True, False}


@pytest.mark.skipif(not INSTALLED, reason="sclite and sc_stats are NOT installed (Debian: apt-get install sctk)")
def test_identical_systems_and_constant_differences(tmp_path):
    rng = random.Random(1)
    reference = {f"s-{n}": [f"w{rng.randrange(9)}" for _ in range(8)] for n in range(40)}
    constant = {u: ["x", *words[1:]] for u, words in reference.items()}
    other = {u: [*words[:-1], "x"] for u, words in reference.items()}
    answer = nist.ask(reference, [constant, constant, reference, other])
    reference_path, paths = nist.write_group(tmp_path, reference, [constant, constant, reference, other])
    ours = [align(read_trn(reference_path), read_trn(path)) for path in paths]
    for names, theirs in answer["pairs"].items():
        a, b = (int(name.removeprefix("sys")) for name in names.split())
        result = mapsswe([(ours[a], ours[b])])
        assert (result.segments, result.z, result.significant) == (theirs["segments"], theirs["z"], False)
        assert result.constant_difference == (3 not in (a, b) or 2 in (a, b))


@pytest.mark.skipif(not INSTALLED, reason="sclite and sc_stats are NOT installed (Debian: apt-get install sctk)")
def test_sc_stats_has_no_answer_for_two_faultless_systems_and_we_say_zero_segments(tmp_path):
    reference = {"s-1": ["a", "b"]}
    if nist.ask(reference, [reference, reference])["pairs"] is not None:
        warnings.warn("this sc_stats no longer crashes on zero segments", stacklevel=1)
    path, paths = nist.write_group(tmp_path, reference, [reference, reference])
    a, b = (align(read_trn(path), read_trn(p)) for p in paths)
    result = mapsswe([(a, b)])
    assert (result.segments, result.z, result.p, result.significant) == (0, 0.0, 1.0, False)
