"""The statistics at their edges: bounds, ties, and figures that only a slightly wrong formula would miss."""

import json
import math
import random
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.inputs.choice import choose, offered_at
from analysis.inputs.results import Results
from analysis.inputs.schemas import Row
from analysis.scoring.alignment import align
from analysis.scoring.trn import Transcript
from analysis.significance.contrasts import Estimate, SystemErrors, contrast, spread
from analysis.significance.exact import Significance, holm, sign_flip_p
from analysis.significance.intervals import Interval
from analysis.significance.mapsswe import Mapsswe, of_differences, segment_differences, shown_p, warnings
from analysis.significance.power import words_needed
from analysis.significance.variances import Variance, two_sided_p
from analysis.verdicts.outcomes import (
    AGAINST,
    CONTRADICTED,
    INCONCLUSIVE,
    NEITHER,
    Outcome,
    all_of,
    clearance,
    judge,
)


def transcript(sentences) -> Transcript:
    return Transcript(Path("x.trn"), {f"s-{n}": " ".join(words).encode() for n, words in enumerate(sentences)})


def defined_operations(reference: list[str], hypothesis: list[str]) -> str:
    """The alignment by its definition: least cost; among equals the diagonal, then the insertion, then the deletion."""

    @cache
    def cost(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 3 * (i + j)
        return min(
            cost(i - 1, j - 1) + 4 * (reference[i - 1] != hypothesis[j - 1]), cost(i - 1, j) + 3, cost(i, j - 1) + 3
        )

    operations, i, j = "", len(reference), len(hypothesis)
    while i or j:
        wrong = i and j and reference[i - 1] != hypothesis[j - 1]
        if i and j and cost(i, j) == cost(i - 1, j - 1) + 4 * wrong:
            operations, i, j = ("S" if wrong else "C") + operations, i - 1, j - 1
        elif j and cost(i, j) == cost(i, j - 1) + 3:
            operations, j = "I" + operations, j - 1
        else:
            operations, i = "D" + operations, i - 1
    return operations


def test_a_thousand_alignments_are_those_of_the_definition():
    rng = random.Random(5)
    pairs = [[rng.choices("abcd"[: rng.randint(2, 4)], k=rng.randint(0, 9)) for _ in range(2)] for _ in range(1000)]
    found = align(*map(transcript, zip(*pairs, strict=True)))
    for n, (reference, hypothesis) in enumerate(pairs):
        ours = "".join("CSDI"[step] for step in found.operations[found.starts[n] : found.starts[n + 1]])
        assert ours == defined_operations(reference, hypothesis), (reference, hypothesis)
        assert found.totals[n].tolist() == [ours.count(letter) for letter in "CSDI"]
    assert len(found.operations) == found.starts[-1] and found.starts[0] == 0


def defined_segments(a: str, b: str) -> list[int]:
    """A's minus B's errors between runs of two reference words that both have right, given operations as letters."""
    words = []  # of each reference word, whether anything is wrong at it or inserted before it, and the difference
    for side, operations in enumerate((a, b)):
        place = 0
        for letter in operations + "#":
            if place == len(words):
                words.append([False, False, 0, 0])
            if letter == "I":
                words[place][0] = True
                words[place][2 + side] += 1
            else:
                words[place][1] |= letter in "SD"
                words[place][2 + side] += letter in "SD"
                place += 1
    found, open_errors, run = [], [0, 0], 0
    for inserted, wrong, errors_a, errors_b in words:
        if inserted:
            run = 0
        open_errors[0] += errors_a
        open_errors[1] += errors_b
        run = 0 if wrong else run + 1
        if run >= 2 and any(open_errors):
            found.append(open_errors[0] - open_errors[1])
            open_errors = [0, 0]
    return found + ([open_errors[0] - open_errors[1]] if any(open_errors) else [])


def test_the_segments_of_a_thousand_utterances_are_those_of_the_definition():
    rng = random.Random(6)

    def heard(words):
        heard = [word if rng.random() < 0.8 else rng.choice("xyz") for word in words if rng.random() < 0.9]
        return [w for word in heard for w in ([rng.choice("uvw"), word] if rng.random() < 0.1 else [word])]

    references = [rng.choices("abcdefgh", k=rng.randint(0, 14)) for _ in range(1000)]
    sides = [align(transcript(references), transcript(map(heard, references))) for _ in range(2)]
    expected = []
    for n in range(1000):
        expected += defined_segments(
            *("".join("CSDI"[step] for step in side.operations[side.starts[n] : side.starts[n + 1]]) for side in sides)
        )
    assert segment_differences(*sides).tolist() == expected


def test_warnings_of_none_one_and_many_segments():
    def of(*differences):
        return warnings(of_differences(np.array(differences, dtype=np.int64)))

    assert of() == []
    assert [("same difference" in text, "under 30" in text) for text in of(1)] == [(True, False), (False, True)]
    assert len(of(1, 2)) == 1 and len(of(*[1, 2] * 14, 1)) == 1 and of(*[1, 2] * 15) == []
    assert of(*[0] * 40) == []


def test_no_segments_are_no_difference():
    assert of_differences(np.array([], dtype=np.int64)) == Mapsswe(0, 0.0, 0.0, 0.0, 1.0, False, True)


def test_z_and_p_of_many_segments_are_those_of_scipy():
    differences = np.random.default_rng(2).integers(-3, 5, size=90)
    found, peer = of_differences(differences), stats.ttest_1samp(differences, 0)
    assert found.z == pytest.approx(peer.statistic) and found.p == pytest.approx(2 * stats.norm.sf(abs(found.z)))
    assert found.mean == pytest.approx(differences.mean()) and found.sd == pytest.approx(differences.std(ddof=1))


def test_significant_on_both_sides_and_only_beyond_the_critical_value():
    just = np.array([1] * 26 + [-1] * 13 + [0] * 169)
    assert of_differences(just).significant and of_differences(-just).significant
    assert not of_differences(np.array([1] * 20 + [-1] * 13 + [0] * 169)).significant


@pytest.mark.parametrize(("p", "shown"), [(0.0009, "< 0.001"), (0.001, "0.001"), (0.0344, "0.034"), (1.0, "1.000")])
def test_p_as_it_is_printed(p, shown):
    assert shown_p(p) == shown


@pytest.mark.parametrize("seed", range(12))
def test_a_sign_flip_p_is_a_probability_though_sums_of_floats_round(seed):
    """Differences that cancel: every pattern is as far from zero, so p is one, and its float never above it."""
    rng = random.Random(seed)
    differences = [rng.randint(1, 9) for _ in range(130)]
    p = sign_flip_p(differences + [-d for d in differences])
    assert p <= 1.0 and p == pytest.approx(1.0)


@pytest.mark.parametrize("mean", [0.5, -0.5, 0.0])
@pytest.mark.parametrize(
    ("found", "exact", "increase"), [(1, None, 1), (1, 0.2, 1), (0, 0.01, 1), (0, 0.2, 0), (0, None, 0)]
)
def test_either_test_costs_the_star_of_a_system_with_more_errors(mean, found, exact, increase):
    test = Mapsswe(100, mean, sd=1.0, z=2.0, p=0.04, significant=bool(found), constant_difference=False)
    assert Significance(test, exact).significant_increase is (bool(increase) and mean > 0)


def test_p_of_the_figure_is_the_larger_of_those_of_the_parts_that_vary():
    some, none = Variance(np.asarray(4.0), np.asarray(10.0)), Variance(np.asarray(0.0), np.asarray(3.0))
    alone = 2 * stats.t.sf(3.0 / 2.0, 10)
    assert two_sided_p(3.0, [some]) == pytest.approx(alone) == two_sided_p(-3.0, [some, none])
    assert two_sided_p(3.0, [none]) == 0.0 and two_sided_p(0.0, [none]) == 1.0


def test_holm_never_exceeds_one_nor_falls_with_rank():
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.9, 0.6, 0.7]) == [1.0, 1.0, 1.0]
    assert holm([0.01, 0.02, 0.021, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])


