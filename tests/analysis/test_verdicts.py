"""Verdicts from intervals, and the words and seeds that would settle them, by simulation."""

import math

import numpy as np
import pytest

from analysis.significance.contrasts import Estimate, drawn_rates, seeds_variance, speakers_variance, tails
from analysis.significance.power import power, seeds_needed, shown_words, words_needed, words_needed_by_p
from analysis.significance.variances import Variance, half_width
from analysis.verdicts.outcomes import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_TESTED,
    REPRODUCED,
    Effect,
    Outcome,
    all_of,
    clearance,
    judge,
)

HALF_THE_TIME, POWERED = 1.959964, 1.959964 + 0.841621


def estimate(value, low, high, seeds=3, words=1000, units=40) -> Estimate:
    return Estimate(value, low, high, low, high, seeds, units, words)


def with_parts(value, speakers, seeds_variance, seeds=3, words=1000) -> Estimate:
    """An estimate whose variances over 40 speakers and of the mean over the seeds are given."""
    parts = (Variance(speakers, 39), Variance(seeds_variance, seeds - 1))
    half = float(half_width(parts))
    return Estimate(value, value - half, value + half, value, value, seeds, 40, words, parts=parts)


@pytest.mark.parametrize(
    ("found", "side", "bounds", "p", "verdict"),
    [
        ((0.0, -0.2, 0.2), "below", (0.3, 0.3), None, REPRODUCED),
        ((0.2, 0.1, 0.29), "below", (0.3, 0.3), 0.001, REPRODUCED),  # a sure loss, but one that does not matter
        ((0.0, -0.5, 0.5), "below", (0.3, 0.3), None, INCONCLUSIVE),
        ((1.0, 0.2, 1.8), "below", (0.3, 0.3), 0.01, INCONCLUSIVE),  # a sure loss, not surely one that matters
        ((1.0, 0.4, 1.6), "below", (0.3, 0.3), 0.01, CONTRADICTED),
        ((1.0, 0.4, 1.6), "below", (0.3, 0.5), 0.01, INCONCLUSIVE),  # the paper lost 0.5 too
        ((1.0, 0.4, 1.6), "above", (0.0, 0.3), 0.01, REPRODUCED),
        ((1.0, 0.4, 1.6), "above", (0.0, 0.3), 0.2, INCONCLUSIVE),  # the test disagrees
        ((0.1, -0.1, 0.25), "above", (0.0, 0.26), 0.4, CONTRADICTED),  # less than the paper gained
        ((0.1, -0.1, 0.35), "above", (0.0, 0.3), 0.4, INCONCLUSIVE),
        ((-1.0, -2.0, -0.1), "above", (0.0, 0.3), 0.4, CONTRADICTED),
        # Gains that a margin of 0.3 alone would have contradicted, where the paper's own is 0.26.
        ((0.13, -0.02, 0.28), "above", (0.0, 0.26), 0.09, INCONCLUSIVE),
        ((0.20, 0.02, 0.29), "above", (0.0, 0.26), 0.06, INCONCLUSIVE),
        ((0.14, -0.01, 0.29), "above", (0.0, 0.26), 0.07, INCONCLUSIVE),
        ((0.20, 0.12, 0.28), "above", (0.0, 0.26), 0.0004, REPRODUCED),
    ],
)
def test_the_interval_decides(found, side, bounds, p, verdict):
    points = {REPRODUCED: "for", CONTRADICTED: "against", INCONCLUSIVE: "neither"}[verdict]
    for seeds in (1, 2, 3, 5):
        judgement = judge(estimate(*found, seeds=seeds), side, *bounds, p)
        assert judgement.points == points
        assert judgement.verdict == (verdict if seeds >= 3 else INCONCLUSIVE)
    few = judge(estimate(*found, units=9), side, *bounds, p)
    assert (few.points, few.verdict, few.words_needed) == ("neither", INCONCLUSIVE, None)


