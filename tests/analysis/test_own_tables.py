"""Tables of one's own, whose rows are compared with a row each, and what errors in weights did, by hand."""

import csv
import io
import json
import math
import re

import pytest

from analysis.inputs.results import Results
from analysis.tables.figures import draw_figure, figure_caption, figure_title
from analysis.tables.formats import to_csv
from analysis.tables.headline import headlines
from analysis.tables.markdown import escape_markdown
from analysis.tables.papers import build_table
from analysis.tables.weight_errors import repetition, weight_error_table
from analysis.verdicts.judge import judge_claims
from common.errors import UserError
from tests.analysis import results_folder
from tests.workflows.commands import ROOT, command

OWN = {
    "kind": "systems",
    "title": "Six layers | and eight",
    "decode": "greedy",
    "rows": {
        "six": {"system": "f6", "depth": 6},
        "six, deep": {"system": "f6", "depth": 12, "reference": "six"},
        "eight": {"system": "f8", "depth": 8},
        "eight, deep": {"system": "f8", "depth": 12, "reference": "eight"},
    },
}
FIGURE = {"kind": "weight_errors", "systems": ["f6", "a12"]}


def changed(folder, change):
    path = folder / "experiment.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return Results(folder)


@pytest.fixture
def own(tmp_path):
    folder = results_folder.make(tmp_path / "tiny")
    return changed(folder, lambda content: content["tables"].update(own=OWN))


def built(results, name="own"):
    table = build_table(results, name, results.experiment.tables[name])
    return table, {row["row"]: row for row in csv.DictReader(io.StringIO(to_csv(table)))}


def test_each_row_is_compared_with_the_row_that_it_names(own):
    table, rows = built(own)
    assert table.title == "Six layers | and eight (tiny, own)" and not table.pairs
    assert [row["against"] for row in rows.values()] == ["", "six", "", "eight"]
    for name, other in (("six, deep", "six"), ("eight, deep", "eight")):
        expected = float(rows[name]["wer"]) - float(rows[other]["wer"])
        assert float(rows[name]["difference"]) == pytest.approx(expected, abs=1e-5)
        assert float(rows[name]["difference_low"]) < expected < float(rows[name]["difference_high"])
        assert rows[name]["p"] and not rows[other]["p"] and not rows[other]["difference"]
    assert any("row named under 'against'" in note for note in table.notes)
    assert not any("paper's numbers" in note for note in table.notes)


def test_the_same_pair_says_the_same_in_any_table(own):
    """f6 at 12 against itself at 6, as Table 1 with that reference has it."""
    results = changed(own.folder, lambda content: content["tables"]["table1"].update(reference="S4"))
    paper = build_table(results, "table1", results.experiment.tables["table1"])
    theirs = {row["sys"]: row for row in csv.DictReader(io.StringIO(to_csv(paper)))}["S1"]
    ours = built(own)[1]["six, deep"]
    for key in ("wer", "wer_low", "wer_high", "difference", "difference_low", "difference_high", "p", "z", "segments"):
        assert ours[key] == theirs[key] != ""


def test_rows_without_one_of_their_own_have_the_tables_reference(own):
    results = changed(own.folder, lambda content: content["tables"]["own"].update(reference="six"))
    _, rows = built(results)
    assert [row["against"] for row in rows.values()] == ["", "six", "six", "eight"]


def test_a_reference_that_is_no_row_is_named_with_its_place(own):
    results = changed(own.folder, lambda c: c["tables"]["own"]["rows"]["eight, deep"].update(reference="eigth"))
    with pytest.raises(UserError, match=r"tables\.own\.rows\.eight, deep\.reference: unknown row 'eigth'"):
        _ = results.experiment


def test_claims_count_words_whatever_table_comes_first(own):
    def first(content):
        content["tables"] = {"own": content["tables"]["own"], **content["tables"]}

    results = changed(own.folder, first)
    assert judge_claims(results).test_words == int(built(results)[1]["six"]["ref_words"])


