"""Intervals over seeds and speakers: they cover as stated, and with one seed are the paired bootstrap's."""

import numpy as np
import pytest

from analysis.scoring.alignment import align
from analysis.scoring.trn import Transcript
from analysis.significance.contrasts import (
    SystemErrors,
    contrast,
    drawn_rates,
    seeds_variance,
    speakers_variance,
    spread,
    system_errors,
)
from analysis.significance.intervals import wer_interval
from analysis.significance.variances import EQUAL_AT, Variance, combined, critical, equality_p, half_width, pooled
from common.errors import UserError
from tests.analysis.paired import by_definition

WORDS, SPEAKERS = 200, 40


def heard(reference: Transcript, seed: int) -> Transcript:
    rng = np.random.default_rng(seed)
    lines = {u: b" ".join(b"x" if rng.random() < 0.2 else w for w in t.split()) for u, t in reference.lines.items()}
    return Transcript("hyp", lines)


def simulated(rng, seeds: int, seed_sd: float, speaker_sd: float, systems: int = 1, system_sd: float = 0.0):
    """Errors of systems whose true WER is 20 %: what seeds, speakers, systems and chance add is drawn."""
    speaker = rng.normal(0, speaker_sd, SPEAKERS)
    seed = rng.normal(0, seed_sd, (systems, seeds, 1))
    system = rng.normal(0, system_sd, (systems, 1, 1)) if system_sd else 0.0
    rates = np.clip(20.0 + speaker + seed + system, 0, 100) / 100
    return SystemErrors(rng.binomial(WORDS, rates), np.full(SPEAKERS, WORDS))


def test_one_seed_gives_the_paired_bootstrap():
    lines = {f"u{n}": b"a b c d" for n in range(100)}
    reference = Transcript("ref", lines, {f"u{n}": f"s{n % 20}" for n in range(100)})
    a, b = (align(reference, heard(reference, seed)) for seed in (1, 2))
    found = contrast(system_errors([[[a]], [[b]]]), [1, -1])
    assert (found.low, found.high) == pytest.approx(by_definition([(a, b)]), abs=1e-12)
    assert (found.test_low, found.test_high) == (found.low, found.high)
    assert found.value == pytest.approx(a.counts.wer - b.counts.wer)
    assert (found.seeds, found.units, found.words) == (1, 20, 400)
    alone = contrast(system_errors([[[a]]]), [1])
    assert (alone.low, alone.high) == pytest.approx((wer_interval([a]).low, wer_interval([a]).high), abs=1e-12)


def test_systems_that_heard_other_words_are_not_compared():
    """Nor the same words in another order, whose errors would be added up under other speakers."""
    lines = {f"u{n}": b"a b c d" if n % 2 else b"a b" for n in range(20)}
    speakers = {f"u{n}": f"s{n % 4}" for n in range(20)}
    one = Transcript("one", lines, speakers)
    first = align(one, heard(one, 1))
    for other in (lines | {"u3": b"a b c e"}, dict(reversed(lines.items()))):
        reference = Transcript("other", other, speakers)
        with pytest.raises(UserError, match="one and other: two systems can only be compared on the same"):
            system_errors([[[first]], [[align(reference, heard(reference, 2))]]])
    same = Transcript("other", dict(lines), speakers)
    assert np.ptp(system_errors([[[first]], [[align(same, heard(same, 1))]]]).wers) == 0


EXPERIMENTS, CHUNK = 4000, 1000
WANTED = 0.943


