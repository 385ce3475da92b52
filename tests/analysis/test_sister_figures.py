"""Bytes against WER by method, the zeros of each matrix, and what tables of one's own say of them, by hand."""

import csv
import io
import json
import re
import shutil

import pytest

from analysis.inputs.results import Results
from analysis.inputs.schemas import Point, PointCosts
from analysis.report import report
from analysis.tables.cost_figure import cost_figure
from analysis.tables.cost_points import CostPoint
from analysis.tables.figures import draw_figure, figure_caption, figure_title
from analysis.tables.formats import to_csv, to_markdown
from analysis.tables.matrix_sparsity import grid_of
from analysis.tables.papers import build_table
from analysis.tables.pareto import front, made_by, shown_points
from analysis.tables.rows import measure
from common.errors import UserError
from tests.analysis import claims_folder
from tests.analysis.claims_cases import each

ROWS = {"table1.1": each(5), "mine.pruned": each(6), "mine.packed": each(6)}
PRUNED = claims_folder.system("mine.pruned")
MATRICES = [
    {"name": "encoder.encoders.0.attn.query", "layer": 1, "weights": 100, "nonzero": 90},
    {"name": "encoder.encoders.0.ffn.w_1", "layer": 1, "weights": 300, "nonzero": 30},
    {"name": "encoder.encoders.1.attn.query", "layer": 2, "weights": 100, "nonzero": 50},
    {"name": "encoder.encoders.1.ffn.w_1", "layer": 2, "weights": 300, "nonzero": 150},
]


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    sizes = {row: {"stored_bytes": size} for row, size in zip(ROWS, (4000, 1500, 900), strict=True)}
    found = claims_folder.make(tmp_path / "made", {r: [[e]] for r, e in ROWS.items()}, dict.fromkeys(ROWS, 1000), sizes)
    for row, matrices in (("mine.pruned", MATRICES), ("mine.packed", [{**m, "nonzero": 80} for m in MATRICES])):
        path = found / "systems" / claims_folder.system(row) / "seed0/measured/costs.json"
        edited(path, lambda content, matrices=matrices: content.update(matrices=matrices, encoder_parameters=1000))

    def named(content):
        first, pruned, packed = content["systems"]
        content["systems"][first] = {"method": "methods.unfolding"}
        content["systems"][pruned] = {"method": "baselines.magnitude", "settings": {"source": {"system": first}}}
        content["systems"][packed] = {"method": "methods.usmlite", "settings": {"source": {"system": pruned}}}
        content["figures"] = {
            "pareto": {"kind": "pareto"},
            "of_one": {"kind": "pareto", "systems": [packed]},
            "zeros": {"kind": "matrix_sparsity", "systems": [pruned, packed]},
        }
        content["parts"] = {"sisters": ["mine", "zeros"]}

    edited(found / "experiment.json", named)
    return found


def test_a_system_is_called_by_the_methods_that_made_it(folder):
    experiment = Results(folder).experiment
    names = [made_by(experiment, claims_folder.system(row)) for row in ROWS]
    assert names == ["unfolding", "unfolding + magnitude", "unfolding + magnitude + usmlite"]


def test_a_source_that_is_not_shown_ends_the_chain(folder):
    edited(folder / "experiment.json", lambda content: content["systems"].pop(claims_folder.system("table1.1")))
    edited(folder / "experiment.json", lambda content: content["tables"].pop("table1"))
    assert made_by(Results(folder).experiment, PRUNED) == "magnitude"


def cost_point(size, wer):
    point = Point(id="x", offered=True, trained=True, system="x", seed=0)
    counts = dict.fromkeys(("parameters_stored", "parameters_nonzero", "parameters_executed", "macs"), 1)
    costs = PointCosts(**counts, stored_bytes=size, real_time_factor={"median": 0.1}, peak_memory_bytes=1)
    return CostPoint(point=point, family=None, wer=wer, costs=costs, audio_seconds=1.0, in_table=True)


def test_the_front_are_the_points_that_none_beats_in_both():
    points = [cost_point(*each) for each in ((3, 5.0), (1, 9.0), (2, 9.0), (2, 7.0), (4, 5.0), (5, 4.0), (5, 6.0))]
    assert [(point.costs.stored_bytes, point.wer) for point in front(points)] == [
        (1, 9.0),
        (2, 7.0),
        (3, 5.0),
        (5, 4.0),
    ]
    assert front([]) == []


def test_everything_in_the_run_is_shown_or_the_systems_that_are_named(folder):
    results = Results(folder)
    assert {point.system for point in shown_points(results, "pareto")} == {claims_folder.system(row) for row in ROWS}
    assert [point.system for point in shown_points(results, "of_one")] == [claims_folder.system("mine.packed")]


