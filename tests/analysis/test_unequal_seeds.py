"""Systems with different seeds: what each number is over, by hand, in tables, verdicts and pooled variances."""

import json

import numpy as np
import pytest

from analysis.inputs.made import not_made
from analysis.inputs.results import Results
from analysis.page.run import facts
from analysis.report import content
from analysis.significance.contrasts import contrast, system_errors
from analysis.significance.variances import equality_p, pooled
from analysis.summary import main_table
from analysis.tables.formats import to_csv
from analysis.tables.papers import build_table
from tests.analysis import claims_folder, results_folder
from tests.analysis.claims_cases import INCONCLUSIVE, NOT_TESTED, REPRODUCED, judged

SPEAKERS = 40  # of 50 words each


def errors(total: int) -> list[int]:
    """So many errors over all speakers, as equal as can be, the first ones one more."""
    each, more = divmod(total, SPEAKERS)
    return [each + (speaker < more) for speaker in range(SPEAKERS)]


WORSE = {"worse_by": {"row": "table1.S1", "than": "table1.1", "at_least": {"absolute": 5}}}
# In 2000 words: 10, 12, 8, 20 and 15 %, in the mean 13, of the first three 10.
FIVE = [200, 240, 160, 400, 300]
ROWS = {
    "1": FIVE,
    "S1": [total + 159 for total in FIVE[:3]],  # 17.95 % in the mean, 7.95 points more within each seed
    "S2": [240],
    "S3": [total + 159 for total in FIVE],
}
WERS = {"1": "13.00", "S1": "17.95", "S2": "12.00", "S3": "20.95"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows = {f"table1.{name}": [[errors(total)] for total in by_seed] for name, by_seed in ROWS.items()}
    return Results(claims_folder.make(tmp_path_factory.mktemp("unequal") / "made", rows))


def rows_of(results):
    found = build_table(results, "table1", results.experiment.tables["table1"])
    return found, {row["sys"]: row for row in found.rows if "wer" in row}


def test_a_wer_is_over_all_seeds_of_its_row_and_a_difference_over_those_of_both(made):
    table, rows = rows_of(made)
    assert {name: rows[name]["wer"][1].split()[0] for name in ROWS} == WERS
    assert [rows[name]["wer"][1].split("] ")[1] for name in ROWS] == ["(5 seeds)", "(3 seeds)", "(1 seed)", "(5 seeds)"]
    assert [rows[name]["difference"][0] for name in ("S1", "S2", "S3")] == pytest.approx([7.95, 2.0, 7.95])
    assert rows["S1"]["difference"][1].startswith("+7.95 [") and rows["S1"]["difference"][1].endswith("] (3 seeds)")
    assert [rows[name]["seeds_compared"] for name in ("S1", "S2", "S3")] == ["0, 1, 2", "0", "0, 1, 2, 3, 4"]
    assert [rows[name]["star"][1] for name in ("S1", "S2", "S3")] == ["0/3", "0/1", "0/5"]
    assert rows["S2"]["sub_over_seeds"] == 240 and rows["1"]["sub_over_seeds"] == sum(FIVE)
    (note,) = [note for note in table.notes if note.startswith("Rows by their seeds: ")]
    assert "0, 1, 2, 3, 4: 1, S3; 0, 1, 2: S1; 0: S2. " in note and "over speakers alone" in note
    assert any(note.startswith("1 or 3 or 5 seeds: a WER is") for note in table.notes)


def test_a_comparison_is_that_of_the_common_seeds_alone(made):
    _, rows = rows_of(made)
    home = made.folder / "systems"

    def heard(name, seeds):
        points = (made.points(f"s_table1_{name}", seed).points[0] for seed in seeds)
        return [made.alignments(point, "greedy", ["test"]) for point in points]

    assert len([*home.glob("s_table1_1/seed*")]) == 5
    by_hand = contrast(system_errors([heard("S1", range(3)), heard("1", range(3))]), [1, -1])
    assert (rows["S1"]["difference_low"], rows["S1"]["difference_high"]) == (by_hand.low, by_hand.high)
    assert by_hand.seeds == 3 and rows["S1"]["p"][0] == by_hand.p


def test_the_terminal_says_the_seeds(made, tmp_path):
    table, _ = rows_of(made)
    (tmp_path / "table1.csv").write_text(to_csv(table))
    lines = main_table(tmp_path / "table1.csv", "table1").splitlines()
    (row,) = (line.split() for line in lines if line.split()[0] == "S1" and "17.95" in line)
    assert "WER %  seeds" in lines[0] and row[row.index("17.95") :][:3] == ["17.95", "3", "0/3"]


def judged_by(tmp_path, ours, theirs, **further):
    rows = {"table1.1": [[errors(total)] for total in theirs], "table1.S1": [[errors(total)] for total in ours]}
    return judged(tmp_path, {**WORSE, **further}, rows)


@pytest.mark.parametrize(("ours", "theirs", "seeds"), [(3, 5, 3), (5, 3, 3), (2, 5, 2), (5, 5, 5)])
def test_a_verdict_counts_the_seeds_that_both_rows_have(tmp_path, ours, theirs, seeds):
    found = judged_by(tmp_path, [total + 159 for total in FIVE[:ours]], FIVE[:theirs])
    assert found.trainings == seeds and found.effect.value == pytest.approx(7.95)
    assert found.verdict == (REPRODUCED if seeds > 2 else INCONCLUSIVE)


def test_a_share_of_a_wer_is_as_uncertain_as_that_wer(tmp_path):
    """7.95 points more in each of five trainings: surely more than 5, see above, not surely than half of WERs of 8 to
    20 %. By hand: halves of the WERs have a variance over seeds of 22 / 4, their mean a fifth of it, t of 4 degrees of
    freedom is 2.776; speakers are all alike but for one error."""
    share = {"worse_by": {"row": "table1.S1", "than": "table1.1", "at_least": {"relative": 0.5}}}
    found = judged_by(tmp_path, [total + 159 for total in FIVE], FIVE, **share)
    half = 2.776 * (22 / 4 / 5) ** 0.5
    assert found.margin == pytest.approx(6.5) and found.verdict == INCONCLUSIVE
    assert found.effect.interval == pytest.approx((7.95 - half, 7.95 + half), abs=0.01)
    assert found.reason.startswith("the interval of the loss includes 6.50; ")


def test_rows_without_a_common_seed_are_not_compared(tmp_path):
    rows = {"table1.1": [[errors(200)], [errors(240)]], "table1.S1": [[errors(400)], [errors(400)]]}
    folder = claims_folder.make(tmp_path / "made", rows)
    values = json.loads((folder / "experiment.json").read_text())
    values["systems"]["s_table1_1"]["seeds"], values["systems"]["s_table1_S1"]["seeds"] = [0], [1]
    results_folder.write_json(folder / "experiment.json", values)
    _, found = rows_of(Results(folder))
    assert "difference" not in found["S1"] and found["S1"]["wer"][0] == 20.0
    from analysis.verdicts.judge import judge_claims
    from tests.analysis.claims_cases import claims_file

    verdicts = judge_claims(Results(folder), claims_file(tmp_path, WORSE))
    ((_, outcome),) = verdicts.judged
    assert outcome.verdict == NOT_TESTED and "have no training seed in common" in outcome.reason


def test_a_pooled_variance_weighs_by_degrees_of_freedom():
    """1, 2, 3 has a variance of 1; 1, 3, 5, 7, 9 one of 10: (2 * 1 + 4 * 10) / 6."""
    wers = [np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 5.0, 7.0, 9.0])]
    pool = pooled(wers, ["a", "b"])
    assert (pool.variance, pool.freedom, pool.trainings) == (pytest.approx(7.0), 6, 2)
    # Bartlett: (6 ln 7 - 2 ln 1 - 4 ln 10) / (1 + (1/2 + 1/4 - 1/6) / 3) = 2.0625 with one degree of freedom.
    statistic = (6 * np.log(7) - 4 * np.log(10)) / (1 + (1 / 2 + 1 / 4 - 1 / 6) / 3)
    from scipy.stats import chi2

    assert pool.p == pytest.approx(chi2.sf(statistic, 1)) == pytest.approx(float(equality_p(wers)))


