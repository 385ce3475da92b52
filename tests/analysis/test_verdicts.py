"""Verdicts from intervals, and the test words that would settle them, by simulation."""

import numpy as np
import pytest

from analysis.contrasts import Estimate, SystemErrors, contrast
from analysis.verdicts import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, REPRODUCED, Outcome, all_of, judge


def estimate(value, low, high, test_low=None, test_high=None, seeds=1, words=1000) -> Estimate:
    ends = (low if test_low is None else test_low, high if test_high is None else test_high)
    return Estimate(value, low, high, *ends, seeds, 40, words)


@pytest.mark.parametrize(
    ("found", "side", "bounds", "p", "verdict"),
    [
        ((0.0, -0.2, 0.2), "below", (0.3, 0.3), None, REPRODUCED),
        ((0.2, 0.1, 0.29), "below", (0.3, 0.3), 0.001, REPRODUCED),  # a sure loss, but one that does not matter
        ((0.0, -0.5, 0.5), "below", (0.3, 0.3), None, INCONCLUSIVE),
        ((1.0, 0.2, 1.8), "below", (0.3, 0.3), 0.01, INCONCLUSIVE),  # a sure loss, not surely one that matters
        ((1.0, 0.4, 1.6), "below", (0.3, 0.3), 0.01, CONTRADICTED),
        ((1.0, 0.4, 1.6), "above", (0.0, 0.3), 0.01, REPRODUCED),
        ((1.0, 0.4, 1.6), "above", (0.0, 0.3), 0.2, INCONCLUSIVE),  # the test disagrees
        ((0.1, -0.1, 0.25), "above", (0.0, 0.3), 0.4, CONTRADICTED),  # no gain that matters
        ((0.1, -0.1, 0.35), "above", (0.0, 0.3), 0.4, INCONCLUSIVE),
        ((-1.0, -2.0, -0.1), "above", (0.0, 0.3), 0.4, CONTRADICTED),
    ],
)
def test_the_interval_decides(found, side, bounds, p, verdict):
    assert judge(estimate(*found), side, *bounds, p)[0] == verdict


def test_words_by_hand():
    # 0.5 wide where 0.25 is needed: four times the words.
    assert judge(estimate(0.05, -0.45, 0.55), "below", 0.3, 0.3) == (INCONCLUSIVE, 4000)
    assert judge(estimate(0.25, -0.5, 1.0), "above", 0.0, 0.3)[1] == 9000  # reproduced sooner than contradicted
    assert judge(estimate(0.3, 0.0, 0.6), "below", 0.3, 0.3)[1] is None  # on the bound: no amount
    assert judge(estimate(1.0, 0.4, 1.6), "above", 0.0, 0.3, p=0.3173)[1] == pytest.approx(3841, abs=3)  # Z 1 to 1.96


def test_more_words_do_not_make_up_for_seeds():
    wide = estimate(0.0, -5.0, 5.0, test_low=-0.1, test_high=0.1, seeds=3)
    assert judge(wide, "below", 0.3, 0.3) == (INCONCLUSIVE, None)
    half = estimate(0.0, -0.5, 0.5, test_low=-0.4, test_high=0.4, seeds=3)  # of the seeds: sqrt(0.25 - 0.16) = 0.3
    assert judge(half, "below", 0.4, 0.4)[1] == pytest.approx(1000 * 0.16 / 0.07, abs=1)


@pytest.mark.parametrize("bound", [0.5, 1.0])
def test_the_words_said_to_settle_it_do_and_fewer_do_not(bound):
    """The speakers' differences come from one distribution; as many speakers as the estimate asks for settle it."""
    rng = np.random.default_rng(1)
    pattern = rng.integers(-6, 7, size=40)
    pattern -= np.sign(pattern.sum()) * (np.arange(40) < abs(pattern.sum()))  # mean zero
    assert pattern.sum() == 0

    def tested(speakers: int):
        errors = 10 + np.resize(pattern, speakers)
        both = np.stack([errors, np.full(speakers, 10)])[:, None, :]
        return contrast(SystemErrors(both, np.full(speakers, 50)), [1, -1])

    verdict, words = judge(tested(40), "below", bound, bound)
    assert verdict == INCONCLUSIVE
    speakers = 40 * round(words / 50 / 40)  # whole patterns, so that the effect stays
    assert judge(tested(int(1.15 * speakers) // 40 * 40 + 40), "below", bound, bound)[0] == REPRODUCED
    assert judge(tested(int(0.85 * speakers) // 40 * 40), "below", bound, bound)[0] == INCONCLUSIVE


def outcome(verdict, clearance=0.0, words=None) -> Outcome:
    return Outcome(verdict, f"{verdict} {clearance}", clearance=clearance, words_needed=words)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, INCONCLUSIVE], INCONCLUSIVE),
        ([INCONCLUSIVE, NOT_TESTED], NOT_TESTED),
        ([NOT_TESTED, REPRODUCED, CONTRADICTED], CONTRADICTED),
    ],
)
def test_a_claim_needs_all_its_parts(verdicts, expected):
    assert all_of([outcome(verdict) for verdict in verdicts]).verdict == expected


def test_the_deciding_part_is_the_least_sure_one():
    weakest = all_of([outcome(REPRODUCED, 2.0), outcome(REPRODUCED, 0.1)])
    assert "reproduced 0.1" in weakest.reason
    surest = all_of([outcome(CONTRADICTED, 0.1), outcome(CONTRADICTED, 2.0), outcome(REPRODUCED)])
    assert surest.reason.startswith("contradicted 2.0") and "1 reproduced, 2 contradicted" in surest.reason


def test_all_parts_must_be_settled():
    assert all_of([outcome(INCONCLUSIVE, words=10), outcome(INCONCLUSIVE, words=30)]).words_needed == 30
    assert all_of([outcome(INCONCLUSIVE, words=10), outcome(INCONCLUSIVE)]).words_needed is None