def test_words_by_hand():
    # 0.5 wide where 0.25 is needed half of the time: four times the words, and more to see it four times in five.
    more = (POWERED / HALF_THE_TIME) ** 2
    assert more == pytest.approx(2.04, abs=0.01)
    one = judge(estimate(0.05, -0.45, 0.55, seeds=1), "below", 0.3, 0.3)
    assert (one.verdict, one.words_needed, one.seeds_needed) == (INCONCLUSIVE, pytest.approx(4000 * more, abs=1), None)
    sooner = judge(estimate(0.25, -0.5, 1.0, seeds=1), "above", 0.0, 0.3)
    assert sooner.words_needed == pytest.approx(9000 * more, abs=1)  # reproduced sooner than contradicted
    assert judge(estimate(0.3, 0.0, 0.6, seeds=1), "below", 0.3, 0.3).words_needed is None  # on the bound: no amount
    by_test = judge(estimate(1.0, 0.4, 1.6, seeds=1), "above", 0.0, 0.3, p=0.3173)
    assert by_test.words_needed == pytest.approx(1000 * POWERED**2, rel=1e-3)  # Z from 1 to 2.80
    assert words_needed_by_p(1000, 1.0) is None and words_needed_by_p(1000, 0.0) < 1000


def test_shown_words():
    assert [shown_words(n) for n in (7, 99, 104, 1_234_567)] == ["7", "99", "100", "1,200,000"]


def test_more_words_do_not_make_up_for_seeds_nor_seeds_for_words():
    seeds_spread, speakers_spread = with_parts(0.0, 0.0001, 0.04), with_parts(0.0, 0.04, 0.0001)
    assert words_needed(seeds_spread, 0.3) is None and seeds_needed(seeds_spread, 0.3, 3) < 20
    assert seeds_needed(speakers_spread, 0.3, 3) is None and words_needed(speakers_spread, 0.3) < 10_000
    assert judge(seeds_spread, "below", 0.3, 0.3).seeds_needed == seeds_needed(seeds_spread, 0.3, 3)
    assert seeds_needed(estimate(0.0, -1, 1, seeds=1), 0.3, 3) is None  # nobody knows how far one seed is off
    assert seeds_needed(with_parts(0.0, 0.0001, 0.0001, seeds=2), 0.3, 3) == 3


def test_power_is_that_of_the_t_test_where_one_variance_is_all():
    from scipy.stats import nct, t

    for freedom in (2, 4, 30):
        exact = nct.sf(t.ppf(0.975, freedom), freedom, 4.0)
        assert power(4.0, Variance(0.0, 39), Variance(1.0, freedom)) == pytest.approx(exact, abs=0.005)
    assert power(1.0, Variance(0.0, 39), Variance(0.0, 2)) == 1.0


def share_reproduced(rng, value, words, seeds, sd_of_a_speaker, sd_of_a_seed, bound=1.0, experiments=400) -> float:
    """How often the interval of a difference that is truly `value` points lies below the bound, as `contrast` does it.

    Every speaker says 50 words.
    """
    speakers = round(words / 50)
    seed = rng.normal(0, sd_of_a_seed, (experiments, seeds, 1))
    rates = value + seed + rng.normal(0, sd_of_a_speaker, (experiments, 1, speakers))
    drawn = drawn_rates(rates.mean(axis=1) * 50 / 100, np.full(speakers, 50))
    if seeds == 1:
        return (np.quantile(drawn, tails()[1], axis=0) < bound).mean()
    half = half_width([speakers_variance(drawn, speakers), seeds_variance(rates.mean(axis=2))])
    return (rates.mean(axis=(1, 2)) + half < bound).mean()


def test_the_words_said_to_settle_it_do_so_four_times_in_five():
    """One seed: from an inconclusive estimate with the true variance to experiments of the size that it asks for."""
    half = HALF_THE_TIME * 3.0 / 20**0.5
    words = judge(estimate(0.0, -half, half, seeds=1), "below", 1.0, 1.0).words_needed
    rng = np.random.default_rng(1)
    assert 0.74 <= share_reproduced(rng, 0.0, words, 1, 3.0, 0.0) <= 0.86
    assert 0.42 <= share_reproduced(rng, 0.0, words * (HALF_THE_TIME / POWERED) ** 2, 1, 3.0, 0.0) <= 0.58