def effect(error="none", bits=None, executions="same", draw=0, divergence=0.0, errors=10):
    counts = {"sub": errors, "del": 0, "ins": 0, "ref_words": 100}
    about = {"error": error, "bits": bits, "executions": executions, "draw": draw}
    return {**about, "divergence": divergence, "ctc_loss": 0.5 + divergence, "ctc_rise": divergence, **counts}


def write_errors(folder, system, depth, same, each=(), seed=0):
    noise = [effect("noise", 4, "same", n, value, 12) for n, value in enumerate(same)]
    noise += [effect("noise", 4, "each", n, value, 11) for n, value in enumerate(each)]
    rounding = [effect("rounding", bits, divergence=10.0**-bits, errors=20 - bits) for bits in (8, 4, 3, 2)]
    path = [2] * 6 if depth == 12 and system == "f6" else [1] * depth
    point = {"id": "x", "path": path, "depth": depth, "without": effect(), "errors": noise + rounding}
    about = {"schema": 1, "system": system, "seed": seed, "set": "dev", "draws": len(same), "noise_bits": 4}
    file = folder / "systems" / system / f"seed{seed}" / "weight_errors.json"
    file.write_text(json.dumps({**about, "points": [point]}))


@pytest.fixture
def errors(tmp_path):
    folder = results_folder.make(tmp_path / "tiny")
    write_errors(folder, "f6", 12, (2e-4, 8e-4), (1e-4, 2e-4))
    write_errors(folder, "a12", 12, (2e-4, 3e-4))
    return changed(folder, lambda content: content["figures"].update(errors=FIGURE))


def test_how_much_more_the_same_noise_weighs(errors):
    """Ratios of 2 and 4: the geometric mean is 2.83, and t with one degree of freedom at 97.5 % is 12.706."""
    mean = (math.log(2) + math.log(4)) / 2
    half = 12.7062 * (math.log(4) - math.log(2)) / 2
    said = repetition(errors, "f6")
    assert f"{math.exp(mean):.2f} times as far (KL)" in said and "over 2 draws, one training" in said
    assert f"{math.exp(mean - half):.2f} to {math.exp(mean + half):.2f}" in said
    assert repetition(errors, "a12") is None, "nothing is repeated"
    assert said in figure_caption(errors, "errors") and said in weight_error_table(errors).notes
    assert figure_title(errors.experiment, "errors") == "Errors in the weights of a folded layer (errors)"


def test_with_several_seeds_it_is_over_trainings(tmp_path):
    folder = results_folder.make(tmp_path / "tiny", seeds=(0, 1))
    for seed, same in ((0, (2e-4, 2e-4)), (1, (8e-4, 8e-4))):
        write_errors(folder, "f6", 12, same, (1e-4, 1e-4), seed)
        write_errors(folder, "a12", 12, same, (), seed)
    results = changed(folder, lambda content: content["figures"].update(errors=FIGURE))
    assert "4.00 times as far (KL)" in repetition(results, "f6") and "over 2 seeds" in repetition(results, "f6")
    rows = list(csv.DictReader(io.StringIO(to_csv(weight_error_table(results)))))
    assert [row["draws"] for row in rows if row["error"] == "noise"] == ["4", "4", "4"]


def test_the_table_has_means_and_extremes(errors):
    rows = list(csv.DictReader(io.StringIO(to_csv(weight_error_table(errors)))))
    same = next(row for row in rows if (row["system"], row["error"], row["executions"]) == ("f6", "noise", "same"))
    assert float(same["divergence"]) == pytest.approx(5e-4)
    assert [float(same[f"divergence_{end}"]) for end in ("low", "high")] == pytest.approx([2e-4, 8e-4])
    assert float(same["wer"]) == 12 and same["draws"] == "2"
    once = [row for row in rows if row["system"] == "a12" and row["error"] == "noise"]
    assert [row["executions"] for row in once] == ["each runs once"]


def test_the_figure_is_drawn_and_equal_results_give_equal_bytes(errors):
    first, second = draw_figure(errors, "errors"), draw_figure(errors, "errors")
    assert first == second and first["png"].startswith(b"\x89PNG") and b"<svg" in first["svg"]


