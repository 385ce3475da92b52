"""What evaluation writes: transcripts that are known by content, and which path stands for a depth."""

import csv
import shutil

import pytest
import yaml

from analysis.scoring.alignment import align
from analysis.scoring.trn import read_trn, write_trn
from asr.corpora import read_cuts
from asr.corpora.manifests import write_cuts
from asr.settings import DecodeSettings
from asr.tokenizer import Tokenizer
from common.files import sha256
from methods.contract import Point, path_points
from tests.models import STILL, batch, conformer
from tests.workflows.commands import ROOT, command, read
from workflows.experiment import load_experiment
from workflows.experiment.decides import evaluation_inputs
from workflows.sources import needed_files
from workflows.steps.choice import Chooser, table_points
from workflows.steps.evaluate import covering_first, evaluate_system, search_together
from workflows.systems import load_system


def decodes_of(run, system):
    return read(run / f"systems/{system}/seed0/eval/points.json")["decodes"]


def test_every_transcript_is_known_by_content(run):
    for system in ("f2", "fw1"):
        for decode, content in decodes_of(run, system).items():
            for name, decoded in content["sets"].items():
                folder = run / f"systems/{system}/seed0/eval/{decode}/{name}"
                assert decoded["sha256"] == {path.stem: sha256(path) for path in folder.glob("*.trn")}
                assert sorted(decoded["sha256"]) == sorted(decoded["points"])
                assert decoded["reference_sha256"] == sha256(decoded["reference"])


def test_the_path_of_a_middle_depth_has_the_median_errors(run):
    choices = {name: content["choices"] for name, content in decodes_of(run, "f2").items()}
    (chosen,) = choices["greedy"]
    assert (chosen["depth"], chosen["candidates"], chosen["chosen_by"]) == (3, ["d03_00", "d03_01"], "greedy")

    def errors(point, sets):
        folder = run / "systems/f2/seed0/eval/greedy"
        pairs = ((read_trn(run / f"data/synth/{name}.trn"), read_trn(folder / name / f"{point}.trn")) for name in sets)
        return sum(align(*pair).counts.errors for pair in pairs)

    for key, sets in (("point", ["test_a", "test_b"]), ("on_dev", ["dev"])):
        assert chosen[key] == min(chosen["candidates"], key=lambda point: (errors(point, sets), point))
    assert choices["beam"] == choices["greedy"], "what the first one chose stands for both"
    with (run / "tables/table1.csv").open() as file:
        (shown,) = [row["path"] for row in csv.DictReader(file) if row["sys"] == "F4"]
    assert shown == PATH_OF[chosen["point"]]


PATH_OF = {"d03_00": "1 2", "d03_01": "2 1"}


def test_tables_of_a_decode_that_holds_only_their_points(run, tmp_path):
    """`points: tables` with `tables.decode: beam`, from the evaluation to the report, by the real commands."""
    values = yaml.safe_load((run.parent / "tiny.yaml").read_text())
    del values["tables"]["bits"]  # of systems that have no beam
    for table in values["tables"].values():
        table["decode"] = "beam"
    experiment = tmp_path / "tiny.yaml"
    experiment.write_text(yaml.safe_dump(values))
    folder = shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("tables", "figures", "audio"))
    for module, *arguments in (
        ("workflows.check", "--experiment", experiment, "--out", folder / "experiment.json"),
        ("analysis.render", "--experiment-folder", folder),
        ("analysis.report", "--experiment-folder", folder),
    ):
        done = command(module, *arguments)
        assert done.returncode == 0, done.stderr
    (choice,) = decodes_of(run, "f2")["beam"]["choices"]
    with (folder / "tables/table1.csv").open() as file:
        rows = {row["sys"]: row for row in csv.DictReader(file)}
    beam = run / "systems/f2/seed0/eval/beam"
    spoken = [read_trn(beam / f"{name}.reference.trn").lines.values() for name in ("test_a", "test_b")]
    assert int(rows["F4"]["ref_words"]) == sum(len(line.split()) for lines in spoken for line in lines)
    assert rows["F4"]["path"] == PATH_OF[choice["point"]] and rows["F4"]["dev_path"] == PATH_OF[choice["on_dev"]]


