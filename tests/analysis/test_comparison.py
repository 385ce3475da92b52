"""Two systems compared: one seed by its own test and speakers, several by the contrast, and never a mixture of both."""

import pytest

from analysis.scoring.alignment import align
from analysis.scoring.trn import Transcript
from analysis.significance.comparison import Comparison, estimate_wer, mean_wer
from analysis.significance.contrasts import contrast, system_errors
from analysis.significance.exact import Significance, significance
from analysis.significance.intervals import wer_interval
from analysis.significance.mapsswe import Mapsswe, mapsswe
from tests.analysis.paired import by_definition

SPEAKERS = 20


def reference(utterances: int = 60, name: str = "ref") -> Transcript:
    ids = [f"{name}-{n}" for n in range(utterances)]
    return Transcript(name, dict.fromkeys(ids, b"a b c d e f"), {u: f"spk-{n % SPEAKERS}" for n, u in enumerate(ids)})


REFERENCE, NOISY = reference(), reference(40, "noisy")


def heard(errors, of: Transcript = REFERENCE):
    """An alignment with so many errors in each utterance (at most two, far apart) as a function of its number says."""
    lines = {u: [b"a b c d e f", b"a b x d e f", b"x b c d e x"][errors(n)] for n, u in enumerate(of.lines)}
    return align(of, Transcript("hyp", lines))


def every(divisor: int, errors: int = 1, of: Transcript = REFERENCE):
    """Errors in every so many-th utterance."""
    return heard(lambda n: errors * (n % divisor == 0), of)


NONE = heard(lambda n: 0)


def test_one_seed_has_its_own_test_and_its_speakers_interval():
    ours, theirs = [every(2), every(4, of=NOISY)], [every(5), every(3, of=NOISY)]
    found, pairs = Comparison([ours], [theirs]), [*zip(ours, theirs, strict=True)]
    assert found.interval == pytest.approx(by_definition(pairs), abs=1e-12)
    assert found.difference == pytest.approx(100 * (30 + 10 - 12 - 14) / 600) == found.estimate.value
    assert found.tests == (significance(pairs),) and found.p == significance(pairs).p
    assert (found.seeds, found.units) == (1, "20 speakers")
    alone, same = estimate_wer([ours]), wer_interval(ours)
    assert (alone.low, alone.high) == pytest.approx((same.low, same.high), abs=1e-12)


def test_with_one_seed_sc_stats_own_bound_decides():
    """|Z| must exceed 1.960; p is below 0.05 from 1.95996 on."""
    found = Comparison([[every(2)]], [[NONE]])
    between = Mapsswe(100, 0.1, sd=1.0, z=1.95998, p=0.049998, significant=False, constant_difference=False)
    found.__dict__["tests"] = (Significance(between, None),)
    assert found.p < 0.05 and found.significant is False


def test_sets_that_do_not_pair_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        Comparison([[NONE, every(2, of=NOISY)]], [[NONE]]).tests  # noqa: B018 - asked for


def test_several_seeds_by_hand():
    """Ours makes 30, 20 and 12 errors in 360 words, theirs 12, 12 and 15."""
    ours, theirs = [[every(2)], [every(3)], [every(5)]], [[every(5)], [every(5)], [every(4)]]
    found = Comparison(ours, theirs)
    assert mean_wer(ours) == pytest.approx(100 * 62 / (3 * 360)) and mean_wer(theirs) == pytest.approx(100 * 39 / 1080)
    assert found.difference == pytest.approx(100 * (18 + 8 - 3) / 1080) == found.estimate.value
    expected = contrast(system_errors([ours, theirs]), [1, -1])
    assert (*found.interval, found.p) == (expected.low, expected.high, expected.p)
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.p == found.estimate.p and found.significant is (found.p < 0.05)
    assert found.seeds == 3 and found.estimate.words == 360  # the same words, counted once


def test_segments_of_different_seeds_never_enter_one_test():
    """The same weak difference in every seed: three times the same evidence is no more evidence."""
    ours, theirs = heard(lambda n: int(n % 5 < 2)), heard(lambda n: int(n % 5 == 2 or n % 20 == 0))
    alone, three = Comparison([[ours]], [[theirs]]), Comparison([[ours]] * 3, [[theirs]] * 3)
    assert three.tests == alone.tests * 3
    assert {test.mapsswe.segments for test in three.tests} == {mapsswe([(ours, theirs)]).segments}
    together = mapsswe([(ours, theirs)] * 3)
    assert alone.p > 0.05 > together.p and not three.significant


@pytest.mark.parametrize(
    ("ours", "theirs", "stars"),
    [
        ([every(1, 2), every(2), NONE], [NONE, every(2), every(2)], 2),  # worse, equal, better
        ([every(2), every(2), every(2)], [NONE, NONE, NONE], 0),
        ([NONE, NONE, NONE], [every(2), every(2), every(2)], 3),  # better keeps it
    ],
)
def test_stars_are_counted_by_seed(ours, theirs, stars):
    assert Comparison([[one] for one in ours], [[one] for one in theirs]).stars == stars


@pytest.mark.parametrize(("utterances", "star"), [(60, 0), (6, 0), (5, 1)])
def test_where_mapsswe_says_nothing_the_exact_test_decides_on_the_star(utterances, star):
    """One error more in every segment: p is 2 in 2 to the power of the segments, 0.031 of six and 0.0625 of five."""
    of = reference(utterances)
    found = Comparison([[every(1, of=of)]], [[every(99999, 0, of=of)]])
    assert found.tests[0].mapsswe.constant_difference and found.tests[0].mapsswe.p == 1
    assert found.p == pytest.approx(2.0 ** (1 - utterances)) and found.stars == star
    assert found.significant is not bool(star)
    back = Comparison(found.theirs, found.ours)
    assert back.stars == 1 and back.significant is found.significant


def test_an_exact_test_gives_no_star_back():
    """Eight segments, seven against us and one for us: Z is 2.6, the exact p 0.07. The paper's star is MAPSSWE's."""
    of = reference(8)
    found = Comparison([[heard(lambda n: int(n > 0), of)]], [[heard(lambda n: int(n == 0), of)]])
    (test,) = found.tests
    assert test.mapsswe.significant and test.exact_p == pytest.approx(18 / 256) and not found.significant
    assert found.stars == 0


@pytest.mark.parametrize("seeds", [1, 3])
def test_swapping_the_systems_turns_every_sign(seeds):
    ours, theirs = [[every(2)], [every(3)], [every(7)]][:seeds], [[every(4)], [every(5)], [every(6)]][:seeds]
    there, back = Comparison(ours, theirs), Comparison(theirs, ours)
    assert back.difference == pytest.approx(-there.difference)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
    assert back.p == pytest.approx(there.p)


def test_utterances_are_called_what_they_are():
    unnamed = Transcript("ref", dict(REFERENCE.lines))
    one = align(unnamed, Transcript("hyp", dict(unnamed.lines)))
    assert Comparison([[one]], [[one]]).units == "60 utterances"


def test_different_numbers_of_seeds_are_an_error():
    with pytest.raises(ValueError):
        _ = Comparison([[NONE]], [[NONE], [NONE]]).stars
