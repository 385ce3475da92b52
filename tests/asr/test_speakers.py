"""Part of a set in which every speaker has a share."""

import random
from collections import Counter
from pathlib import Path

from asr.batches import enough, round_the_speakers
from asr.corpora import Utterance


def spoken(counts):
    """Utterances of speakers, so many of each, one speaker after the other as in a file."""
    return [
        Utterance(f"{speaker}-{number:03d}", Path("none.wav"), 8000, 1.0, speaker, "x")
        for speaker, count in counts.items()
        for number in range(count)
    ]


MANY = {f"s{number:02d}": 5 + 7 * (number % 4) for number in range(25)}


def test_each_speaker_has_a_turn_a_round():
    utterances = spoken(MANY)
    order = round_the_speakers(utterances)
    assert sorted(order) == list(range(len(utterances)))
    for length in (10, 25, 60, 125, 200):
        shares = Counter(utterances[index].speaker for index in order[:length])
        assert len(shares) == min(length, 25)
        taken_up = {speaker: MANY[speaker] for speaker in MANY if shares[speaker] == MANY[speaker]}
        others = [shares[speaker] for speaker in MANY if speaker not in taken_up]
        assert max(others) - min(others) <= 1
        assert max(shares.values()) <= max(others)


def test_the_order_is_neither_that_of_the_file_nor_depends_on_it():
    utterances = spoken(MANY)
    ids = [utterances[index].id for index in round_the_speakers(utterances)]
    mixed = random.Random(0).sample(utterances, len(utterances))
    assert [mixed[index].id for index in round_the_speakers(mixed)] == ids
    first_turns = [name for name in ids if name.startswith("s03-")]
    assert first_turns != sorted(first_turns)
    assert [name.split("-")[0] for name in ids[:25]] != sorted(MANY)


def test_leaving_one_out_moves_no_other_speaker():
    utterances = spoken(MANY)
    ids = [utterances[index].id for index in round_the_speakers(utterances)]
    fewer = [utterance for utterance in utterances if utterance.id != ids[40]]
    left = [fewer[index].id for index in round_the_speakers(fewer)]
    speaker = ids[40].split("-")[0]
    others = [name for name in ids if not name.startswith(speaker)]
    assert [name for name in left if not name.startswith(speaker)] == others


def test_enough_stops_at_what_is_wanted():
    frames = [10, 20, 30, 40]
    assert enough([3, 1, 0, 2], frames, 40) == [3]
    assert enough([3, 1, 0, 2], frames, 41) == [1, 3], "in the order of their numbers"
    assert enough([3, 1, 0, 2], frames, 1000) == [0, 1, 2, 3]
    assert enough([3, 1, 0, 2], frames, 0) == [3] and enough([], [], 10) == []
