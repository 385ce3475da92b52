"""Many words for the rows of tables, fewer for all paths: the paths are chosen on the few, and on the dev set alone."""

import shutil

import pytest
import yaml

from analysis.inputs.results import Results
from analysis.scoring.trn import read_trn
from analysis.tables.figures import measured_curve
from analysis.tables.papers import build_table
from analysis.verdicts.claims_file import gather, read_claims
from common.errors import UserError
from tests.analysis.claims_cases import SPREAD, claims_file
from tests.workflows.commands import command, read
from workflows.experiment import load_experiment
from workflows.experiment.decides import evaluation_inputs
from workflows.steps.evaluate import evaluate_system

SYSTEMS = ("a4", "a2", "f2")
DECODES = {
    "paths": {"kind": "greedy", "utterances": 3},
    "greedy": {"kind": "greedy", "points": "tables"},
    "beam": {"kind": "beam", "beam": 2, "utterances": 2, "points": "own_tables"},
}
SEARCHED = {"kind": "systems", "title": "Searched", "decode": "beam", "rows": {"F1": {"system": "f2", "depth": 4}}}


def values_of(run):
    """Three systems of the tiny experiment; its table 1 with a row of the best path, and a table of beam search."""
    values = yaml.safe_load((run.parent / "tiny.yaml").read_text())
    rows = values["tables"]["table1"]["rows"]
    table1 = {name: row for name, row in rows.items() if row["system"] in SYSTEMS}
    table1["F4 best"] = {"system": "f2", "depth": 3, "choose": "best"}
    values["tables"] = {"table1": {**values["tables"]["table1"], "rows": table1}, "searched": SEARCHED}
    values["figures"] = {"figure2": {**values["figures"]["figure2"], "decode": "paths"}}
    systems = {name: values["systems"][name] for name in SYSTEMS}
    return values | {"systems": systems, "decodes": DECODES, "paths_chosen_on": "dev"}


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """Its results, decoded anew from the weights of the run."""
    home = tmp_path_factory.mktemp("few")
    (home / "tiny.yaml").write_text(yaml.safe_dump(values_of(run), sort_keys=False))
    experiment, folder = load_experiment(str(home / "tiny.yaml")), home / "tiny"
    shutil.copytree(run / "data", folder / "data", ignore=shutil.ignore_patterns("audio"))
    for name in SYSTEMS:
        shutil.copytree(run / f"systems/{name}", folder / f"systems/{name}", ignore=shutil.ignore_patterns("eval"))
        model = folder / f"systems/{name}/seed0"
        evaluate_system(experiment, name, run / "data/synth", model, model / "eval")
    done = command("workflows.check", "--experiment", home / "tiny.yaml", "--out", folder / "experiment.json")
    assert done.returncode == 0, done.stderr
    return folder


def test_all_paths_are_decoded_on_few_utterances_of_all_speakers_and_rows_on_all(made, run):
    found = read(made / "systems/f2/seed0/eval/points.json")["decodes"]
    sizes = {
        name: {key: (each["utterances"], len(each["points"])) for key, each in found[name]["sets"].items()}
        for name in found
    }
    paths = len(read(made / "systems/f2/seed0/eval/points.json")["points"])
    assert sizes["paths"] == dict.fromkeys(("dev", "test_a", "test_b", "test_c"), (3, paths))
    assert {name: size[0] for name, size in sizes["greedy"].items()} == {
        "dev": 6,
        "test_a": 8,
        "test_b": 6,
        "test_c": 4,
    }
    assert sizes["beam"]["test_a"] == (2, 1) and found["beam"]["sets"]["test_a"]["points"] == ["d04_00"]
    speakers = read(run / "data/synth/test_a.speakers.json")
    heard = read_trn(made / "systems/f2/seed0/eval/beam/test_a.reference.trn").lines
    assert len({speakers[utterance] for utterance in heard}) == 2, "two utterances, of two speakers"
    whole = [*read_trn(run / "data/synth/test_a.trn").lines]
    assert sorted(heard, key=whole.index) == [*heard], "in the set's order"
    for name in ("a4", "a2"):
        assert {*read(made / f"systems/{name}/seed0/eval/points.json")["decodes"]} == {"paths", "greedy"}


def test_one_choice_stands_for_all_decodes_and_is_written_down(made):
    found = read(made / "systems/f2/seed0/eval/points.json")["decodes"]
    (choice,) = found["paths"]["choices"]
    assert choice["point"] == choice["on_dev"] and (choice["depth"], choice["chosen_by"]) == (3, "paths")
    assert (choice["chosen_on"], choice["utterances"]) == (["dev"], 3)
    assert found["greedy"]["choices"] == [choice] and found["beam"]["choices"] == []
    assert {choice["point"], choice["best_on_dev"]} <= {*found["greedy"]["sets"]["test_a"]["points"]}