def test_the_report_shows_seeds_that_are_there_and_names_those_that_lack(tmp_path):
    """Five seeds are wanted of f6, three of the others; all have two, a12 and w6 three."""
    folder = results_folder.add_family(results_folder.make(tmp_path / "tiny", (0, 1, 2)), (0, 1, 2))
    values = json.loads((folder / "experiment.json").read_text())
    values["systems"]["f6"]["seeds"] = [*range(5)]
    results_folder.write_json(folder / "experiment.json", values)
    there = {name: [0, 1, 2] if name in ("a12", "w6") else [0, 1] for name in values["systems"]}
    made = {"schema": 2, "systems": there, "studies": {"sensitivity of w12": [1]}, "not_made": {}}
    results_folder.write_json(folder / "made.json", made)
    results = Results(folder)
    said = not_made(results.whole, results.made)
    others = ", ".join(name for name in values["systems"] if name not in ("a12", "w6", "f6"))
    assert said == f"Made with some of their seeds so far: 2 of 3 seeds ({others}), 2 of 5 seeds (f6)."
    shown = content(results)
    assert shown["seeds"] == [2, 3] and shown["not_made"] == said
    assert dict(facts(results))["Seeds"] == "3 (0, 1, 2) of a12, w6; 2 (0, 1) of the others"
    table, _, by_set, _ = (view.table for view, _ in shown["tables"])
    assert [row["seeds"] for row in table.rows if row["system"] in ("a12", "f6")] == [3, 2, 2, 2, 2]
    row = next(row for row in by_set.rows if row["system"] == "w6")
    assert row["wer_test_clean"][1].endswith(" (3 seeds)") and row["star_test_clean"][1].endswith("/2")
    assert {row["seed"] for row in shown["sensitivity"].table.rows} == {1}