def test_sets_inside_other_sets_are_not_decoded_twice(run, data, tmp_path, monkeypatch):
    experiment = load_experiment(str(run.parent / "tiny.yaml"))
    dev, test = (read_cuts(data / f"{name}.jsonl.gz") for name in ("dev", "test_a"))
    inside = [dev[4], test[1], dev[0]]
    write_cuts(data / "test_c.jsonl.gz", inside)
    write_trn(data / "test_c.trn", [(utterance.id, utterance.text) for utterance in inside])
    heard = []

    def count(method, module, inputs, lengths, points):
        heard.append(len(inputs))
        return original(method, module, inputs, lengths, points)

    kind = type(load_system(run / "systems/fw1/seed0").method)
    original = kind.encode_points
    monkeypatch.setattr(kind, "encode_points", count)
    evaluate_system(experiment, "fw1", data, run / "systems/fw1/seed0", tmp_path / "eval")
    assert sum(heard) == 6 + 8 + 6  # dev, test_a, test_b; of test_c nothing
    for point in ("d01_00", "d02_00"):
        lines = {name: read_trn(tmp_path / f"eval/greedy/{name}/{point}.trn").lines for name in ("dev", "test_a")}
        sliced = read_trn(tmp_path / f"eval/greedy/test_c/{point}.trn").lines
        assert list(sliced) == [utterance.id for utterance in inside]
        assert sliced == {each.id: {**lines["dev"], **lines["test_a"]}[each.id] for each in inside}


@pytest.mark.parametrize("step", ["evaluate", "sensitivity", "weight_errors", "train", "measure"])
def test_how_results_are_scored_decides_nothing_that_is_decoded_or_trained(step):
    """Of analysis what decodes counts errors alone, of words or characters; what trains or measures has nothing."""
    files = {path.relative_to(ROOT) for path in needed_files([f"workflows.steps.{step}"])}
    assert len(files) > 20
    found = {str(path) for path in files if path.parts[0] == "analysis"}
    room = {"__init__", "alignment", "characters", "counts", "median", "trn", "words", "speakers"}
    assert found <= {"analysis/__init__.py", *(f"analysis/scoring/{name}.py" for name in room)}
    assert bool(found) == (step not in ("train", "measure"))


PATHS = [(1, 1), (1, 2), (2, 1), (3, 1)]
POINTS = [Point("".join(map(str, path)), "", path) for path in PATHS]
SPOKEN = {name: {"u": "a b c d e f"} for name in ("dev", "test_a", "test_b", "test_c")}


def decoded(test, dev=None):
    """By set and point, with so many wrong words."""
    words = SPOKEN["dev"]["u"].split()
    errors = {name: (dev or test) if name == "dev" else test for name in SPOKEN}
    return {
        name: {point: {"u": " ".join(["x"] * count + words[count:])} for point, count in counts.items()}
        for name, counts in errors.items()
    }


@pytest.fixture(scope="module")
def tiny(run):
    found = load_experiment(str(run.parent / "tiny.yaml"))
    return found.model_copy(update={"decodes": {**found.decodes, "again": DecodeSettings()}})


def test_a_decode_chooses_for_itself_or_takes_the_first_ones_choice(tiny):
    points = [*POINTS, Point("112", "", (1, 1, 2)), Point("x", "", (0, 3), offered=False)]
    chooser = Chooser(tiny, points, SPOKEN)
    first = decoded({"11": 0, "12": 2, "21": 1, "31": 0, "112": 3}, dev={"11": 0, "12": 1, "21": 2, "31": 4, "112": 3})
    three, four = chooser.choose("greedy", first)
    assert (three.depth, three.point.id, three.on_dev.id, three.chosen_by) == (3, "21", "12", "greedy")
    assert (three.chosen_on, three.utterances, three.best_on_dev.id) == (("test_a", "test_b"), 2, "12")
    assert (four.depth, four.point.id, four.on_dev.id) == (4, "31", "112")
    (own,) = chooser.choose("again", decoded({"11": 0, "12": 1, "21": 2}))
    assert (own.point.id, own.chosen_by) == ("12", "again")
    assert chooser.choose("beam", decoded({"11": 0, "21": 5, "31": 0})) == [three, four]
    assert chooser.choose("beam", decoded({"11": 0, "12": 1, "21": 2})) == [three], "it holds both paths by chance"
    assert chooser.choose("beam", decoded({"11": 0, "12": 0})) == []
    alone = Chooser(tiny, points, SPOKEN)
    assert [choice.chosen_by for choice in alone.choose("beam", first)] == ["beam", "beam"], "nobody chose before"


