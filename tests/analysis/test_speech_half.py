"""Tables 2 and 3, Figure 3 and what comes with them: cells with stars of their own, families, models without points."""

import csv
import json
import re
import shutil

import pytest

from analysis.inputs.results import Results
from analysis.inputs.studies import Sensitivity
from analysis.report import content, report
from analysis.scoring.alignment import align
from analysis.scoring.trn import read_trn
from analysis.significance.exact import holm, significance
from analysis.significance.mapsswe import mapsswe
from analysis.tables.figures import depth_curves, figure_caption, figure_title, published_panels
from analysis.tables.headline import headlines
from analysis.tables.papers import build_table
from analysis.tables.sensitivity import sensitivity_table
from common.errors import UserError
from tests.analysis import claims_folder, results_folder
from tests.analysis.conftest import command
from tests.analysis.results_folder import DROP_ORDER, FAMILY_TITLE, SENSITIVITY, write_json
from tests.analysis.test_render import table

SETS = ["test_clean", "test_other", "dev"]  # of Table 2, in its order
PUBLISHED_ROWS = [*"123456", "E1", "E2", "E3", *(f"S{n}" for n in range(1, 5)), *(f"F{n}" for n in range(1, 6))]
PUBLISHED_ROWS += [f"T{n}" for n in range(1, 5)]


