"""Intervals over seeds and speakers: they cover as stated, and with one seed are the paired bootstrap's."""

import numpy as np
import pytest

from analysis import contrasts
from analysis.alignment import align
from analysis.contrasts import SystemErrors, contrast, spread, system_errors
from analysis.intervals import difference_interval, wer_interval
from analysis.trn import Transcript

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
    expected, found = difference_interval([(a, b)]), contrast(system_errors([[[a]], [[b]]]), [1, -1])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.test_low, found.test_high) == (found.low, found.high)
    assert found.value == pytest.approx(a.counts.wer - b.counts.wer)
    assert (found.seeds, found.units, found.words) == (1, 20, 400)
    alone = contrast(system_errors([[[a]]]), [1])
    assert (alone.low, alone.high) == pytest.approx((wer_interval([a]).low, wer_interval([a]).high), abs=1e-12)


@pytest.mark.parametrize(
    ("seeds", "seed_sd", "speaker_sd"), [(2, 2, 1), (3, 2, 1), (3, 1, 4), (5, 2, 4), (5, 2, 1), (5, 0, 4)]
)
def test_the_hierarchical_interval_covers(seeds, seed_sd, speaker_sd):
    rng = np.random.default_rng(seeds)
    found = [contrast(simulated(rng, seeds, seed_sd, speaker_sd), [1]) for _ in range(200)]
    assert np.mean([one.low <= 20 <= one.high for one in found]) >= 0.92


def test_resampling_seeds_without_stretch_would_not_cover(monkeypatch):
    monkeypatch.setattr(contrasts, "_stretch", lambda seeds: 1.0)
    rng = np.random.default_rng(3)
    found = [contrast(simulated(rng, 3, 2, 1), [1]) for _ in range(200)]
    assert np.mean([one.low <= 20 <= one.high for one in found]) < 0.85


def test_seeds_that_agree_add_nothing():
    errors = np.tile(np.arange(SPEAKERS), (1, 3, 1))
    found = contrast(SystemErrors(errors, np.full(SPEAKERS, WORDS)), [1])
    assert (found.low, found.high) == (found.test_low, found.test_high)


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


def test_a_contrast_of_four_rows_by_hand():
    errors = np.array([[[20, 20]], [[10, 10]], [[10, 10]], [[9, 9]]])
    found = contrast(SystemErrors(errors, np.array([100, 100])), [1, -1, -1, 1])
    assert (found.value, found.low, found.high) == pytest.approx((9.0, 9.0, 9.0))