@pytest.mark.parametrize(("units", "few"), [(1, True), (9, True), (10, False), (11, False)])
def test_ten_speakers_are_enough_and_nine_are_not(units, few):
    assert Interval(0.0, 1.0, units).few_units is few
    errors = SystemErrors(np.arange(units)[None, None, :], np.full(units, 50))
    assert contrast(errors, [1]).few_units is few


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_alone_give_about_students_interval(seeds):
    """All speakers alike, so that nothing but the seeds differ: half the width is near t(K - 1) sd / sqrt(K)."""
    counts = 20 + np.array([0, 4, 2, 1, 3][:seeds])
    errors = SystemErrors(np.tile(counts[:, None], (1, 1, 20)), np.full(20, 100))
    found = contrast(errors, [1])
    half = stats.t.ppf(0.975, seeds - 1) * counts.std(ddof=1) / math.sqrt(seeds)
    assert 0.7 < (found.high - found.low) / (2 * half) < 1.35
    assert found.value == pytest.approx(counts.mean())
    assert (found.low + found.high) / 2 == pytest.approx(found.value, abs=0.25 * half)
    assert (found.seeds, found.units, found.words) == (seeds, 20, 2000)


def test_the_interval_of_a_spread_stands_around_its_value():
    """What chance adds is taken off the value once, off the resampled ones twice: no more, no less."""
    rng = np.random.default_rng(8)
    true = np.array([16, 18, 19, 20, 21, 22, 24, 26])
    shifts, chances = [], []
    for _ in range(12):
        errors = rng.binomial(20, true[:, None, None] / 100, size=(8, 1, 60))
        found = spread(SystemErrors(errors, np.full(60, 20)))
        assert found.low > 0
        shifts.append((found.low**2 + found.high**2) / 2 - found.value**2)
        chances.append(np.mean(true * (100 - true)) / 1200)
    assert abs(np.mean(shifts)) < 0.5 * np.mean(chances)