def test_a_figure_of_an_unknown_kind_is_named(errors):
    results = changed(errors.folder, lambda content: content["figures"]["errors"].update(kind="errors"))
    with pytest.raises(UserError, match=r"figures\.errors\.kind: unknown kind 'errors'"):
        draw_figure(results, "errors")


def test_what_was_not_measured_is_named(errors):
    (errors.folder / "systems/a12/seed0/weight_errors.json").unlink()
    with pytest.raises(UserError, match=r"a12/seed0/weight_errors\.json: no such file"):
        weight_error_table(Results(errors.folder))


def test_titles_are_escaped():
    assert escape_markdown(OWN["title"]) == r"Six layers \| and eight"


def test_the_answer_is_about_depths_that_were_decoded(own):
    """Of some systems only the points of rows are decoded: the answer is about those, and there is none for fewer than
    two."""
    path = own.folder / "systems/f6/seed0/eval/points.json"
    content = json.loads(path.read_text())
    by_depth = {point["id"]: point["depth"] for point in content["points"]}

    def keep(*depths):
        for found in content["decodes"]["greedy"]["sets"].values():
            found["points"] = [point for point in by_depth if by_depth[point] in depths]
        path.write_text(json.dumps(content))
        only = {"figures": {}, "headline": "f6", "tables": {}}
        results = changed(own.folder, lambda experiment: experiment.update(only))
        return [answer for answer in headlines(results) if answer.system == "f6"]

    (answer,) = keep(6, 12)
    assert (answer.seed_depth, answer.deepest_depth) == (6, 12)
    assert keep(6) == []


def test_a_point_with_settings_has_a_name_and_is_not_meant_by_its_depth(own):
    path = own.folder / "systems/a12/seed0/eval/points.json"
    content = json.loads(path.read_text())
    content["points"][0] |= {"settings": {"width": 0.5, "bits": 2}, "label": "half of 12 layers"}
    path.write_text(json.dumps(content))
    name = content["points"][0]["id"]
    rows = {"six": {"system": "f6", "depth": 6}, "half": {"system": "a12", "point": name, "reference": "six"}}
    results = changed(own.folder, lambda content: content["tables"]["own"].update(rows=rows))
    _, found = built(results)
    assert (found["half"]["path"], found["half"]["depth"], found["half"]["against"]) == (
        "half of 12 layers",
        "12",
        "six",
    )
    assert results.points("a12", 0).depths == []
    results = changed(own.folder, lambda content: content["tables"]["own"]["rows"]["half"].update(point=None, depth=12))
    with pytest.raises(UserError, match=r"system 'a12' \(seed 0\) has no point of depth 12 \(offered depths: none\)"):
        built(results)


def printed_tables(*asked):
    """The tables of the reference run that the summary prints, with their first columns."""
    done = command("analysis.summary", "--experiment-folder", ROOT / "results/reference/smoke", *asked)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\w+) of smoke, .*\n((?:.*\n)*?)\* no significant", done.stdout, re.MULTILINE)
    return {name: rows.splitlines() for name, rows in found}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ([], ["table1", "table2"]),
        (["--only", "all"], ["table1", "table2"]),
        (["--only", "sisters"], ["usmlite", "gates", "allinone", "combined", "baselines"]),
        (["--only", "bits, figure2"], ["bits"]),
        (["--only", "table3", "--systems", "a8"], ["table1", "table4", "table3", "allinone"]),
        (["--only", "figure2"], []),
    ],
)
def test_the_summary_prints_the_tables_that_were_asked_for(asked, names):
    found = printed_tables(*asked)
    assert sorted(found) == sorted(names)
    for name, lines in found.items():
        with open(ROOT / f"results/reference/smoke/tables/{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(lines) == len(rows) + 1
        first = next(iter(rows[0]))
        for line, row in zip(lines[1:], rows, strict=True):
            assert line.split()[: len(row[first].split())] == row[first].split()
