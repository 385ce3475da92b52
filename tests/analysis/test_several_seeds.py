"""Tables, headlines and the report with several seeds: hand-computed, and every number beside an interval of the same
thing."""

import csv
import io
import json
import shutil

import pytest

from analysis.inputs.results import Results
from analysis.page.tables import beside
from analysis.report import content
from analysis.significance.contrasts import contrast, system_errors
from analysis.significance.exact import significance
from analysis.summary import main_table
from analysis.tables.beam_check import decode_table
from analysis.tables.costs import cost_table
from analysis.tables.figures import figure_caption, path_spread
from analysis.tables.formats import to_csv, to_latex, to_markdown
from analysis.tables.headline import headlines
from analysis.tables.papers import build_table
from analysis.tables.rows import measure
from analysis.tables.runs import provenance_table, rule_times
from analysis.tables.sensitivity import sensitivity_table
from tests.analysis import claims_folder, results_folder
from tests.analysis.conftest import table_widths

SPEAKERS = 40  # of 50 words each
WOBBLE = [(-1) ** speaker for speaker in range(SPEAKERS)]


def errors(mean: int) -> list[int]:
    """Errors of each speaker, by turns one more and one less."""
    return [mean + one for one in WOBBLE]


ROWS = {
    "1": [errors(5), errors(6), errors(4)],  # 200, 240 and 160 errors in 2000 words: 10, 12 and 8 %
    # Worse by 159 errors, equal, better by 160: 17.95, 12 and 0 %.
    "S1": [[mean + 3 + n % 3 for n, mean in enumerate(errors(5))], errors(6), [0] * SPEAKERS],
    # Worse by 159 in every seed.
    "S2": [[mean + 3 + n % 3 for n, mean in enumerate(errors(one))] for one in (5, 6, 4)],
    "S3": [errors(5), errors(6), errors(4)],
}


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    rows = {f"table1.{name}": [[one] for one in by_seed] for name, by_seed in ROWS.items()}
    return Results(claims_folder.make(tmp_path_factory.mktemp("seeds") / "made", rows))


@pytest.fixture(scope="module", params=[1, 3])
def made(request, tmp_path_factory):
    """Made-up results of one and of three seeds, with all kinds of tables."""
    seeds = tuple(range(request.param))
    folder = results_folder.make(tmp_path_factory.mktemp("made") / "tiny", seeds)
    return Results(results_folder.add_family(folder, seeds))


def table(results: Results, name: str):
    return build_table(results, name, results.experiment.tables[name])


def cells(results: Results, name: str) -> dict[str, dict[str, str]]:
    """The rows of a table as its CSV has them, by their first column; those that were measured."""
    rows = csv.DictReader(io.StringIO(to_csv(table(results, name))))
    return {next(iter(row.values())): row for row in rows if row["wer"]}


def test_a_row_of_three_seeds_by_hand(by_hand):
    rows = {row["sys"]: row for row in table(by_hand, "table1").rows if "wer" in row}
    assert [rows[name]["wer"][1].split()[0] for name in ROWS] == ["10.00", "9.98", "17.95", "10.00"]
    assert rows["S1"]["wer"][1] == f"9.98 [{rows['S1']['wer_low']:.2f}, {rows['S1']['wer_high']:.2f}]"
    assert rows["S1"]["wer"][0] == pytest.approx((17.95 + 12 + 0) / 3)
    assert rows["S1"]["wer_by_seed"] == ("17.95;12;0", "17.95, 12.00, 0.00")
    assert rows["S1"]["sub_over_seeds"] == 359 + 240 + 0 and rows["S1"]["ref_words"] == 2000
    assert rows["S1"]["difference"][0] == pytest.approx((7.95 + 0 - 8) / 3)
    assert rows["S2"]["difference"][0] == pytest.approx(7.95)
    assert [rows[name]["star"] for name in ("S1", "S2", "S3")] == [(2, "* 2/3"), (0, "0/3"), (3, "* 3/3")]
    assert rows["S2"]["p"][0] < 0.05 < rows["S1"]["p"][0] and rows["S3"]["p"][0] == 1
    assert rows["S3"]["difference"][1] == "+0.00 [+0.00, +0.00]"
    assert (rows["S1"]["path"], rows["S1"]["seeds"]) == (" ".join("1" * 12), 3)
    assert "star" not in rows["1"] and "p" not in rows["1"]