def methods(folder) -> dict[str, dict[str, str]]:
    with open(folder / "tables" / "table3.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def transcripts(folder, row: dict[str, str], name: str):
    """The reference of one set, and what the row's system recognised."""
    home = folder / "systems" / row["system"] / "seed0" / "eval"
    points = json.loads((home / "points.json").read_text())["points"]
    point = next(point["id"] for point in points if point["label"] == row["path"])
    return read_trn(folder / f"data/made_up/{name}.trn"), read_trn(home / f"greedy/{name}/{point}.trn")


def edit(folder, change) -> None:
    experiment = json.loads((folder / "experiment.json").read_text())
    change(experiment)
    write_json(folder / "experiment.json", experiment)


def built(folder, name: str):
    results = Results(folder)
    return build_table(results, name, results.experiment.tables[name])


def test_table_2_has_the_papers_rows_and_cells_with_their_stars(family_rendered):
    rows = table(family_rendered, "table2")
    assert [*rows] == PUBLISHED_ROWS
    cells = ("test_clean", "test_other", "dev_clean", "dev_other")
    assert [rows["E1"][f"published_{cell}"] for cell in cells] == ["5.48", "14.72", "5.41", "14.34"]
    assert [rows["E1"][f"published_star_{cell}"] for cell in cells] == ["1", "0", "1", "1"]
    starred = {row for row, found in rows.items() for cell in cells if found[f"published_star_{cell}"] == "1"}
    assert starred == {"E1"}
    assert (rows["T1"]["published_params_millions"], rows["T1"]["params_millions"]) == ("30.6", "0.13")
    assert (rows["2"]["system"], rows["2"]["depth"], rows["2"]["wer_dev"]) == ("baseline", "10", "")
    assert "5.48*" in (family_rendered / "tables/table2.md").read_text().replace("\\", "")


@pytest.mark.parametrize("row", ["4", "S1", "S3", "T1", "T4"])
@pytest.mark.parametrize("name", SETS)
def test_a_cell_is_what_mapsswe_says_of_that_set_alone(family_rendered, row, name):
    rows = table(family_rendered, "table2")
    ours, base = (align(*transcripts(family_rendered, rows[key], name)) for key in (row, "1"))
    test, relied_on = mapsswe([(ours, base)]), significance([(ours, base)])
    cells = rows[row]
    assert float(cells[f"wer_{name}"]) == pytest.approx(ours.counts.wer, abs=1e-5)
    assert float(cells[f"difference_{name}"]) == pytest.approx(ours.counts.wer - base.counts.wer, abs=1e-5)
    assert float(cells[f"difference_low_{name}"]) <= float(cells[f"difference_{name}"])
    assert int(cells[f"segments_{name}"]) == test.segments
    assert float(cells[f"p_{name}"]) == pytest.approx(test.p, abs=1e-6)
    more = ours.counts.errors > base.counts.errors
    assert cells[f"star_{name}"] == str(int(not ((test.significant or relied_on.significant) and more)))
    shown = f"{ours.counts.wer:.2f}" + "*" * (cells[f"star_{name}"] == "1")
    lines = (family_rendered / "tables/table2.html").read_text().splitlines()
    line = next(line for line in lines if f'<th scope="row">{row}</th>' in line)
    assert f">{shown}</td>" in line


def test_both_kinds_of_cells_occur(family_rendered):
    """So that the comparison above could fail either way."""
    rows = table(family_rendered, "table2")
    stars = {row[f"star_{name}"] for row in rows.values() for name in SETS}
    assert stars == {"", "0", "1"}
    assert [rows["1"][f"{key}_dev"] for key in ("star", "p", "difference")] == ["", "", ""]


def test_a_cell_loses_its_star_where_only_that_set_is_worse(tmp_path):
    wobbling = [5 + (-1) ** speaker for speaker in range(40)]
    worse, better = [errors + 3 + speaker % 3 for speaker, errors in enumerate(wobbling)], [0] * 40
    rows = {
        "table2.1": {"a": wobbling, "b": wobbling, "c": wobbling, "d": wobbling},
        "table2.S1": {"a": wobbling, "b": worse, "c": better, "d": worse},
    }
    made = {name: [[errors]] for name, errors in rows.items()}
    folder = claims_folder.make(tmp_path / "made", made, test_sets=["a", "b", "c"], further_sets=["d"])
    found = next(row for row in built(folder, "table2").rows if row["sys"] == "S1")
    assert [found[f"star_{name}"] for name in "abcd"] == [1, 0, 1, 0]
    assert [found[f"wer_{name}"][1] for name in "abcd"] == ["10.00*", "17.95", "0.00*", "17.95"]
    assert found["difference_b"][0] == pytest.approx(100 * (sum(worse) - sum(wobbling)) / 2000)
    assert found["ref_words"] == 3 * 2000  # a, b and c: a further set is never pooled
    assert found["wer"][0] == pytest.approx(100 * (sum(wobbling) + sum(worse)) / 6000)


def test_pooled_is_over_the_test_sets_alone(family_rendered):
    for row in ("1", "S1", "T3"):
        cells = table(family_rendered, "table2")[row]
        found = [align(*transcripts(family_rendered, cells, name)).counts for name in ("test_clean", "test_noisy")]
        counts = sum(found[1:], found[0])
        assert (int(cells["sub"]), int(cells["ref_words"])) == (counts.sub, counts.ref_words)
        assert float(cells["wer"]) == pytest.approx(counts.wer, abs=1e-5)


def test_holm_is_over_all_cells_and_that_of_the_pooled_wer_over_the_rows(family_rendered):
    rows = [row for row in table(family_rendered, "table2").values() if row["p"]]
    keys = [(row, name) for row in rows for name in SETS]
    relied_on = [float(row[f"p_exact_{name}"] or row[f"p_{name}"]) for row, name in keys]
    assert len(keys) == 30
    assert [float(row[f"p_holm_{name}"]) for row, name in keys] == pytest.approx(holm(relied_on), abs=1e-4)
    pooled = [float(row["p_exact"] or row["p"]) for row in rows]
    assert [float(row["p_holm"]) for row in rows] == pytest.approx(holm(pooled), abs=1e-4)
    assert "corrected for all 30 cells of the table" in (family_rendered / "tables/table2.md").read_text()


def test_table_3_sets_ours_beside_the_competitors_and_says_what_is_like_for_like(family_rendered, tmp_path):
    rows = methods(family_rendered)
    assert [*rows][:2] == ["DistilHuBERT", "3-Layer One"] and [*rows][-2:] == ["F_12^3-HuBERT", "six layers"]
    frozen = {name for name, row in rows.items() if row["protocol"].startswith("SUPERB")}
    assert frozen == {*rows} - {name for name in rows if name.startswith("F_12")} - {"six layers"} and len(frozen) == 7
    ours, printed = rows["F_12^3-W2V2"], rows["F_12^2-W2V2"]
    assert (ours["system"], ours["depth_range"], ours["supported_depths"]) == ("fw3", "3~12", "10")
    assert (ours["models_in_memory"], ours["protocol"]) == ("3-layer model", "full fine-tuning")
    assert (ours["published_wer"], ours["published_params_millions"]) == ("8.15", "30.61")
    assert (printed["depth_range"], printed["train_hours"], printed["wer"]) == ("2~12", "100", "")
    assert (rows["six layers"]["depth_range"], rows["six layers"]["published_wer"]) == ("6~12", "")
    assert ours["set"] == "test_clean"
    counts = align(*transcripts(family_rendered, ours, "test_clean")).counts
    assert float(ours["wer"]) == pytest.approx(counts.wer, abs=1e-5) and int(ours["ref_words"]) == counts.ref_words
    test = mapsswe([tuple(align(*transcripts(family_rendered, r, "test_clean")) for r in (rows["six layers"], ours))])
    assert float(rows["six layers"]["p"]) == pytest.approx(test.p, abs=1e-6)
    text = (family_rendered / "tables/table3.md").read_text()
    for words in ("Like for like are our rows among each other", "encoder is frozen", "superscript 3 is meant"):
        assert words in text


def test_table_3_knows_the_hours_and_what_else_is_in_memory(with_family, tmp_path):
    folder = shutil.copytree(with_family, tmp_path / "tiny")
    write_json(folder / "data/made_up/corpus.json", {"sets": {"train": {"seconds": 5400.0}}})

    def change(experiment):
        experiment["systems"]["fw3"]["settings"]["teacher"] = {"system": "w12"}
        rows = {"DistilHuBERT": {"system": "fw3", "depth": 12}}
        experiment["tables"]["table3"] |= {"rows": rows, "reference": "DistilHuBERT", "sets": ["test_other", "dev"]}

    edit(folder, change)
    found = built(folder, "table3")
    row = found.rows[0]
    assert row["train_hours"] == (1.5, "1.5")
    assert row["models_in_memory"] == "3-layer model + teacher w12 (12 layers)"
    assert row["protocol"] == "ours: full fine-tuning; paper: SUPERB: frozen encoder"
    assert row["set"] == "test_other"  # the first of the table's sets
    assert "difference" not in {column.key for column in found.columns}  # nothing to compare it with


def test_families_are_named_where_they_are_shown_and_nowhere_else(family_rendered):
    systems = {
        "table2": "w12, w6, w3, fw6, fw3", "table3": "fw3, fw6", "costs": "w12, w6, w3, fw6, fw3", "sensitivity": "w12"
    }  # fmt: skip
    for name, members in systems.items():
        text = (family_rendered / "tables" / f"{name}.html").read_text()
        assert f"w2v2 systems ({members}): narrow models &lt;pre-trained&gt; here" in text, name
    for name in ("table1", "table4", "decodes"):
        assert "w2v2" not in (family_rendered / "tables" / f"{name}.html").read_text()
    assert "w2v2 systems (foundation, w12," in (family_rendered / "RESULTS.md").read_text()


def test_a_model_without_points_is_in_no_table_and_stops_nothing(family_rendered):
    assert "foundation" not in (family_rendered / "tables/points.csv").read_text()
    shown = content(Results(family_rendered))
    row = next(row for row in shown["systems"].table.rows if row["system"] == "foundation")
    assert (row["points"], row["depths"], row["parameters"][0]) == (0, "", None)
    assert "foundation" not in json.dumps([shown["viewer"]["points"], shown["data"]])


def test_a_row_or_a_curve_of_a_model_without_points(with_family, tmp_path):
    folder = shutil.copytree(with_family, tmp_path / "tiny")
    edit(folder, lambda e: e["figures"]["figure3"]["systems"].append("foundation"))
    assert "foundation" not in {headline.system for headline in headlines(Results(folder))}
    assert depth_curves(Results(folder), "figure3")["svg"]
    edit(folder, lambda e: e["tables"]["table2"]["rows"].update({"mine": {"system": "foundation", "depth": 12}}))
    with pytest.raises(UserError, match=r"rows.mine: system 'foundation' .* \(offered depths: none\)"):
        built(folder, "table2")


def test_decodes_that_a_family_has_not(family_rendered):
    with open(family_rendered / "tables/decodes.csv", newline="") as file:
        systems = {row["system"] for row in csv.DictReader(file)}
    assert "a12" in systems and not systems & {"w12", "w6", "fw3", "foundation"}


def test_each_family_is_held_against_its_own_tables_decode(with_family, tmp_path):
    """The first half's tables by another decode than the second half's: costs and points still find their WERs."""
    folder = shutil.copytree(with_family, tmp_path / "tiny")
    edit(folder, lambda e: e["decodes"].update({"slow": {}}) or e["families"]["w2v2"].update(decodes=["greedy"]))
    for name in ("a12", "a10", "a8", "a6", "a4", "f8", "f6", "f4", "d8", "j8"):
        home = folder / "systems" / name / "seed0" / "eval"
        (home / "greedy").rename(home / "slow")
        points = json.loads((home / "points.json").read_text())
        points["decodes"]["slow"] = points["decodes"].pop("greedy")
        write_json(home / "points.json", points)
    for kind, names in (("tables", ("table1", "table4")), ("figures", ("figure2",))):
        edit(folder, lambda e, kind=kind, names=names: [e[kind][name].update(decode="slow") for name in names])
    chart = json.loads(content(Results(folder))["data"])["cost"]
    assert {"a12", "w12", "fw3"} <= {point["system"] for point in chart["points"]}


def test_sensitivity_by_hand(family_rendered):
    with open(family_rendered / "tables/sensitivity.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["wer"]) for row in rows] == [errors / 2 for errors in SENSITIVITY]  # of 200 words
    assert {float(row["full_wer"]) for row in rows} == {5.0}
    assert [float(row["increase"]) for row in rows] == [errors / 2 - 5 for errors in SENSITIVITY]
    assert [int(row["layer"]) for row in sorted(rows, key=lambda row: int(row["rank"]))] == DROP_ORDER
    text = (family_rendered / "tables/sensitivity.md").read_text()
    assert "in the order 8, 7, 5, 4, 9, 2, 6, 11, 3, 10, 1, 12." in text and "identity-1" not in text


def test_no_figure_shows_sensitivity_then_there_is_no_table(with_family, tmp_path):
    folder = shutil.copytree(with_family, tmp_path / "tiny")
    edit(folder, lambda e: e["figures"]["figure3"].pop("sensitivity"))
    results = Results(folder)
    assert sensitivity_table(results).rows == []
    assert "Bars" not in figure_caption(results, "figure3")
    assert depth_curves(results, "figure3")["svg"].count(b'id="axes_') == 3


def test_figure_3_is_drawn_from_table_2_and_figure_2_stays_as_it_was(rendered, family_rendered):
    results = Results(family_rendered)
    titles = [figure_title(results.experiment, name) for name in ("figure2", "figure3")]
    assert titles == [f"Figure {n}: WER against executed depth" for n in (2, 3)]
    first, second = (published_panels(results, name) for name in ("figure2", "figure3"))
    assert [panel.title for panel in first] == ["Hub5'00, RT02 and RT03, pooled"]
    clean, other = second
    assert (clean.title, other.title) == ("test-clean", "test-other")
    fw6, fw3 = clean.curves
    assert [(d.depth, d.wer, d.trained) for d in fw3.depths] == [
        (12, 8.15, True), (9, 8.25, False), (6, 9.27, False), (3, 18.42, True)
    ]  # fmt: skip
    assert [d.wer for d in other.curves[0].depths] == [17.52, 18.52, 20.50, 21.66]
    assert [(d.depth, d.wer) for d in other.baseline.depths] == [(12, 13.88), (6, 23.49), (3, 45.55)]
    for suffix in ("svg", "pdf", "png"):
        before, after = ((folder / f"figures/figure2.{suffix}").read_bytes() for folder in (rendered, family_rendered))
        assert before == after
    drawn = [(family_rendered / f"figures/{name}.svg").read_text() for name in ("figure2", "figure3")]
    assert [svg.count('id="axes_') for svg in drawn] == [2, 4]
    text = (family_rendered / "RESULTS.md").read_text()
    assert "## Figure 3: WER against executed depth\n" in text
    assert "published WERs stand apart: test-clean, test-other. Bars: WER of w12 on dev with one layer left out" in text


def test_a_figure_of_another_name_says_so(with_family, tmp_path):
    folder = shutil.copytree(with_family, tmp_path / "tiny")
    edit(folder, lambda e: e["figures"].update(mine=e["figures"]["figure3"], other=e["figures"]["figure2"]))
    experiment = Results(folder).experiment
    assert figure_title(experiment, "mine") == "Figure 3: WER against executed depth (mine)"
    assert figure_title(experiment, "other") == "Figure 2: WER against executed depth (other)"


def change_sensitivity(change):
    def spoil(folder):
        path = folder / "systems/w12/seed0/sensitivity.json"
        value = json.loads(path.read_text())
        change(value)
        write_json(path, value)

    return spoil


def change_experiment(change):
    return lambda folder: edit(folder, change)


BAD = {
    "not measured": (
        lambda folder: (folder / "systems/w12/seed0/sensitivity.json").unlink(),
        ["w12/seed0/sensitivity.json: no such file", "'w12' has not been measured"],
    ),
    "a layer is missing": (
        change_sensitivity(lambda s: s["without"].pop(3)),
        ["sensitivity.json", "one entry for each of the layers 1 to 12"],
    ),
    "a layer is dropped twice": (
        change_sensitivity(lambda s: s["drop_order"].__setitem__(0, 12)),
        ["sensitivity.json", "drop_order", "1 to 12 once"],
    ),
    "no counts": (change_sensitivity(lambda s: s["full"].pop("sub")), ["sensitivity.json: full", "'sub'"]),
    "no words": (change_sensitivity(lambda s: s["full"].update(ref_words=0, sub=0)), ["full", "no word"]),
    "impossible counts": (change_sensitivity(lambda s: s["without"][2].update(ins=-1)), ["without.2", "negative"]),
    "other words": (change_sensitivity(lambda s: s["without"][2].update(ref_words=201)), ["same words"]),
    "unknown system": (
        change_experiment(lambda e: e["figures"]["figure3"].update(sensitivity="w13")),
        ["figures.figure3.sensitivity", "unknown system 'w13'"],
    ),
    "unknown table": (
        change_experiment(lambda e: e["figures"]["figure3"].update(table="tabel2")),
        ["figures.figure3.table", "unknown table 'tabel2'", "did you mean 'table2'"],
    ),
    "a table without depths": (
        change_experiment(lambda e: e["figures"]["figure3"].update(table="table3")),
        ["figures.figure3.table", "'table3' has no published WER by depth", "paper_table2"],
    ),
    "unknown family": (
        change_experiment(lambda e: e["systems"]["w12"].update(family="w2v3")),
        ["systems.w12.family", "unknown family 'w2v3'", "did you mean 'w2v2'"],
    ),
    "unknown set": (
        change_experiment(lambda e: e["tables"]["table2"].update(sets=["test_claen"])),
        ["tables.table2.sets", "unknown set 'test_claen'", "did you mean 'test_clean'"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_message(with_family, tmp_path, case):
    folder = shutil.copytree(with_family, tmp_path / "tiny")
    spoil, words = BAD[case]
    spoil(folder)
    with pytest.raises(UserError) as error:
        depth_curves(Results(folder), "figure3")
    for word in words:
        assert word in str(error.value), error.value


def test_a_set_that_was_not_decoded_is_named(with_family, tmp_path):
    folder = shutil.copytree(with_family, tmp_path / "tiny")
    path = folder / "systems/fw6/seed0/eval/points.json"
    points = json.loads(path.read_text())
    points["decodes"]["greedy"]["sets"].pop("test_other")
    write_json(path, points)
    with pytest.raises(UserError, match="system 'fw6' .* was not decoded by 'greedy' on 'test_other'"):
        built(folder, "table2")


def test_the_summary_prints_table_2_and_what_its_models_are(family_rendered):
    done = command("analysis.summary", "--experiment-folder", family_rendered)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("table2 of tiny")
    assert "table1 of tiny" in first and f"w2v2 systems: {FAMILY_TITLE}" in second and "w2v2" not in first
    cells = table(family_rendered, "table2")["S1"]
    wanted = ["S1", "fw6", "12", "0.16"]
    for name in SETS:
        wanted += [f"{float(cells[f'wer_{name}']):.2f}", *["*"] * int(cells[f"star_{name}"])]
    wanted += ["6.20", "17.52", "5.93", "16.82"]
    lines = [line.split() for line in second.splitlines()]
    assert wanted in lines
    paper = ["E1", "foldable", "12", "5.48", "*", "14.72", "5.41", "*", "14.34", "*"]
    assert paper in lines


def test_the_report_shows_the_second_half(family_rendered):
    page = report(family_rendered)
    assert page.count("<h3>Figure ") == 2 and page.count('data-chart="published"') == 3
    for words in ("Published: test-clean", "Published: test-other", "Sensitivity: WER with one layer left out"):
        assert words in page
    tables = content(Results(family_rendered))["tables"]
    beside = next(side.table for _, side in tables if side and "table2" in side.name)
    keys = [column.key for column in beside.columns if column.key.startswith("published")]
    ends = ("test_clean", "relative_test_clean", "test_other", "relative_test_other")
    assert keys == [f"published_{end}" for end in ends]  # ours has no dev-clean, the paper no test_noisy
    row = next(row for row in beside.rows if row["sys"] == "S1")
    assert row["published_relative_test_clean"] == (pytest.approx(100 * (6.20 / 5.41 - 1)), "+14.6")
    assert re.search(r"w2v2 systems \(w12, .*narrow models", " ".join(beside.notes))


def test_several_seeds_have_a_drop_order_each(tmp_path):
    folder = results_folder.add_family(results_folder.make(tmp_path / "tiny", seeds=(0, 1)), seeds=(0, 1))
    results = Results(folder)
    found = sensitivity_table(results)
    assert len(found.rows) == 24 and "w12 (seed 1), measured on dev" in found.notes[1]
    row = next(row for row in built(folder, "table2").rows if row["sys"] == "T1")
    rates = [results.counts(results.points("fw3", seed).points[-1], "greedy", ["test_other"]).wer for seed in (0, 1)]
    assert row["wer_test_other"][0] == pytest.approx(sum(rates) / 2)  # equal words in each seed
    assert row["seeds"] == 2 and row["star_test_other"][1] in ("0/2", "* 1/2", "* 2/2")


def test_a_sensitivity_file_says_when_a_layer_goes():
    found = Sensitivity.model_validate(results_folder.sensitivity())
    assert [found.rank(layer) for layer in (8, 7, 12)] == [1, 2, 12]
    assert found.without[11].counts.wer == 30.0