def coverage(seeds: int, speakers: int, times: float, systems: int = 1, pooled_over: int = 0) -> float:
    """The share of simulated experiments whose interval holds the truth, by the functions that `contrast` calls.

    Seeds spread by `times` the speakers' standard error. One system, or the difference of two (which hear the same
    speakers); the variance over seeds is the figure's own, or pooled over as many systems as said.
    """
    rng = np.random.default_rng([2025, seeds, speakers, int(10 * times), systems, pooled_over])
    speaker_sd, hits = 4.0, 0
    for _ in range(EXPERIMENTS // CHUNK):
        shared = rng.normal(0, speaker_sd, (CHUNK, 1, 1, speakers))
        own = rng.normal(0, speaker_sd / 2, (CHUNK, systems, 1, speakers))
        error = np.sqrt(speaker_sd**2 + speaker_sd**2 / 4 + 1600 / WORDS) if systems == 1 else speaker_sd / np.sqrt(2)
        seed = rng.normal(0, times * error / np.sqrt(speakers), (CHUNK, max(systems, pooled_over), seeds, 1))
        rates = np.clip(20 + shared + own + seed[:, :systems], 0, 100) / 100
        errors = rng.binomial(WORDS, rates)
        signs = np.array([1.0, -1.0][:systems])
        observed = 100 * np.einsum("s,esk->ek", signs, errors.sum(axis=3)) / (speakers * WORDS)
        drawn = drawn_rates(np.einsum("s,eskj->ej", signs, errors) / seeds, np.full(speakers, WORDS))
        parts = [speakers_variance(drawn, speakers), seeds_variance(observed)]
        if pooled_over:
            noise = rng.normal(0, np.sqrt(1600 / WORDS / speakers), (CHUNK, pooled_over, seeds))
            wers = 20 + seed[..., 0] + noise
            holds, common = equality_p(np.moveaxis(wers, -2, 0)) >= EQUAL_AT, wers.var(axis=2, ddof=1).mean(axis=1)
            values = np.where(holds, systems * common / seeds, parts[1].value)
            parts[1] = Variance(values, np.where(holds, pooled_over * (seeds - 1), seeds - 1))
        truth = 20.0 if systems == 1 else 0.0
        hits += (abs(observed.mean(axis=1) - truth) <= half_width(parts)).sum()
    return hits / EXPERIMENTS


@pytest.mark.parametrize("speakers", [16, 40])
@pytest.mark.parametrize("times", [0, 1, 3])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_over_seeds_and_speakers_covers(seeds, times, speakers):
    assert coverage(seeds, speakers, times) >= WANTED


@pytest.mark.parametrize("times", [0, 1, 3])
def test_so_does_that_of_a_difference_and_the_pooled_one(times):
    assert coverage(3, 16, times, systems=2) >= WANTED
    assert coverage(3, 20, times, systems=2, pooled_over=6) >= WANTED


def test_seeds_of_which_one_in_three_fails_are_covered_less():
    """6 points worse or not at all: no normal distribution, and three of them are often alike. The README says so."""
    rng = np.random.default_rng(9)
    for seeds, low, high in ((3, 0.5, 0.75), (5, 0.75, 0.9)):
        found = 6.0 * (rng.random((20000, seeds)) < 1 / 3)
        parts = [Variance(np.full(20000, 0.1), 15), seeds_variance(found)]
        speakers = rng.normal(0, 0.1**0.5, 20000)
        assert low < (abs(found.mean(axis=1) + speakers - 2.0) <= half_width(parts)).mean() < high


@pytest.mark.slow
@pytest.mark.parametrize("pooled_over", [0, 8])
@pytest.mark.parametrize("systems", [1, 2])
@pytest.mark.parametrize("times", [0.5, 2, 6])
@pytest.mark.parametrize("seeds", [2, 4, 8])
def test_it_covers_everywhere(seeds, times, systems, pooled_over):
    """The smallest coverage anywhere is 94.3 % (five seeds, five times the speakers' error); 4000 tell it to 0.35 %."""
    assert coverage(seeds, 40, times, systems, pooled_over) >= WANTED - 0.01


def test_satterthwaite_alone_would_not_cover_few_seeds_that_spread_widely():
    """What `half_width` adds to it is needed, and plain t over the sum would be far too short."""
    rng = np.random.default_rng(8)
    seeds = rng.normal(0, 3, (20000, 2)) + rng.normal(0, 1, (20000, 1))
    parts = [Variance(np.ones(20000), 39), seeds_variance(seeds)]
    alone = combined(parts)
    missed = abs(seeds.mean(axis=1)) > critical(alone.freedom) * np.sqrt(alone.value)
    assert missed.mean() > 0.09
    assert (abs(seeds.mean(axis=1)) > half_width(parts)).mean() < 0.05


def test_the_variance_over_two_speakers_has_one_degree_of_freedom():
    found = speakers_variance(np.array([[1.0], [3.0], [2.0], [2.0]]), 2)
    assert (found.value[0], found.freedom) == (pytest.approx(0.5 * 2), 1)
    assert speakers_variance(np.ones((4, 1)), 1).freedom == 1


def test_the_p_of_one_seed_is_two_sided_whichever_system_is_named_first():
    reference = Transcript("ref", {f"u{n}": b"a b c d" for n in range(60)}, {f"u{n}": f"s{n % 12}" for n in range(60)})
    some = Transcript("hyp", {u: t if n % 9 else b"x b c d" for n, (u, t) in enumerate(reference.lines.items())})
    others = Transcript("hyp", {u: t if n % 4 else b"x b c d" for n, (u, t) in enumerate(reference.lines.items())})
    a, b = align(reference, some), align(reference, others)
    one, other = (contrast(system_errors([[[x]], [[y]]]), [1, -1]) for x, y in ((a, b), (b, a)))
    assert one.value == -other.value != 0
    assert one.p == other.p < 0.5


def test_contrast_is_made_of_these_parts():
    errors = simulated(np.random.default_rng(6), 3, 2, 4, systems=2)
    found = contrast(errors, [1, -1])
    observed = errors.wers[0] - errors.wers[1]
    drawn = drawn_rates((errors.errors[0] - errors.errors[1]).mean(axis=0)[None], errors.words)
    parts = [speakers_variance(drawn[:, 0], SPEAKERS), seeds_variance(observed)]
    assert found.value == pytest.approx(observed.mean())
    assert found.high - found.value == found.value - found.low == pytest.approx(half_width(parts))
    assert (found.parts[1].value, found.parts[1].freedom) == (pytest.approx(observed.var(ddof=1) / 3), 2)
    exact = (errors.errors[0] - errors.errors[1]).mean(axis=0).var(ddof=1) * (100 / WORDS) ** 2 / SPEAKERS
    assert (found.parts[0].value, found.parts[0].freedom) == (pytest.approx(exact, rel=0.05), SPEAKERS - 1)


def test_seeds_that_agree_leave_the_speakers_interval_and_nothing_shorter():
    errors = np.tile(np.arange(SPEAKERS), (1, 3, 1))
    found, one = (contrast(SystemErrors(e, np.full(SPEAKERS, WORDS)), [1]) for e in (errors, errors[:, :1]))
    assert (found.test_low, found.test_high) == pytest.approx((one.low, one.high))
    assert one.high - one.low <= found.high - found.low <= 1.1 * (one.high - one.low)


def test_satterthwaite_by_hand():
    total = combined([Variance(4.0, 10), Variance(3.0, 2)])
    assert (total.value, float(total.freedom)) == (7.0, pytest.approx(49 / (1.6 + 4.5)))
    assert float(critical(2)) == pytest.approx(4.3027, abs=1e-4)
    assert float(half_width([Variance(0.0, 10), Variance(3.0, 2)])) == pytest.approx(4.3027 * 3**0.5, abs=1e-3)
    assert float(half_width([Variance(0.0, 10), Variance(0.0, 2)])) == 0.0


def test_a_pool_counts_trainings_not_rows_and_is_dropped_where_variances_differ():
    wers = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 5.0], [7.0, 8.0, 9.0]])
    pool = pooled(wers, ["f8", "f8", "a12"])
    assert (pool.variance, pool.freedom, pool.trainings) == (pytest.approx(((1 + 4) / 2 + 1) / 2), 4, 2)
    assert pool.holds and "pooled over 2 systems" in pool.note
    apart = pooled(np.array([[1.0, 1.01, 1.02], [1.0, 5.0, 9.0]]), ["a", "b"])
    assert not apart.holds and "not pooled" in apart.note
    assert pooled(np.array([[1.0, 1.0], [1.0, 5.0]]), ["a", "b"]).p == 0.0
    assert equality_p(np.stack([wers, wers], axis=1)) == pytest.approx([pool.p, pool.p])
    assert pooled(np.ones((2, 3)), ["a", "b"]).p == 1.0
    errors = simulated(np.random.default_rng(7), 3, 2, 1, systems=2)
    own, with_pool, refused = (contrast(errors, [1, -1], one) for one in (None, pool, apart))
    assert with_pool.parts[1].value == pytest.approx(2 * 1.75 / 3) and with_pool.parts[1].freedom == 4
    assert with_pool.own == (own.low, own.high) and (with_pool.low, with_pool.high) != with_pool.own
    assert (refused.low, refused.high, refused.own, refused.pool) == (own.low, own.high, None, apart)