def test_intervals_and_tests_are_those_of_the_same_thing(by_hand):
    rows = measure(by_hand, "table1", by_hand.experiment.tables["table1"])
    found = {row["sys"]: row for row in table(by_hand, "table1").rows}
    base = rows["1"].alignments_by_seed()
    for name in ("S1", "S2"):
        ours = rows[name].alignments_by_seed()
        own, both = contrast(system_errors([ours]), [1]), contrast(system_errors([ours, base]), [1, -1])
        row = found[name]
        assert (row["wer_low"], row["wer_high"]) == (own.low, own.high)
        assert (row["difference_low"], row["difference_high"], row["p"][0]) == (both.low, both.high, both.p)
        tests = [significance([*zip(*pair, strict=True)]) for pair in zip(ours, base, strict=True)]
        assert row["segments_by_seed"][0] == ";".join(str(test.mapsswe.segments) for test in tests)
        p = [float(value) for value in row["p_by_seed"][0].split(";")]
        assert p == pytest.approx([test.p for test in tests], rel=1e-4)
    assert found["S1"]["p_by_seed"][1].startswith("< 0.001, 1.000")


def test_no_column_holds_the_first_seed_beside_all(made):
    for name in ("table1", "table2", "table3", "table4"):
        keys = {column.key for column in table(made, name).columns}
        one = {"sub", "del", "ins", "z", "p_exact", "segments"}
        several = {"sub_over_seeds", "wer_by_seed", "p_by_seed", "segments_by_seed"}
        wanted, unwanted = (one, several) if len(made.experiment.seeds) == 1 else (several, one)
        assert wanted <= keys and not unwanted & keys, name


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4"])
def test_every_number_stands_inside_an_interval_of_the_same_thing(made, name):
    rows, spec, seeds = cells(made, name), made.experiment.tables[name], len(made.experiment.seeds)
    base = rows[spec.reference]
    for end in ["", *(f"_{one}" for one in made.experiment.sets_of(spec) if f"wer_low_{one}" in base)]:
        for row in rows.values():
            wer = float(row[f"wer{end}"])
            assert float(row[f"wer_low{end}"]) <= wer <= float(row[f"wer_high{end}"])
            assert row["seeds"] == str(seeds)
            if row is base or not row.get(f"difference{end}"):
                continue
            difference, low, high, p = (
                float(row[key + end]) for key in ("difference", "difference_low", "difference_high", "p")
            )
            assert difference == pytest.approx(wer - float(base[f"wer{end}"]), abs=2e-6)
            assert low <= difference <= high and 0 <= int(row[f"star{end}"]) <= seeds
            if seeds > 1:
                assert (p < 0.05) is (not low <= 0 <= high)


def test_the_mean_over_seeds_is_the_rate_of_all_errors(made):
    seeds = len(made.experiment.seeds)
    for row in cells(made, "table1").values():
        kinds = [key if seeds == 1 else f"{key}_over_seeds" for key in ("sub", "del", "ins")]
        rate = 100 * sum(int(row[key]) for key in kinds) / (seeds * int(row["ref_words"]))
        assert float(row["wer"]) == pytest.approx(rate, abs=1e-5)


def test_a_path_stands_once_where_all_seeds_have_it_and_else_by_seed(tmp_path):
    """Three paths to a depth; which has the median errors differs from seed to seed for S1, and not for S2."""
    fewer, some, more = errors(3), errors(5), errors(7)
    rows = {
        "table1.1": [[some, some, some]] * 3,
        "table1.S1": [[fewer, some, more], [some, fewer, more], [fewer, more, some]],
        "table1.S2": [[more, some, fewer]] * 3,
    }
    found = {r["sys"]: r for r in table(Results(claims_folder.make(tmp_path / "made", rows)), "table1").rows}
    ones = "1 1 1 1 1 1 1 1 1 1 1"
    assert found["S1"]["path"] == f"seed 0: {ones} 2; seed 1: {ones} 1; seed 2: {ones} 3"
    assert (found["S2"]["path"], found["S2"]["paths"]) == (f"{ones} 2", "3")
    assert found["S1"]["wer"][0] == 10.0