def test_a_table_of_another_decode_does_not_change_what_a_point_is_shown_with(folder):
    """As the beam search of some systems does, on fewer utterances: their WERs would stand beside greedy ones."""
    before = {point.system: point.wer for point in shown_points(Results(folder), "pareto")}
    home = folder / "systems" / PRUNED / "seed0/eval"
    shutil.copytree(home / "greedy", home / "beam")
    for heard in (home / "beam").glob("*/*.trn"):
        heard.write_text(re.sub(r"\bx\b", "w0", heard.read_text(), count=3))
    edited(home / "points.json", lambda content: content["decodes"].update(beam=content["decodes"]["greedy"]))

    def beside(content):
        content["decodes"]["beam"] = {}
        rows = {"pruned": content["tables"]["mine"]["rows"]["pruned"]}
        content["tables"]["searched"] = {
            **content["tables"]["mine"],
            "decode": "beam",
            "reference": "pruned",
            "rows": rows,
        }

    edited(folder / "experiment.json", beside)
    results = Results(folder)
    searched = measure(results, "searched", results.experiment.tables["searched"])["pruned"]
    assert searched.wer() != before[PRUNED]
    assert {point.system: point.wer for point in shown_points(results, "pareto")} == before


def test_costs_against_wer_leave_parts_to_the_figure_by_method(folder):
    with_part = cost_figure(Results(folder))["svg"]
    edited(folder / "experiment.json", lambda content: content["tables"].pop("mine"))
    edited(folder / "experiment.json", lambda content: content.update(parts={}, figures={}))
    for row in ("mine.pruned", "mine.packed"):
        edited(folder / "experiment.json", lambda content, row=row: content["systems"].pop(claims_folder.system(row)))
    assert cost_figure(Results(folder))["svg"] == with_part


def test_zeros_stand_at_their_layer_and_kind(folder):
    grid = grid_of(Results(folder), PRUNED)
    assert grid.kinds == ("attn.query", "ffn.w_1")
    assert grid.shares == (pytest.approx((0.1, 0.9)), pytest.approx((0.5, 0.5))) and grid.whole == pytest.approx(0.6)


def test_a_matrix_that_a_layer_lacks_has_no_share(folder):
    path = folder / "systems" / PRUNED / "seed0/measured/costs.json"
    edited(path, lambda content: content["matrices"].pop())
    assert grid_of(Results(folder), PRUNED).shares[1] == (pytest.approx(0.5), None)
    assert draw_figure(Results(folder), "zeros")["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["pareto", "zeros"])
def test_figures_are_drawn_and_equal_results_give_equal_bytes(folder, name):
    first, second = (draw_figure(Results(folder), name) for _ in range(2))
    assert first == second and first["png"].startswith(b"\x89PNG") and b"<svg" in first["svg"]


def test_titles_and_captions(folder):
    results = Results(folder)
    assert figure_title(results.experiment, "pareto") == "Bytes against WER, by method"
    assert figure_title(results.experiment, "zeros") == "Zeros of each matrix (zeros)"
    assert f"{PRUNED} 60.0 % (10.0 to 90.0)" in figure_caption(results, "zeros")


def test_a_run_without_costs_has_an_empty_figure(folder):
    for path in folder.glob("systems/*/seed0/measured/costs.json"):
        path.unlink()
    assert draw_figure(Results(folder), "pareto")["png"].startswith(b"\x89PNG")


def test_matrices_that_nobody_counted_are_named(folder):
    edited(folder / "systems" / PRUNED / "seed0/measured/costs.json", lambda content: content.update(matrices=[]))
    with pytest.raises(UserError, match=rf"{PRUNED}/seed0/measured/costs\.json: counts no matrices"):
        draw_figure(Results(folder), "zeros")


def own(folder):
    results = Results(folder)
    table = build_table(results, "mine", results.experiment.tables["mine"])
    return table, {row["row"]: row for row in csv.DictReader(io.StringIO(to_csv(table)))}


def test_tables_of_ones_own_have_both_shares_of_zeros(folder):
    table, rows = own(folder)
    assert float(rows["pruned"]["matrix_zeros_pct"]) == pytest.approx(60)
    assert float(rows["pruned"]["encoder_zeros_pct"]) == pytest.approx(48)
    shown = [column.key for column in table.shown(wide=False)]
    (column,) = [each for each in table.shown(wide=False) if each.key == "matrix_zeros_pct"]
    assert "of all encoder parameters" in column.heading and "60.0 (48.0)" in to_markdown(table)
    assert "matrix_zeros_pct" in shown and any(note.startswith("Zeros: ") for note in table.notes)
    assert any("change bytes here, not operations" in note for note in table.notes)


def test_where_zeros_were_not_counted_there_is_no_column(folder):
    for row in ("mine.pruned", "mine.packed"):
        path = folder / "systems" / claims_folder.system(row) / "seed0/measured/costs.json"
        edited(path, lambda content: content.update(matrices=[]))
    table, rows = own(folder)
    assert not rows["pruned"]["matrix_zeros_pct"] and not any(note.startswith("Zeros: ") for note in table.notes)
    assert not any("zeros" in column.heading for column in table.shown(wide=True))


def test_the_report_shows_them_where_no_errors_in_weights_were_measured(folder):
    page = report(folder)
    assert "<h3>Bytes against WER, by method</h3>" in page and "<h3>Zeros of each matrix (zeros)</h3>" in page
    assert page.count('<figure class="drawing">') == 3 and "Errors in the weights" not in page
