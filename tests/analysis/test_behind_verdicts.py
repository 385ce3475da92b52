"""What stands beside every verdict: seeds, words, the half-width that was reached, power; and how many are false."""

import csv
import io
from dataclasses import replace

import pytest

from analysis.inputs.results import Results
from analysis.page.claims import Claim, Claims
from analysis.significance.contrasts import Estimate
from analysis.significance.power import POWER, POWERED_Z, Power, power_of
from analysis.significance.variances import Variance
from analysis.tables.formats import to_csv
from analysis.verdicts.judge import claims_table, expected_false, judge_claims, section
from tests.analysis import claims_folder
from tests.analysis.claims_cases import (
    BETTER,
    CONTRADICTED,
    COST,
    INCONCLUSIVE,
    NO_LOSS,
    REPRODUCED,
    SPREAD,
    claims_file,
    each,
    judged,
)

ONE_SEED = Estimate(value=0.0, low=-1.0, high=1.0, test_low=-1.0, test_high=1.0, seeds=1, units=40, words=2000)


@pytest.mark.parametrize(("bound", "now"), [(1.0, 0.5), (POWERED_Z / 1.959964, POWER), (0.5, 0.1635), (0.0, 0.025)])
def test_the_power_of_one_seed_by_hand(bound, now):
    """The interval reaches 1.96 standard errors: it clears a bound at distance d with Phi(1.96 (d - 1))."""
    found = power_of(ONE_SEED, bound, 3)
    assert found.now == pytest.approx(now, abs=1e-4) and found.seeds is None
    if bound:
        assert found.words == pytest.approx(2000 * (POWERED_Z / 1.959964 / bound) ** 2, abs=1)


def test_what_is_enough_may_be_less_than_there_is():
    """Half of the speakers' variance, or more seeds, where the seeds vary little: the smaller need is found."""
    three = replace(ONE_SEED, seeds=3, parts=(Variance(0.04, 39), Variance(0.001, 2)))
    wide, narrow = power_of(three, 2.0, 3), power_of(three, 0.45, 3)
    assert wide.now > 0.99 and wide.words < 2000 and wide.seeds == 3
    assert narrow.now < 0.8 and narrow.words > 2000
    assert power_of(replace(three, parts=(Variance(0.04, 39), Variance(4.0, 2))), 0.45, 3).words is None


@pytest.mark.parametrize(
    ("ours", "verdict", "said"),
    [
        (each(5), REPRODUCED, "; margin 0.30, half-width 0.00; power 100 %, 80 % from about "),
        (each(8), CONTRADICTED, "; margin 0.30, half-width 0.00; power 100 %, 80 % from about "),
        (each(5, 4), INCONCLUSIVE, "; margin 0.30, half-width "),
    ],
)
def test_a_claim_of_no_loss_states_margin_half_width_and_power(tmp_path, ours, verdict, said):
    found = judged(tmp_path, NO_LOSS, {"table1.1": each(5), "table1.S1": ours})
    low, high = found.effect.interval
    assert found.verdict == verdict and said in found.reason
    assert found.to_json()["effect"]["half_width"] == (high - low) / 2
    if verdict == INCONCLUSIVE:
        assert "would settle it" in found.reason and "80 % from" not in found.reason, "said once"
        assert (found.words_needed, found.seeds_needed) == (found.power.words, found.power.seeds)


def test_seeds_and_words_stand_beside_every_verdict_of_a_wer(tmp_path):
    rows = {f"table1.{name}": [[errors]] * 3 for name, errors in (("1", each(5)), ("S1", each(5, 1)))}
    rows["table1.S1"] = [[each(5, 1)], [each(5, 1)], [each(5)]]
    sizes = {name: 1000 for name in rows}
    folder = claims_folder.make(tmp_path / "made", rows, sizes)
    verdicts = judge_claims(Results(folder), claims_file(tmp_path, NO_LOSS, BETTER, SPREAD, COST))
    no_loss, better, _, cost = (outcome for _, outcome in verdicts.judged)
    words = verdicts.test_words
    for found in (no_loss, better):
        assert found.seeds == (0, 1, 2) and found.words == words
        assert found.behind == f"3 seeds (0, 1, 2), {words:,} words"
    assert (cost.behind, cost.power) == ("", None)
    text = "\n".join(section(verdicts)).replace("\\", "")
    assert "| seeds and words |" in text and f"3 seeds (0, 1, 2), {words:,} words" in text
    table = [*csv.DictReader(io.StringIO(to_csv(claims_table(verdicts))))]
    assert table[0]["seeds"] == "0, 1, 2" and int(table[0]["words"]) == words
    assert float(table[0]["half_width"]) == pytest.approx(no_loss.effect.half_width, abs=1e-6)
    assert float(table[0]["power"]) == pytest.approx(no_loss.power.now, abs=1e-6) and table[3]["power"] == ""
    page = Claims.model_validate(verdicts.to_json())
    assert [claim.behind for claim in page.claims] == [outcome.behind for _, outcome in verdicts.judged]
    assert page.false_ones == verdicts.false_ones != ""
    assert page.false_ones in text


def test_how_many_false_verdicts_there_may_be():
    assert expected_false(0, 0) == ""
    of_one = expected_false(40, 40)
    assert (
        "judged 40 claims" in of_one
        and ", one each: " in of_one
        and "2 false verdicts would be expected at most" in of_one
    )
    # All of three parts above their bound, 2.5 %, or one of them below, 7.5 %: 10 % of a claim.
    assert "2 claims, whole or in part, from three trainings on, by 6 comparisons: " in expected_false(2, 6)
    assert "0.2 false verdicts would" in expected_false(2, 6)


def test_a_claim_counts_among_them_whichever_part_decides(tmp_path):
    """Too many parameters contradict it, and its interval could have."""
    fewer = {"fewer_parameters": {"row": "table1.S1", "than": "table1.1", "at_least": 0.5}}
    rows = {row: [[each(5)]] * 3 for row in ("table1.1", "table1.S1")}
    folder = claims_folder.make(tmp_path / "made", rows, parameters={"table1.1": 1000, "table1.S1": 900})
    found = judge_claims(Results(folder), claims_file(tmp_path, {"all_of": [NO_LOSS, fewer]}))
    assert found.judged[0][1].verdict == CONTRADICTED and not found.judged[0][1].trainings
    assert (found.by_interval, found.comparisons) == (1, 1)


def test_with_too_few_trainings_no_interval_decides(tmp_path):
    one = judged(tmp_path, NO_LOSS, {"table1.1": each(5), "table1.S1": each(5)}, trainings=1)
    assert one.seeds == (0,) and one.power is None and "one training says nothing of its power" in one.reason
    assert isinstance(judged(tmp_path, NO_LOSS, {"table1.1": each(5), "table1.S1": each(5)}, trainings=2).power, Power)
    rows = {"table1.1": [[each(5)]], "table1.S1": [[each(5)]]}
    folder = claims_folder.make(tmp_path / "one", rows)
    assert judge_claims(Results(folder), claims_file(tmp_path, NO_LOSS)).false_ones == ""


def test_files_of_earlier_versions_say_less_and_are_read():
    found = Claims(claims=[Claim(id="a", statement="b")])
    assert found.claims[0].behind == "" and found.false_ones == ""