@pytest.mark.parametrize(("speaker_sd", "seed_sd", "value"), [(1.0, 1.0, 0.0), (1.5, 0.6, 0.2)])
def test_so_do_the_seeds(speaker_sd, seed_sd, value):
    found = with_parts(value, speaker_sd**2 / 40, seed_sd**2 / 3, words=2000)
    seeds = judge(found, "below", 1.0, 1.0).seeds_needed
    assert judge(found, "below", 1.0, 1.0).verdict == INCONCLUSIVE and 3 < seeds < 20
    rng = np.random.default_rng(2)
    assert share_reproduced(rng, value, 2000, seeds, speaker_sd, seed_sd) >= 0.76
    assert share_reproduced(rng, value, 2000, seeds // 2, speaker_sd, seed_sd) < 0.7


def test_so_do_the_words_beside_several_seeds():
    found = with_parts(0.0, 3.0**2 / 40, 0.25**2 / 3, words=2000)
    words = words_needed(found, 1.0)
    rng = np.random.default_rng(3)
    assert 0.74 <= share_reproduced(rng, 0.0, words, 3, 3.0, 0.25) <= 0.86
    assert share_reproduced(rng, 0.0, words / 2, 3, 3.0, 0.25) < 0.65


def test_a_thousand_times_the_words_are_no_answer():
    """0.0001 from its bound, with a half-width of 0.1: some two million times the words."""
    assert words_needed(estimate(0.0, -0.1, 0.1, seeds=1), 1e-4) is None
    assert words_needed(estimate(0.0, -0.1, 0.1, seeds=1), 0.01) is not None


@pytest.mark.parametrize("seeds", [1, 3])
def test_words_are_never_fewer_than_the_speakers_of_a_verdict_say(seeds):
    """An effect far from its bound is clear from two speakers on; a verdict takes ten of the forty."""
    found = estimate(0.0, -0.01, 0.01, seeds=1) if seeds == 1 else with_parts(0.0, 1e-4, 1e-6, words=2000)
    assert words_needed(found, 1.0) == math.ceil(found.words * 10 / found.units)


def outcome(verdict, clearance=0.0, words=None, leans="neither", trainings=3, seeds=None) -> Outcome:
    reason = f"{verdict} {clearance}"
    return Outcome(
        verdict, reason, clearance=clearance, words_needed=words, leans=leans, trainings=trainings, seeds_needed=seeds
    )


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


def test_clearance_is_in_widths_of_the_interval():
    found = estimate(1.0, 0.5, 2.0)
    assert [clearance(found, bound) for bound in (3.5, 2.0, 1.0, 0.2)] == pytest.approx([1.0, 0.0, -1 / 3, 0.2])
    assert clearance(estimate(1.0, 1.0, 1.0), 2.0) == float("inf")


def test_parts_that_point_decide_among_the_inconclusive_ones():
    leaning = {one: outcome(INCONCLUSIVE, leans=one, trainings=1) for one in ("for", "against", "neither")}
    parameters = Outcome(REPRODUCED, "fewer")
    assert all_of([leaning["for"], parameters]).points == "for"
    assert all_of([leaning["for"], leaning["neither"], parameters]).points == "neither"
    against = all_of([leaning["for"], leaning["neither"], leaning["against"]])
    assert (against.points, against.shown) == ("against", "inconclusive (1 training)")
    assert "3 inconclusive; pointing 1 for, 1 against" in against.reason
    assert all_of([leaning["for"], Outcome(CONTRADICTED, "more")]).shown == CONTRADICTED
    assert all_of([leaning["for"], Outcome(NOT_TESTED, "absent")]).points == "neither"
    assert outcome(INCONCLUSIVE, trainings=2).shown == "inconclusive (2 trainings)"
    assert outcome(INCONCLUSIVE, trainings=3).shown == outcome(INCONCLUSIVE, trainings=None).shown == INCONCLUSIVE


def test_what_the_parts_need_together():
    points_for, open_part = outcome(INCONCLUSIVE, leans="for"), outcome(INCONCLUSIVE, words=10, seeds=5)
    assert all_of([points_for, open_part]).words_needed == 10  # one of them needs no more words
    assert all_of([open_part, outcome(INCONCLUSIVE, words=20, seeds=4)]).seeds_needed == 5
    assert all_of([open_part, outcome(INCONCLUSIVE, words=20)]).seeds_needed is None
    assert all_of([open_part, outcome(INCONCLUSIVE, leans="against", seeds=3)]).words_needed is None


def test_intervals_are_lists_in_the_file_and_nothing_where_there_is_none():
    bare = Outcome(REPRODUCED, "", effect=Effect("x", 1.0, "points")).to_json()["effect"]
    assert bare["interval"] is None and bare["own_interval"] is None
    both = Outcome(REPRODUCED, "", effect=Effect("x", 1.0, "points", (0.5, 1.5), (0.6, 1.4))).to_json()["effect"]
    assert both["interval"] == [0.5, 1.5] and both["own_interval"] == [0.6, 1.4]
