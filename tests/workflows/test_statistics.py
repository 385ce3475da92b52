"""Batch-norm statistics through the real training step, on a Conformer that learns next to nothing."""

import itertools

import pytest
import torch
import yaml
from safetensors.torch import load_file

from asr.batch_norm import batch_norms, statistics_of
from asr.corpora import read_cuts
from common.errors import UserError
from tests.models import small_encoder
from tests.workflows.commands import ROOT, TINY, read
from workflows.check import check_systems
from workflows.data import open_data
from workflows.experiment import load_experiment
from workflows.identity import Identities
from workflows.steps import statistics
from workflows.steps.evaluate import evaluate_system
from workflows.steps.export.system import read_system
from workflows.steps.inputs import prepare_inputs
from workflows.steps.prepare import prepare_corpus
from workflows.steps.train import train_system
from workflows.systems import load_system

SEED, DEEP, OTHER = (1, 1), (2, 2), (1, 2)
RUNNING = "running_statistics.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A foldable system trained under either setting, and what is made of it; the folders by name."""
    folder = tmp_path_factory.mktemp("statistics")
    values = yaml.safe_load((ROOT / TINY).read_text())
    values["training"] |= {"steps": 3, "accumulate": 1, "validate_every": 3, "keep": "last"}
    uses = {"running": {}, "path": {"path": "1 2"}, "execution": {}}
    for name, settings in ((use, {"use": use, **more}) for use, more in uses.items()):
        settings = {"source": {"system": "f2"}, **settings}
        values["systems"][f"f2_{name}"] = {
            "method": "baselines.statistics",
            "backbone": {"layers": 2},
            "settings": settings,
        }
    for use in ("again", "running"):
        (folder / f"{use}.yaml").write_text(yaml.safe_dump({**values, "statistics": use}))
    again, running = (load_experiment(str(folder / f"{use}.yaml")) for use in ("again", "running"))
    data = folder / "data"
    prepare_corpus(again, data)
    prepare_inputs(again, None, data)
    sources = {"f2": folder / "f2"}
    train_system(again, "f2", 0, data, folder / "f2", {})
    train_system(running, "f2", 0, data, folder / "f2_as_trained", {})
    for name, experiment in (("f2_running", again), ("f2_path", again), ("f2_execution", again)):
        train_system(experiment, name, 0, data, folder / name, sources)
    train_system(running, "f2_path", 0, data, folder / "f2_path_under_running", sources)
    return folder


@pytest.fixture(scope="module")
def tiny(made):
    return load_experiment(str(made / "again.yaml"))


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_setting_decides_statistics_and_nothing_else(made):
    again, as_trained = weights(made / "f2"), weights(made / "f2_as_trained")
    running = load_file(made / "f2" / RUNNING)
    assert same(load_file(made / "f2_as_trained" / RUNNING), running)
    assert same(as_trained, {**again, **running})
    assert all(not torch.equal(again[name], running[name]) for name in running)
    assert len(running) == 2 * 3


def test_running_is_bit_equal_to_the_source_trained_under_running(made, tiny):
    assert same(weights(made / "f2_running"), weights(made / "f2_as_trained"))
    one, other = (load_system(made / name) for name in ("f2_running", "f2_as_trained"))
    speech = open_data(tiny, "f2", made / "data").speech_set("test_a", labelled=False)
    batch = speech.batch(range(4), torch.device("cpu"), labelled=False)
    for path in (SEED, OTHER, DEEP):
        frames = [each.module.encode(batch.inputs, batch.input_lengths, path).frames for each in (one, other)]
        assert torch.equal(*frames)


def by_hand(made, tiny, *paths):
    """Statistics of the weights of `f2` over the training set at some paths: batch norm alone in training mode, from
    what it is given at each execution."""
    module = load_system(made / "f2").module
    data = open_data(tiny, "f2", made / "data")
    speech, training = data.speech_set("train", labelled=False), tiny.training_of("f2")
    seen = {name: [] for name in batch_norms(module)}
    for name, norm in batch_norms(module).items():
        norm.train()
        norm.register_forward_pre_hook(lambda _, rows, seen=seen[name]: seen.append(rows[0].double()))
    order = speech.order(training.batch_seconds, training.buckets).epoch(0)
    with torch.no_grad():
        for indices, path in itertools.product(order, paths):
            batch = speech.batch(indices, torch.device("cpu"), labelled=False)
            module.encode(batch.inputs, batch.input_lengths, path)
    return {
        f"{name}.running_{what}": torch.stack([getattr(rows, what)(0) for rows in seen[name]]).mean(0).float()
        for name in seen
        for what in ("mean", "var")
    }


@pytest.mark.parametrize(
    ("folder", "paths"), [("f2", (SEED, DEEP)), ("f2_path", (OTHER,)), ("f2_path_under_running", (OTHER,))]
)
def test_estimated_again_is_what_a_calculation_by_hand_gives(made, tiny, folder, paths):
    """Over seed and deepest path for what was trained at both; over the path that is named, whatever the experiment
    says of the others."""
    found = weights(made / folder)
    for name, expected in by_hand(made, tiny, *paths).items():
        torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=1e-4)
    others = {
        name: tensor for name, tensor in weights(made / "f2").items() if name not in load_file(made / "f2" / RUNNING)
    }
    assert all(torch.equal(found[name], tensor) for name, tensor in others.items())
    assert same(load_file(made / folder / RUNNING), load_file(made / "f2" / RUNNING))