def test_a_wer_is_never_negative():
    found = contrast(SystemErrors(np.array([[[1] * 10, [0] * 10, [4] * 10]]), np.full(10, 100)), [1])
    assert found.low == 0.0 < found.value


def test_speakers_that_nobody_named_are_known_to_be_none():
    def named(speakers):
        reference = Transcript("ref", {f"s{n}-0": b"a b" for n in range(30)}, speakers)
        return contrast(system_errors([[[align(reference, reference)]]]), [1])

    assert named(None).named is False and named(None).units == 30
    assert named({f"s{n}-0": f"s{n // 2}" for n in range(30)}).named is True


def test_spread_of_equal_systems_is_near_zero_and_its_interval_holds_zero():
    rng = np.random.default_rng(4)
    found = [spread(simulated(rng, 1, 0, 3, systems=10)) for _ in range(100)]
    assert np.mean([one.low == 0 for one in found]) >= 0.95
    assert np.mean([one.value for one in found]) < 0.2  # chance alone is sqrt(20 * 80 / 8000) = 0.45 points


def test_the_interval_of_a_spread_covers():
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(150):
        true = rng.normal(0, 1.0, (10, 1, 1))
        rates = np.clip(20 + true + rng.normal(0, 3, SPEAKERS), 0, 100) / 100
        found = spread(SystemErrors(rng.binomial(WORDS, rates), np.full(SPEAKERS, WORDS)))
        hits.append(found.low <= true.std(ddof=1) <= found.high)
    assert np.mean(hits) >= 0.9


def test_the_interval_of_a_spread_over_seeds_covers():
    rng, hits = np.random.default_rng(9), []
    for _ in range(150):
        rates = np.clip(20 + rng.normal(0, 1.0, (8, 3, 1)) + rng.normal(0, 3, SPEAKERS), 0, 100) / 100
        found = spread(SystemErrors(rng.binomial(WORDS, rates), np.full(SPEAKERS, WORDS)))
        hits.append(found.low <= 1.0 <= found.high)
        assert found.test_low <= found.value <= found.test_high
    assert np.mean(hits) >= 0.93


def test_a_contrast_of_four_rows_by_hand():
    errors = np.array([[[20, 20]], [[10, 10]], [[10, 10]], [[9, 9]]])
    found = contrast(SystemErrors(errors, np.array([100, 100])), [1, -1, -1, 1])
    assert (found.value, found.low, found.high) == pytest.approx((9.0, 9.0, 9.0))