def estimate(value, low, high, words=1000, seeds=1) -> Estimate:
    return Estimate(value, low, high, low, high, seeds, 40, words)


def test_clearance_is_counted_in_widths_of_the_interval():
    found = estimate(1.0, 0.4, 1.6)
    assert clearance(found, 0.1) == pytest.approx(0.25)
    assert clearance(found, 2.2) == pytest.approx(0.5)
    assert clearance(found, 1.0) == pytest.approx(-0.5)
    assert clearance(estimate(-1.0, -1.6, -0.4), 0.8) == pytest.approx(1.0)
    assert clearance(estimate(1.0, 1.0, 1.0), 0.0) == math.inf


def test_what_would_settle_a_verdict_is_asked_of_the_bounds_that_the_figure_is_on_the_side_of():
    open_figure = estimate(1.0, -0.5, 2.5)
    found = judge(open_figure, "below", -1.0, 0.0)
    assert found.points == NEITHER and found.words_needed == words_needed(open_figure, 0.0) > words_needed(
        open_figure, -1.0
    )
    between = judge(estimate(-0.5, -2.0, 1.0), "below", -1.0, 0.0)
    assert between.points == NEITHER and between.words_needed is None, "on neither side of either bound"


def test_only_what_is_inconclusive_names_its_trainings_or_what_it_needs():
    assert Outcome(CONTRADICTED, "", trainings=1).shown == CONTRADICTED
    assert Outcome(INCONCLUSIVE, "", trainings=1).shown == f"{INCONCLUSIVE} (1 training)"
    open_part = Outcome(INCONCLUSIVE, "", leans=NEITHER, trainings=3, words_needed=5000, seeds_needed=4)
    assert all_of([open_part]).words_needed == 5000 and all_of([open_part]).seeds_needed == 4
    closed = all_of([open_part, Outcome(CONTRADICTED, "", leans=AGAINST)])
    assert (closed.verdict, closed.words_needed, closed.seeds_needed) == (CONTRADICTED, None, None)


def test_words_needed_by_p():
    """A gain whose interval excludes zero, but whose test is not significant: the surer the test, the fewer words."""
    needed = [judge(estimate(1.0, 0.1, 1.9), "above", 0.0, 0.3, p).words_needed for p in (0.06, 0.2, 0.5)]
    assert needed == sorted(needed) and needed[0] < needed[2]
    z = [stats.norm.isf(p / 2) for p in (0.06, 0.2, 0.5)]
    assert needed[1] / needed[0] == pytest.approx((z[0] / z[1]) ** 2, rel=0.01)
    assert needed[2] / needed[1] == pytest.approx((z[1] / z[2]) ** 2, rel=0.01)
    assert (
        judge(estimate(1.0, 0.1, 1.9), "above", 0.0, 0.3, 1.0).words_needed is None
    )  # Z is 0 with any number of words


def test_points_of_a_depth_come_in_path_order_however_they_are_listed(pristine, tmp_path):
    folder = Path(shutil.copytree(pristine, tmp_path / "turned"))
    (listed,) = folder.glob("systems/f6/seed0/eval/points.json")
    content = json.loads(listed.read_text())
    content["points"].reverse()
    listed.write_text(json.dumps(content))
    turned, straight = Results(folder), Results(pristine)
    at_depth = [point.path for point in offered_at(turned, "f6", 0, 8)]
    assert len(at_depth) == 15 and at_depth == sorted(at_depth)
    assert at_depth == [point.path for point in offered_at(straight, "f6", 0, 8)]
    row = Row(system="f6", depth=8)
    chosen, expected = (choose(results, row, 0, "greedy", "here") for results in (turned, straight))
    assert (chosen.point.path, chosen.on_dev.path) == (expected.point.path, expected.on_dev.path)
    assert [point.path for point in chosen.candidates] == at_depth


def test_a_named_path_or_point_is_that_one_and_no_other(pristine):
    results = Results(pristine)
    for number, point in enumerate(results.points("f6", 0).points[:6]):
        by_path = choose(results, Row(system="f6", path=point.path), 0, "greedy", "here")
        by_id = choose(results, Row(system="f6", point=point.id), 0, "greedy", "here")
        assert by_path.point == by_id.point == point, number
        assert by_path.candidates == by_id.candidates == (point,)
