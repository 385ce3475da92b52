"""The real command on a results folder: what it writes is right, repeatable and safe; bad input gets one message."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from analysis import render
from analysis.inputs.results import Results
from analysis.tables.costs import cost_table
from common.errors import run
from tests.analysis import results_folder
from tests.analysis.conftest import command, one_clear_error, table_widths

FILES = {
    *(
        f"tables/{name}.{suffix}"
        for name in ("table1", "table4", "costs", "decodes")
        for suffix in ("csv", "md", "tex")
    ),
    *(f"tables/{name}.html" for name in ("table1", "table4", "costs", "decodes")),
    *(f"figures/figure2.{suffix}" for suffix in ("svg", "pdf", "png")),
    *(f"figures/cost_against_wer.{suffix}" for suffix in ("svg", "pdf")),
    "tables/points.csv",
    "claims.json",
    "claims.csv",
    "RESULTS.md",
}


def table(folder, name: str) -> dict[str, dict[str, str]]:
    with open(folder / "tables" / f"{name}.csv", newline="") as file:
        return {row["sys"]: row for row in csv.DictReader(file)}


def written(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def both_test_sets(folder, tmp_path, system: str, path: str):
    """The two test sets of one point as one pair of files, put together without our own code."""
    points = json.loads((folder / f"systems/{system}/seed0/eval/points.json").read_text())["points"]
    name = next(point["id"] for point in points if point["label"] == path)
    files = {"ref": [], "hyp": []}
    for test_set in ("test_clean", "test_noisy"):
        files["ref"].append((folder / f"data/made_up/{test_set}.trn").read_text())
        files["hyp"].append((folder / f"systems/{system}/seed0/eval/greedy/{test_set}/{name}.trn").read_text())
    for side, texts in files.items():
        (tmp_path / f"{system}{name}.{side}").write_text("".join(texts))
    return tmp_path / f"{system}{name}.ref", tmp_path / f"{system}{name}.hyp"


def test_rows_stand_in_the_papers_order_with_the_published_numbers(rendered):
    first, fourth = table(rendered, "table1"), table(rendered, "table4")
    assert [*first] == ["1", "2", "3", "4", "5", "E1", "E2", "E3", "S1", "S2", "S3", "S4", "F1", "F2", "F3", "F4", "F5"]
    assert [*fourth] == ["0", "1", "2", "3", "4", "5", "E0", "E1", "K0", "K1"]
    assert (first["S1"]["published_wer"], first["S1"]["published_params_millions"]) == ("12.64", "28.8")
    assert (first["F5"]["physical_layers"], first["F5"]["depth"], first["F5"]["params_millions"]) == ("4", "4", "0.14")
    assert fourth["5"]["published_relative_increase_pct"] == "+111.7"
    assert fourth["1"]["path"] == "1 1 1 1 1 1 1 1 0 0 0 0"


@pytest.mark.parametrize("row", ["5", "S2", "F5"])
def test_a_row_is_what_the_single_commands_say(rendered, tmp_path, row):
    cells = table(rendered, "table1")
    ref, hyp = both_test_sets(rendered, tmp_path, cells[row]["system"], cells[row]["path"])
    _, base = both_test_sets(rendered, tmp_path, "a12", cells["1"]["path"])
    counted = json.loads(command("analysis.wer", ref, hyp, "--json").stdout)
    assert {key: int(cells[row][key]) for key in ("sub", "del", "ins", "ref_words")} == {
        key: counted[key] for key in ("sub", "del", "ins", "ref_words")
    }
    assert float(cells[row]["wer"]) == pytest.approx(counted["wer"], abs=1e-6)
    test = json.loads(command("analysis.mapsswe", ref, hyp, base, "--json").stdout)
    assert int(cells[row]["segments"]) == test["segments"]
    assert float(cells[row]["p"]) == pytest.approx(test["p"], abs=1e-6)
    assert test["segments"] >= 30 and cells[row]["p_exact"] == ""  # else another test would decide on the star
    assert cells[row]["star"] == str(int(not (test["significant"] and test["mean"] > 0)))


def test_pooled_counts_make_the_average_and_the_relative_increase(rendered):
    rows = table(rendered, "table4")
    for row in rows.values():
        errors = int(row["sub"]) + int(row["del"]) + int(row["ins"])
        assert float(row["wer"]) == pytest.approx(100 * errors / int(row["ref_words"]), abs=1e-5)
        increase = 100 * (float(row["wer"]) / float(rows["0"]["wer"]) - 1)
        assert float(row["relative_increase_pct"]) == pytest.approx(increase, abs=1e-3)


def test_the_reference_row_is_compared_with_nothing(rendered):
    assert [table(rendered, "table1")["1"][key] for key in ("star", "p", "difference")] == ["", "", ""]


def test_a_middle_depth_names_its_path_and_the_one_chosen_on_dev(rendered):
    row = table(rendered, "table1")["S3"]
    assert row["paths"] == "15"
    for key in ("path", "dev_path"):
        assert sum(map(int, row[key].split())) == 8
    points = list(csv.DictReader((rendered / "tables" / "points.csv").open()))
    on_dev = [p for p in points if p["system"] == "f6" and p["path"] == row["dev_path"] and p["set"].startswith("test")]
    errors = sum(int(p[key]) for p in on_dev for key in ("sub", "del", "ins"))
    assert float(row["dev_wer"]) == pytest.approx(100 * errors / sum(int(p["ref_words"]) for p in on_dev), abs=1e-5)


def test_results_md_holds_everything(rendered):
    text = (rendered / "RESULTS.md").read_text()
    for expected in (
        "not evidence",
        "f6: depth 12",
        "95 % interval",
        "MAPSSWE p",
        "figures/figure2.svg",
        "train_f6 | 1 | 61.5",
    ):
        assert expected in text
    assert "| S3 | f6 | 6 | 8 |" in text and "12.64\\*" in text  # ours, and the published star
    assert "L_P^2; L_P^12 is meant" in text  # the paper's slips are noted
    assert "| beam | 0.00 | greedy |" in text


def test_results_md_comes_in_the_order_of_the_report(family_rendered):
    text = (family_rendered / "RESULTS.md").read_text()
    wanted = ["Is deeper better?", "Figure 2", "Figure 3", "Cost against WER", "Table 1", "Table 4", "Costs", "Claims"]
    places = [text.index(f"\n## {heading}") for heading in [*wanted, "How it was run"]]
    assert places == sorted(places) and text.index("not evidence") < places[0]
    last = text[places[-1] :]
    assert "made up" in last and "### Time and memory" in last and "### Provenance" in last


def test_markdown_has_ten_columns_and_links_the_rest(family_rendered):
    text = (family_rendered / "RESULTS.md").read_text()
    widths = table_widths(text)
    for path in (family_rendered / "tables").iterdir():
        widths += table_widths(path.read_text()) if path.suffix in (".md", ".tex") else []
    assert len(widths) > 20 and max(widths) == 10
    assert all((family_rendered / link).is_file() for link in re.findall(r"\]\(([^)\s]+)\)", text))
    cut = text.partition("\n## Table 2")[2].partition("\n## ")[0]
    assert "All columns: [CSV](tables/table2.csv), [HTML](tables/table2.html)" in cut
    row = next(line for line in cut.splitlines() if line.startswith("| Sys. "))
    for heading in ("physical layers", "test_clean WER %", "pooled minus Sys. 1", "paper: test-clean WER %"):
        assert f" {heading}" in row


def test_a_system_that_only_its_label_names_keeps_it_where_there_is_no_room(folder):
    for path in folder.glob("systems/a4/seed0/eval/points.json"):
        points = json.loads(path.read_text())
        points["points"][0] |= {"depth": None, "path": None, "label": "width 64"}
        results_folder.write_json(path, points)
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["tables"] = {"table1": experiment["tables"]["table1"]}
    experiment["tables"]["table1"]["rows"] = {"5": {"system": "a4", "point": "d04_00"}}
    experiment["tables"]["table1"]["reference"] = "5"
    results_folder.write_json(folder / "experiment.json", experiment | {"figures": {}})
    shown = cost_table(Results(folder)).texts(wide=False)
    assert len(shown) == 1 and shown[0][:3] == ["a4", "–", "width 64"] and len(shown[0]) == 10


def test_figures_of_costs_keep_families_apart(rendered, family_rendered):
    drawn = [(folder / "figures/cost_against_wer.svg").read_text() for folder in (rendered, family_rendered)]
    assert [svg.count('id="axes_') for svg in drawn] == [2, 4]  # two panels a family


def test_equal_results_give_equal_bytes(rendered, tmp_path):
    again = shutil.copytree(rendered, tmp_path / "tiny")
    for name in FILES:
        (again / name).unlink()
    assert command("analysis.render", "--experiment-folder", again).returncode == 0
    assert written(again) == written(rendered)
    svg, pdf = (again / "figures/figure2.svg").read_text(), (again / "figures/figure2.pdf").read_bytes()
    assert "<dc:date>" not in svg and b"CreationDate" not in pdf


def test_several_seeds_are_averaged_as_their_points_say(tmp_path):
    folder = results_folder.make(tmp_path / "tiny", seeds=(0, 1))
    assert command("analysis.render", "--experiment-folder", folder).returncode == 0
    row = table(folder, "table1")["S1"]
    points = [
        p
        for p in csv.DictReader((folder / "tables/points.csv").open())
        if (p["system"], p["path"], p["decode"]) == ("f6", "2 2 2 2 2 2", "greedy") and p["set"] != "dev"
    ]
    rates = []
    for seed in "01":
        mine = [p for p in points if p["seed"] == seed]
        errors = sum(int(p[key]) for p in mine for key in ("sub", "del", "ins"))
        rates.append(100 * errors / sum(int(p["ref_words"]) for p in mine))
    assert row["seeds"] == "2" and [float(rate) for rate in row["wer_by_seed"].split(";")] == pytest.approx(
        rates, rel=1e-5
    )
    assert float(row["wer"]) == pytest.approx(sum(rates) / 2, abs=1e-5)
    text = (folder / "RESULTS.md").read_text()
    assert "2 seeds: a WER is the mean over them" in text and "±" not in text.replace("mean ± standard deviation", "")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)


def test_names_and_words_cannot_become_markup(tmp_path):
    folder = results_folder.make(tmp_path / "tiny", word="<img{}>&$x_y")
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["name"] = experiment["title"] = r"<script>alert(1)</script> $x^2$ \input{secret} [a](b) | **b** %"
    experiment["tables"]["table1"]["rows"]["<b>&_\\#"] = {"system": "a4", "depth": 4}
    results_folder.write_json(folder / "experiment.json", experiment)
    done = command("analysis.render", "--experiment-folder", folder)
    assert done.returncode == 0, done.stderr
    tags = Tags()
    tags.feed((folder / "tables/table1.html").read_text())
    assert not tags.seen & {"script", "b", "img"}
    latex = (folder / "tables/table1.tex").read_text()
    assert r"\textbackslash{}input\{secret\}" in latex and not re.search(r"(?<!\\)[$#]|(?<!\\)\\input", latex)
    assert r"\textless{}b\textgreater{}\&\_\textbackslash{}\#" in latex
    for name in ("RESULTS.md", "tables/table1.md"):
        markdown = (folder / name).read_text()
        assert not re.search(r"(?<!\\)<(script|b)>", markdown)
        assert r"\[a\](b) \| \*\*b\*\*" in markdown


def remove(path):
    def spoil(folder):
        (folder / path).unlink()

    return spoil


def overwrite(path, text):
    def spoil(folder):
        (folder / path).write_text(text)

    return spoil


def change(path, edit):
    def spoil(folder):
        content = json.loads((folder / path).read_text())
        edit(content)
        results_folder.write_json(folder / path, content)

    return spoil


EVAL = "systems/f6/seed0/eval"
BAD = {
    "no experiment": (remove("experiment.json"), ["experiment.json", "no such file"]),
    "not JSON": (overwrite("experiment.json", "{"), ["experiment.json", "not a JSON file"]),
    "key missing": (change("experiment.json", lambda e: e.pop("test_sets")), ["experiment.json", "test_sets"]),
    "unknown system": (
        change("experiment.json", lambda e: e["tables"]["table1"]["rows"]["S1"].update(system="f66")),
        ["experiment.json: tables.table1.rows.S1", "unknown system 'f66'", "did you mean 'f6'"],
    ),
    "unknown reference": (
        change("experiment.json", lambda e: e["tables"]["table1"].update(reference="E9")),
        ["tables.table1.reference", "unknown row 'E9'"],
    ),
    "unknown kind": (
        change("experiment.json", lambda e: e["tables"]["table1"].update(kind="table11")),
        ["tables.table1.kind", "'table11'", "did you mean 'table1'"],
    ),
    "unknown published table": (
        change("experiment.json", lambda e: e["tables"]["table1"].update(published="paper_table9")),
        ["unknown published table 'paper_table9'"],
    ),
    "no such depth": (
        change("experiment.json", lambda e: e["tables"]["table1"]["rows"]["S1"].update(depth=13)),
        ["tables.table1.rows.S1", "no point of depth 13", "offered depths: 6, 7, 8"],
    ),
    "not evaluated": (remove(f"{EVAL}/points.json"), ["points.json", "'f6'", "has not been evaluated"]),
    "no transcript": (remove(f"{EVAL}/greedy/test_clean/d06_00.trn"), ["greedy/test_clean/d06_00.trn", "no such file"]),
    "other utterances": (
        overwrite(f"{EVAL}/greedy/test_clean/d06_00.trn", "a (x-1)\n"),
        ["d06_00.trn", "40 only in the reference (spk0-test_clean-000", "1 only in the hypothesis (x-1)"],
    ),
    "not decoded": (
        change(f"{EVAL}/points.json", lambda p: p["decodes"]["greedy"]["sets"].pop("test_noisy")),
        ["points.json", "'f6'", "not decoded by 'greedy' on 'test_noisy'"],
    ),
    "bad costs": (
        overwrite("systems/f6/seed0/measured/costs.json", '{"points": {}}'),
        ["costs.json", "device"],
    ),
    "bad benchmark": (overwrite("benchmarks/train_f6.tsv", "x\ty\n1\t2\n"), ["train_f6.tsv", "benchmark file"]),
    "no words": (
        overwrite("data/made_up/test_noisy.trn", "".join(f" (spk{n % 12}-test_noisy-{n:03d})\n" for n in range(40))),
        ["test_noisy.trn", "holds no word"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_message_and_leaves_earlier_results(rendered, tmp_path, case, monkeypatch, capsys):
    """The command's own entry, in this process: an exception that is not a `UserError` would come through."""
    folder = shutil.copytree(rendered, tmp_path / "tiny")
    spoil, words = BAD[case]
    spoil(folder)
    monkeypatch.setattr("sys.argv", ["render", "--experiment-folder", str(folder)])
    assert run(render.main) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    for word in words:
        assert word in message, message
    assert written(folder) == written(rendered)