def test_the_path_chosen_on_dev_has_its_mean_and_interval(made):
    row = next(row for row in table(made, "table1").rows if row["sys"] == "S3")
    shown, text = row["dev_path"]
    assert row["dev_wer_low"] <= row["dev_wer"] <= row["dev_wer_high"]
    interval = f" [{row['dev_wer_low']:.2f}, {row['dev_wer_high']:.2f}]" if len(made.experiment.seeds) > 1 else ""
    assert text == f"{shown} ({row['dev_wer']:.2f}{interval})"


def test_the_headline_takes_its_numbers_from_the_same_comparison(made):
    rows = measure(made, "table1", made.experiment.tables["table1"])
    found = next(one for one in headlines(made) if one.system == "f6")
    expected = rows["S1"].against(rows["S4"])
    assert found.comparison.interval == expected.interval and found.comparison.p == expected.p
    assert (found.deepest_wer, found.seed_wer) == (rows["S1"].wer(), rows["S4"].wer())
    if len(made.experiment.seeds) == 1:
        assert "over 12 speakers; MAPSSWE p" in found.sentence and "seeds" not in found.sentence
    else:
        agree = sum(test.significant for test in expected.tests)
        assert (
            f"over 3 seeds and 12 speakers; p {'< 0.001' if expected.p < 0.001 else f'{expected.p:.3f}'}"
            in found.sentence
        )
        assert f"significant by MAPSSWE in {agree} of 3 seeds" in found.sentence


def test_a_headline_relies_on_the_exact_p_where_mapsswe_is_weak(tmp_path):
    """One error less in each of twelve utterances when run deeper: MAPSSWE abstains, the exact p is 2 in 4096."""
    one, none = [[1] * 12], [[0] * 12]
    folder = claims_folder.make(tmp_path / "made", {"table1.1": [one], "table1.S1": [none]})
    home = folder / "systems" / claims_folder.system("table1.S1") / "seed0" / "eval"
    points = json.loads((home / "points.json").read_text())
    shallow = points["points"][0] | {"id": "shallow", "path": [1] * 6, "depth": 6}
    points["points"].append(shallow)
    points["decodes"]["greedy"]["sets"]["test"]["points"].append("shallow")
    (home / "points.json").write_text(json.dumps(points))
    other = folder / "systems" / claims_folder.system("table1.1") / "seed0/eval/greedy/test/p0.trn"
    shutil.copy(other, home / "greedy/test/shallow.trn")
    experiment = json.loads((folder / "experiment.json").read_text())
    figure = {"kind": "depth_curves", "decode": "greedy", "systems": [claims_folder.system("table1.S1")]}
    (folder / "experiment.json").write_text(json.dumps(experiment | {"figures": {"figure2": figure}}))
    (found,) = headlines(Results(folder))
    assert "depth 12 is better than depth 6" in found.sentence and "exact p < 0.001, 12 segments" in found.sentence


def test_costs_say_which_seed_is_which(made):
    found, seeds = cost_table(made), len(made.experiment.seeds)
    row = next(row for row in found.rows if (row["system"], row["depth"]) == ("f6", 6))
    assert row["wer_low"] <= row["wer"][0] <= row["wer_high"]
    assert any("seeds: paths and costs are those of seed 0" in note for note in found.notes) is (seeds > 1)
    assert ("[" in row["wer"][1]) is (seeds > 1)


def test_the_report_shows_the_same(made, tmp_path):
    shown, seeds = content(made), len(made.experiment.seeds)
    rows = measure(made, "table1", made.experiment.tables["table1"])
    data = json.loads(shown["data"])
    deepest = next(s for s in data["figures"][0]["systems"] if s["name"] == "f6")["depths"][-1]
    row, estimate = rows["S1"], rows["S1"].estimate()
    reported = deepest["reported"]
    assert (reported["wer"], reported["interval"]) == (row.wer(), [estimate.low, estimate.high])
    assert reported["counts"][3] == row.counts_by_seed()[0].ref_words and reported["seeds"] == seeds
    paths = [path for view in shown["figures"] for path in view[1].table.rows if path["system"] == "a12"]
    assert sorted(path["seed"] for path in paths) == [*range(seeds)]  # each with its own counts and interval
    assert all(path["low"] <= path["wer"][0] <= path["high"] and path["role"] == "trained, reported" for path in paths)
    cost = next(p for p in data["cost"]["points"] if (p["system"], p["depth"]) == ("f6", 12))
    assert cost["wer"] == pytest.approx(row.wer()) and cost["seeds"] == seeds
    assert (", seed 0" in data["viewer"]["points"][0]["label"]) is (seeds > 1)