def test_on_the_dev_set_a_path_is_fixed_before_test_words_are_heard(tiny):
    """Of three paths: test errors 0, 2, 4, dev errors 5, 1, 3. Median on test b, on dev c; the best on dev is b."""
    paths = {"a": (1, 1, 2), "b": (1, 2, 1), "c": (2, 1, 1)}
    points = [Point(name, "", path) for name, path in paths.items()]
    heard = decoded({"a": 0, "b": 2, "c": 4}, dev={"a": 5, "b": 1, "c": 3})
    for where, chosen, sets, utterances in (("test", "b", ("test_a", "test_b"), 2), ("dev", "c", ("dev",), 1)):
        experiment = tiny.model_copy(update={"paths_chosen_on": where})
        (choice,) = Chooser(experiment, points, SPOKEN).choose("greedy", heard)
        found = choice.to_json()
        assert [found[key] for key in ("point", "on_test", "on_dev", "best_on_dev")] == [chosen, "b", "c", "b"]
        assert (choice.chosen_on, choice.utterances) == (sets, utterances)
    assert evaluation_inputs(experiment, "f2") != evaluation_inputs(tiny, "f2")


def test_table_points_are_those_chosen_on_test_and_on_dev(tiny):
    for on_dev, shown in ((2, ["11", "21"]), (0, ["11", "12", "21"])):
        chooser = Chooser(tiny, POINTS[:3], SPOKEN)
        chooser.choose("greedy", decoded({"11": 0, "12": 2, "21": 1}, dev={"11": 0, "12": on_dev, "21": 1}))
        assert [point.id for point in table_points(tiny, "f2", POINTS[:3], chooser.chosen)] == shown


def test_decodes_of_table_points_come_last():
    every, tables, own = (DecodeSettings(points=points) for points in ("all", "tables", "own_tables"))
    decodes = {"o": own, "b": tables, "a": every, "c": every}
    assert [name for name, _ in covering_first(decodes)] == ["a", "c", "b", "o"]


def test_the_paper_searches_table_points_only():
    experiment = load_experiment("paper_librispeech")
    assert (experiment.decodes["beam"].points, experiment.decodes["greedy"].points) == ("tables", "all")
    assert {experiment.tables[name].decode for name in ("table1", "table4")} == {"beam"}
    assert experiment.figures["figure2"].decode == "greedy"


def test_points_and_utterances_are_searched_together():
    """Three points of two models, of which two share decoder and CTC layer: each gets what it gets alone."""
    tokenizer = Tokenizer.train([" ".join("abcdefghij")], "word")
    models = [conformer(seed, layers=2, **STILL).eval().requires_grad_(False) for seed in (0, 1)]
    for model in models:
        model.ctc.ctc_lo.weight.mul_(5)
    points = path_points([(1, 1), (2, 1), (2, 2)], [])
    model_of = {point.id: model for point, model in zip(points, (models[0], models[1], models[0]), strict=True)}
    speech = batch()
    encodings = [(p, model_of[p.id].encode(speech.inputs, speech.input_lengths, p.path)) for p in points]
    settings = DecodeSettings(kind="beam", beam=3, max_length_ratio=0.4)

    def found(some):
        outputs = search_together(some, lambda point: model_of[point.id].scorers(), tokenizer, settings)
        return {point.id: ids for point, ids in outputs}

    alone = {point.id: found([(point, encoded)])[point.id] for point, encoded in encodings}
    assert found(encodings) == alone
    assert len({str(ids) for ids in alone.values()}) == 3 and all(len(ids) == 3 for ids in alone.values())


def test_how_many_hypotheses_are_searched_at_once_decodes_nothing_again():
    experiment = load_experiment("config/smoke.yaml")
    system = next(name for name in experiment.systems if "beam" in experiment.decodes_of(name))
    before = evaluation_inputs(experiment, system)
    beam = experiment.decodes["beam"]
    for change, same in (({"batch_hypotheses": 7}, True), ({"beam": 7}, False)):
        decodes = {**experiment.decodes, "beam": beam.model_copy(update=change)}
        changed = evaluation_inputs(experiment.model_copy(update={"decodes": decodes}), system)
        assert (changed == before) is same