def test_tables_read_many_words_and_figures_all_paths(made):
    results = Results(made)
    tables = {name: build_table(results, name, spec) for name, spec in results.experiment.tables.items()}
    rows = {row["sys"]: row for row in tables["table1"].rows if "wer" in row}
    spoken = [read_trn(made / f"data/synth/{name}.trn").lines.values() for name in ("test_a", "test_b")]
    words = sum(len(line.split()) for lines in spoken for line in lines)
    assert {row["ref_words"] for row in rows.values()} == {words}
    (choice,) = read(made / "systems/f2/seed0/eval/points.json")["decodes"]["paths"]["choices"]
    path_of = {"d03_00": "1 2", "d03_01": "2 1"}
    assert (rows["F4"]["path"], rows["F4 best"]["path"]) == (path_of[choice["point"]], path_of[choice["best_on_dev"]])
    assert not any(column.heading for column in tables["table1"].columns if column.key == "dev_path")
    notes = tables["table1"].notes
    chosen = "on the development set 'dev' by the decode paths, 3 utterances: it was fixed before a test word was heard"
    assert sum(chosen in note for note in notes) == 1
    assert sum(note.startswith("F4 best: the path with the fewest errors on the dev") for note in notes) == 1
    (searched,) = tables["searched"].rows
    beam = made / "systems/f2/seed0/eval/beam"
    few = [read_trn(beam / f"{name}.reference.trn").lines.values() for name in ("test_a", "test_b")]
    assert searched["ref_words"] == sum(len(line.split()) for lines in few for line in lines) < words
    assert [len(depth.wers) for depth in measured_curve(results, "f2", "paths").depths] == [1, 2, 1]


def test_the_spread_over_paths_is_that_of_the_decode_that_heard_them(made, tmp_path):
    about = {"spread_below": {**SPREAD["spread_below"], "row": "table1.F4"}}
    path = claims_file(tmp_path, about, rows={"table1": ["F4 best"]})
    results = Results(made)
    evidence = gather(results, read_claims(path), path)
    labels = [evidence.label(f"table1.{name}") for name in ("F4", "F4 best")]
    assert labels == ["f2@3", "f2@3 by its best path"]
    _, mean = evidence.path_spread("table1.F4", [0])
    points = [point for point in results.points("f2", 0).points if point.depth == 3]
    assert mean == pytest.approx(sum(results.counts(p, "paths", ["test_a", "test_b"]).wer for p in points) / 2)


def test_what_chooses_decides_what_is_decoded(run, tmp_path):
    def inputs(name, change):
        values = values_of(run)
        change(values)
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        return evaluation_inputs(load_experiment(str(tmp_path / "tiny.yaml")), name)

    def no_beam(values):
        values["tables"].pop("searched")

    def another_row(values):
        values["tables"]["searched"]["rows"]["F5"] = {"system": "f2", "depth": 2}

    def median(values):
        values["tables"]["table1"]["rows"]["F4 best"]["choose"] = "median"

    plain = {name: inputs(name, lambda values: None) for name in SYSTEMS}
    for change in (no_beam, another_row, median):
        assert inputs("f2", change) != plain["f2"] and inputs("a4", change) == plain["a4"], change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["tables"]["table1"]["rows"]["1"].update(choose="best"), None),
        (
            lambda v: v["tables"]["table1"]["rows"].update(X={"system": "a4", "path": "1 1 1 1", "choose": "best"}),
            "rows.X: choose: a path or a point leaves nothing to choose",
        ),
        (
            lambda v: v["systems"]["a2"].update(decodes=["beam"]) or v["tables"]["table1"]["rows"].pop("5"),
            "figures.figure2.decode: system 'a2' is decoded by",
        ),
        (
            lambda v: (
                v["systems"]["a2"].update(decodes=["beam"]),
                v["tables"]["table1"]["rows"].pop("5"),
                v.update(figures={}),
            ),
            "systems.a2: none of the decodes applies to it",
        ),
    ],
)
def test_what_cannot_be_chosen_or_decoded_is_refused(run, tmp_path, change, message):
    values = values_of(run)
    change(values)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    if message is None:
        assert load_experiment(str(tmp_path / "tiny.yaml"))
        return
    with pytest.raises(UserError) as error:
        load_experiment(str(tmp_path / "tiny.yaml"))
    assert message in str(error.value)