def test_kept_by_execution_a_layer_has_the_mean_of_each_of_its_executions(made, tiny):
    """Together they are what the executions share, weighted by how often each ran: twice (seed and deep) and once."""
    found, shared = weights(made / "f2_execution"), weights(made / "f2")
    for layer in range(2):
        norm, further = f"encoder.encoders.{layer}.conv_module.norm", f"further_statistics.{layer}.0.0"
        for what in ("running_mean", "running_var"):
            both = (2 * found[f"{norm}.{what}"] + found[f"{further}.{what}"]) / 3
            torch.testing.assert_close(both, shared[f"{norm}.{what}"], atol=1e-4, rtol=1e-3)
    facts = read(made / "f2_execution/provenance.json")["statistics"]
    assert (facts["modules"], facts["executions"]) == (4, 6 * facts["batches"])
    with pytest.raises(UserError, match="runs another model than the plain backbone"):
        read_system(made / "f2_execution", made / "data")


def test_provenance_says_what_it_cost(made, tiny):
    facts = {name: read(made / name / "provenance.json")["statistics"] for name in ("f2", "f2_as_trained", "f2_path")}
    seconds = sum(utterance.seconds for utterance in read_cuts(made / "data/train.jsonl.gz"))
    found = facts["f2"]
    assert (found["use"], found["points"], found["modules"]) == ("again", ["1 1", "2 2"], 2)
    assert found["batches"] > 1 and found["executions"] == found["batches"] * (2 + 4)
    assert found["audio_seconds"] == pytest.approx(seconds, rel=0.02)
    assert found["seconds"] > 0
    # Two layers of 32 features: means and variances in float32, and a count.
    assert found["bytes"] == 2 * (2 * 32 * 4 + 8) == sum(t.nbytes for t in load_file(made / "f2" / RUNNING).values())
    untouched = {"use": "running", "points": [], "batches": 0, "executions": 0, "seconds": 0.0, "audio_seconds": 0.0}
    assert facts["f2_as_trained"] == {**untouched, "modules": 2, "bytes": found["bytes"]}
    assert facts["f2_path"]["points"] == ["1 2"] and facts["f2_path"]["executions"] == 3 * found["batches"]


def test_so_much_speech_is_read_and_not_the_first_in_the_file(made, tiny, monkeypatch):
    system, data = load_system(made / "f2"), open_data(tiny, "f2", made / "data")
    monkeypatch.setattr(statistics, "SECONDS", 20.0)
    found = []
    for _ in range(2):
        facts = statistics.settle_statistics(system.method, system.module, data, tiny.training, 0, True)
        found.append(statistics_of(system.module))
    assert same(*found)
    assert 20.0 <= facts["audio_seconds"] < 20.0 + tiny.training.batch_seconds
    order = data.speech_set("train", labelled=False).order(tiny.training.batch_seconds, tiny.training.buckets)
    read_first = [index for indices in order.epoch(0)[: facts["batches"]] for index in indices]
    assert max(read_first) > 30 and len(read_first) < 30, "of the 40 utterances, late ones among few"


def test_a_model_without_batch_norm_reads_nothing(made, tiny):
    """Not even the manifest: there is no data to open."""
    method = load_system(made / "f2").method
    assert statistics.settle_statistics(method, small_encoder(), None, tiny.training, 0, True) is None


def test_a_store_of_other_speeds_is_not_asked_for_speech_as_it_was_spoken(made, tiny):
    data = open_data(tiny, "f2", made / "data")
    data.features = data.features.model_copy(update={"store": True, "speed_factors": [0.9, 1.1]})
    speech = data.speech_set("train", labelled=False)
    assert speech.stored is None and speech.batch([0], torch.device("cpu"), False).inputs.size(1) > 50


def test_it_is_evaluated_without_its_source(made, tiny, tmp_path):
    only_greedy = tiny.model_copy(update={"decodes": {"greedy": tiny.decodes["greedy"]}})
    evaluate_system(only_greedy, "f2_path", made / "data", made / "f2_path", tmp_path)
    points = read(tmp_path / "points.json")
    assert [point["path"] for point in points["points"]] == [[1, 2]]
    assert len((tmp_path / "greedy/test_a/d03_00.trn").read_text().splitlines()) == 8


@pytest.mark.parametrize(
    ("statistics", "layers", "message"),
    [
        ("agian", 2, "statistics: Input should be 'again' or 'running'"),
        ("again", 4, r"systems.f2_path: settings.path: path '1 2' has 2 counts for 4"),
        ("again", 2, r"systems.f2_running: settings.source: the backbone of 'f2' is another \(different: layers\)"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(made, tmp_path, statistics, layers, message):
    values = yaml.safe_load((made / "again.yaml").read_text())
    values["statistics"] = statistics
    values["systems"]["f2_path"]["backbone"] = {"layers": layers}
    values["systems"]["f2_running"]["backbone"] = {"layers": 3}
    if layers == 4:
        del values["systems"]["f2_running"]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message):
        check_systems(load_experiment(str(path)), str(path))


def test_the_setting_decides_what_every_system_is(made, tiny):
    other = load_experiment(str(made / "running.yaml"))
    for name in tiny.systems:
        one, two = (Identities(each, "x").training_recipe(name)["settings"] for each in (tiny, other))
        assert {key for key in one if one[key] != two[key]} == {"statistics"}
