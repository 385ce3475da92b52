"""Fold, prune, quantise through the real commands: each link trained or converted, evaluated, measured, exported."""

import csv

import pytest
import torch

from methods.shared.matrices import matrices, packed_matrices
from tests.workflows.commands import read, refused_by_check
from workflows.experiment import load_experiment
from workflows.steps.export.folder import export_system
from workflows.systems import load_system

CHAIN = ("f2", "f2_half", "f2_half_int4")


def test_every_link_has_the_points_of_the_first_and_costs_of_its_own(run):
    folders = [run / f"systems/{name}/seed0" for name in CHAIN]
    points = [read(folder / "eval/points.json")["points"] for folder in folders]
    same = [[(point["id"], point["path"], point["trained"]) for point in each] for each in points]
    assert same[0] == same[1] == same[2] and len(same[0]) > 1
    dense, pruned, packed = (read(folder / "measured/costs.json")["points"] for folder in folders)
    assert packed
    for name in packed:
        costs = [each[name] for each in (dense, pruned, packed)]
        assert len({each["parameters_stored"] for each in costs}) == 1
        nonzero = [each["parameters_nonzero"] for each in costs]
        assert nonzero[0] > nonzero[1] >= nonzero[2]
        assert dense[name]["stored_bytes"] == pruned[name]["stored_bytes"] > packed[name]["stored_bytes"]
        assert pruned[name]["training_peak_memory_bytes"] > 0 and packed[name]["training_peak_memory_bytes"] is None
        file = folders[2] / "model.safetensors"
        assert 0 <= file.stat().st_size - packed[name]["stored_bytes"] < 30_000, "but for the file's header"


def test_a_system_whose_rows_alone_are_asked_for_is_decoded_there_alone(run):
    points = read(run / "systems/fw1_int8/seed0/eval/points.json")
    assert [point["id"] for point in points["points"]] == ["d01_00", "d02_00"] and list(points["decodes"]) == ["greedy"]
    assert {tuple(found["points"]) for found in points["decodes"]["greedy"]["sets"].values()} == {("d02_00",)}
    whole = read(run / "systems/fw1/seed0/eval/points.json")["decodes"]["greedy"]["sets"]
    assert {tuple(found["points"]) for found in whole.values()} == {("d01_00", "d02_00")}


def test_a_table_of_ones_own_says_what_weights_take_and_compares_each_row_with_its_own(run):
    with open(run / "tables/bits.csv", newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["f2@4", "f2@4 half", "f2@4 half int4", "fw1@1", "fw1@2", "fw1@2 int8"]
    assert [row["against"] for row in rows.values()] == ["", "f2@4", "f2@4 half", "", "", "fw1@2"]
    assert all((row["difference"] == "") == (row["against"] == "") for row in rows.values())
    for name, row in rows.items():
        if row["against"]:
            expected = float(row["wer"]) - float(rows[row["against"]]["wer"])
            assert float(row["difference"]) == pytest.approx(expected, abs=1e-5), name
        costs = read(run / f"systems/{row['system']}/seed0/measured/costs.json")["points"]
        assert int(row["stored_bytes"]) in {each["stored_bytes"] for each in costs.values()}
        assert float(row["bits_a_weight"]) in {round(each["bits_a_weight"], 6) for each in costs.values()}
    assert float(rows["f2@4"]["bits_a_weight"]) == float(rows["f2@4 half"]["bits_a_weight"]) == 32
    assert float(rows["f2@4 half int4"]["bits_a_weight"]) == 4.5 and 8 < float(rows["fw1@2 int8"]["bits_a_weight"]) < 9


def test_what_was_pruned_is_zero_in_every_link_that_follows(run):
    _, pruned, packed = (load_system(run / f"systems/{name}/seed0") for name in CHAIN)
    codes = packed_matrices(packed.module)
    for name, part in matrices(pruned.module).items():
        zeros = part.weight == 0
        assert int(zeros.sum()) == round(0.5 * part.weight.numel()), "after training too"
        assert torch.all(codes[name].weight[zeros] == 0)


def test_speech_encoders_are_packed_too(run):
    dense, packed = (load_system(run / f"systems/{name}/seed0") for name in ("fw1", "fw1_int8"))
    for name, part in matrices(dense.module).items():
        step = part.weight.abs().amax(1, keepdim=True) / 127
        assert ((packed_matrices(packed.module)[name].weight - part.weight).abs() <= 0.51 * step).all()


def test_the_chain_says_where_it_comes_from(run):
    f2, half, packed = (read(run / f"systems/{name}/seed0/system.json") for name in CHAIN)
    assert (f2["steps"], half["steps"], packed["steps"]) == (8, 12, 12)
    inner = packed["architecture"]["source"]
    assert inner["method"] == "baselines.magnitude" and inner["architecture"]["source"]["method"] == "methods.unfolding"
    assert inner["architecture"]["source"]["settings"]["depth"] == 4
    experiment = load_experiment(str(run.parent / "tiny.yaml"))
    assert experiment.systems["fw1_int8"].family == "speech"
    assert experiment.backbone_of("fw1_int8")["settings"]["layers"] == 1
    assert experiment.needs("fw1_int8") == ["fw1", "w2"] and experiment.needs("f2_half_int4") == ["f2", "f2_half"]


def test_every_link_is_exported_and_weighs_what_was_measured(run, tmp_path):
    for name in (*CHAIN, "fw1_int8"):
        folder = run / f"systems/{name}/seed0"
        export_system(folder, tmp_path / name, None, None, None)
        costs = read(folder / "measured/costs.json")["points"]
        file = tmp_path / name / "model.safetensors"
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert {file.stat().st_size - header} == {cost["stored_bytes"] for cost in costs.values()}
    card = (tmp_path / "f2_half_int4/README.md").read_text()
    assert (
        "Chain: 'f2' (foldable, `methods.unfolding`) → 'f2_half' (pruned, `baselines.magnitude`) → "
        "'f2_half_int4' (quantised, `baselines.post_training`)" in card
    )


def test_a_row_that_other_statistics_do_not_offer_is_refused_early(run, tmp_path):
    text = (run.parent / "tiny.yaml").read_text()
    other = "  f2_running: {method: baselines.statistics, settings: {source: {system: f2}}}\ntables:\n"
    path = tmp_path / "wrong.yaml"
    path.write_text(
        text.replace("tables:\n", other, 1).replace(
            "H4: {system: f2_half_int4, depth: 4}", "R: {system: f2_running, depth: 3}"
        )
    )
    refused_by_check(path, "tables.table1.rows.R.depth: 'f2_running' is not offered at depth 3; its depths: 2, 4")


def test_a_row_of_a_derived_system_that_names_no_point_of_the_source_is_refused_early(run, tmp_path):
    text = (run.parent / "tiny.yaml").read_text()
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace("H4: {system: f2_half_int4, depth: 4}", "H4: {system: f2_half_int4, depth: 9}"))
    refused_by_check(path, "tables.table1.rows.H4.depth: 'f2_half_int4' is not offered at depth 9; its depths: 2, 3, 4")