def test_without_costs_a_table_says_so(folder):
    shutil.rmtree(folder / "systems/f6/seed0/measured")
    assert command("analysis.render", "--experiment-folder", folder).returncode == 0
    assert "| S1 | f6 | 6 | 12 | not measured |" in (folder / "RESULTS.md").read_text()


def test_an_experiment_without_tables_lists_its_points(folder):
    experiment = json.loads((folder / "experiment.json").read_text())
    results_folder.write_json(folder / "experiment.json", {**experiment, "tables": {}, "figures": {}})
    assert command("analysis.render", "--experiment-folder", folder).returncode == 0
    text = (folder / "RESULTS.md").read_text()
    assert "| f6 | 0 | d06_00 |" in text and max(table_widths(text)) <= 10


def test_the_headline_command_says_what_results_md_says(rendered):
    done = command("analysis.headline", "--experiment-folder", rendered)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["f8", "f6", "f4"]
    text = (rendered / "RESULTS.md").read_text()
    assert all(f"- {line}" in text for line in lines)


def test_the_summary_prints_answers_and_the_main_table(rendered):
    done = command("analysis.summary", "--experiment-folder", rendered)
    assert done.returncode == 0, done.stderr
    row = table(rendered, "table1")["S1"]
    cells = ["S1", "f6", "12", "0.16", f"{float(row['wer']):.2f}", *["*"] * int(row["star"]), "28.8", "12.64", "*"]
    assert cells in [line.split() for line in done.stdout.splitlines()]
    assert "f6: depth 12" in done.stdout and str(rendered / "RESULTS.md") in done.stdout
    one_clear_error(command("analysis.summary", "--experiment-folder", rendered / "no"), "experiment.json")


def test_latex_rows_have_as_many_cells_as_columns(rendered):
    for name in ("table1", "table4", "costs", "decodes"):
        latex = (rendered / "tables" / f"{name}.tex").read_text()
        columns = len(re.search(r"\\begin{tabular}{(\w+)}", latex)[1])
        rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
        assert rows and all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows)
        assert len(re.findall(r"(?<!\\){", latex)) == len(re.findall(r"(?<!\\)}", latex))


def test_a_mistyped_option_is_not_a_traceback(rendered):
    assert command("analysis.render").returncode == 2
    one_clear_error(
        command("analysis.render", "--experiment-folder", rendered / "no"), "experiment.json", "no such file"
    )