def test_the_band_of_a_depth_is_the_spread_of_paths_within_a_seed():
    """Of 1 and 3, and of 11 and 15: variances of 2 and 8, root 5 of their mean. Seeds are ten points apart."""
    assert path_spread([[1.0, 3.0], [11.0, 15.0]]) == pytest.approx(5**0.5)
    assert path_spread([[1.0], [11.0]]) == 0.0 and path_spread([[1.0, 3.0]]) == pytest.approx(2**0.5)


def test_a_depth_chart_says_of_which_seeds_it_is(made):
    (chart,) = [chart for chart, _ in content(made)["figures"] if chart["name"] == "figure2"]
    several = made.experiment.seeds[1:] != []
    assert ("means over 3 seeds" in chart["note"]) == several and ("those within a seed" in chart["note"]) == several
    assert (figure_caption(made, "figure2").count(" within a seed") == 1) == several


def test_the_star_has_a_column_of_its_own_with_several_seeds(made):
    found, several = table(made, "table1"), len(made.experiment.seeds) > 1
    for shown in (found, beside(found, "1")):
        assert ("star" in {column.key for column in shown.shown(wide=False)}) is several
    text = next(row for row in found.rows if row["sys"] == "S1")["wer"][1]
    assert ("* [" in text) is (not several)
    notes = " ".join(found.notes)
    assert ("3 seeds: a WER is the mean over them" in notes) is several and ("One seed" in notes) is (not several)


def test_markdown_and_latex_have_ten_columns_whatever_the_seeds(made):
    names, further = [*made.experiment.tables], [cost_table, decode_table, sensitivity_table]
    tables = [*(table(made, name) for name in names), *(build(made) for build in further)]
    for found in [*tables, rule_times(made), provenance_table(made)]:
        assert found.rows and max(table_widths(to_markdown(found)) + table_widths(to_latex(found))) <= 10, found.name
        # What is left out stands in the page and in the CSV.
        assert {*found.shown(wide=False)} <= {*found.shown(wide=True)} <= {*found.columns}


def test_of_a_table_too_wide_for_paper_the_most_needed_columns_stay(made):
    several = len(made.experiment.seeds) > 1
    first = [column.key for column in table(made, "table1").shown(wide=False)]
    wanted = ["sys", "system", "physical_layers", "depth", "params_millions", "wer", "star", "difference", "p"]
    assert first == [
        *(key for key in wanted if several or key != "star"),
        *([] if several else ["p_holm"]),
        "published_wer",
    ]
    second = [column.key for column in table(made, "table2").shown(wide=False)]
    stars = {"star_test_clean", "star_test_other"} if several else {"params_millions", "physical_layers"}
    kept = {"sys", "system", "depth", "wer_test_clean", "wer_test_other", "difference"}
    assert {*second} == kept | stars | {"published_test_clean", "published_test_other"}


def test_the_summary_says_in_how_many_seeds(made, tmp_path):
    (tmp_path / "table1.csv").write_text(to_csv(table(made, "table1")))
    lines = [line.split() for line in main_table(tmp_path / "table1.csv", "table1").splitlines()]
    row = cells(made, "table1")["S1"]
    star = ["*"] if row["star"] != "0" else []
    expected = star if len(made.experiment.seeds) == 1 else [*star, f"{row['star']}/3"]
    wanted = ["S1", "f6", "12", "0.16", f"{float(row['wer']):.2f}", *expected, "28.8", "12.64", "*"]
    assert next(line for line in lines if line[0] == "S1") == wanted


def test_tables_say_where_nobody_named_the_speakers(tmp_path):
    folder = claims_folder.make(tmp_path / "made", {"table1.1": [[errors(5)]], "table1.S1": [[errors(6)]]})
    assert not any("Nobody named" in note for note in table(Results(folder), "table1").notes)
    (folder / "data/test.speakers.json").unlink()
    found = table(Results(folder), "table1")
    assert sum("Nobody named the speakers of test" in note for note in found.notes) == 1
