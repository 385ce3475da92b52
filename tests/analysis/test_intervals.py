"""Bootstrap intervals: seeded, by speaker, and of the width that theory gives."""

import random
from statistics import NormalDist

import pytest

from analysis.scoring.alignment import align
from analysis.scoring.trn import Transcript
from analysis.significance.contrasts import contrast, system_errors
from analysis.significance.intervals import wer_interval


def system(reference: Transcript, rate: float, seed: int, by_speaker: bool = False) -> Transcript:
    rng = random.Random(seed)
    lines = {}
    for utterance, line in reference.lines.items():
        unit = random.Random(f"{seed} {reference.speakers[utterance]}").random() if by_speaker else None
        heard = [b"x" if (unit if by_speaker else rng.random()) < rate else word for word in line.split()]
        lines[utterance] = b" ".join(heard)
    return Transcript("hyp", lines)


@pytest.fixture
def reference() -> Transcript:
    return spoken(500, 50)


def spoken(utterances: int, speakers: int | None, line: bytes = b"a b c d") -> Transcript:
    """A reference whose utterances are shared out among speakers, or whose speakers are not known."""
    ids = [f"s-{n}" for n in range(utterances)]
    named = speakers and {name: f"spk-{n % speakers}" for n, name in enumerate(ids)}
    return Transcript("ref", dict.fromkeys(ids, line), named)


def test_the_interval_has_the_width_of_the_binomial(reference):
    alignment = align(reference, system(reference, 0.2, 1))
    rate = alignment.counts.wer / 100
    expected = 2 * NormalDist().inv_cdf(0.975) * 100 * (rate * (1 - rate) / 2000) ** 0.5
    interval = wer_interval([alignment])
    assert interval.high - interval.low == pytest.approx(expected, rel=0.25)
    assert interval.low < alignment.counts.wer < interval.high
    assert interval.units == 50


def test_errors_that_come_by_speaker_widen_it(reference):
    scattered = wer_interval([align(reference, system(reference, 0.2, 1))])
    clustered = wer_interval([align(reference, system(reference, 0.2, 1, by_speaker=True))])
    assert clustered.high - clustered.low > 2 * (scattered.high - scattered.low)


def test_pairing_takes_away_what_both_systems_share(reference):
    a = align(reference, system(reference, 0.2, 1, by_speaker=True))
    lines = {
        u: line.replace(b"a", b"y", 1) if n % 10 == 0 else line for n, (u, line) in enumerate(reference.lines.items())
    }
    worse = align(reference, Transcript("hyp", lines))
    same, there, back = (
        contrast(system_errors([[[one]], [[other]]]), [1, -1]) for one, other in ((a, a), (a, worse), (worse, a))
    )
    assert (same.low, same.high) == (0.0, 0.0)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.low < a.counts.wer - worse.counts.wer < there.high


def test_equal_files_give_equal_intervals(reference):
    first = wer_interval([align(reference, system(reference, 0.2, 1))])
    assert first == wer_interval([align(reference, system(reference, 0.2, 1))])


def test_a_speaker_of_two_sets_is_one_speaker(reference):
    alignment = align(reference, system(reference, 0.2, 1))
    assert wer_interval([alignment, alignment]).units == 50
    assert wer_interval([alignment, alignment]) == wer_interval([alignment])


def test_without_speakers_every_utterance_stands_for_itself():
    reference = spoken(30, None, b"a b")
    assert wer_interval([align(reference, reference)]).units == 30


@pytest.mark.parametrize(("speakers", "few"), [(9, True), (10, False)])
def test_few_speakers_are_marked(speakers, few):
    reference = spoken(30, speakers, b"a b")
    found = wer_interval([align(reference, reference)])
    assert (found.units, found.few_units) == (speakers, few)
