"""Seeds of single systems: who has which, who asks for which, and what is shown of those that are there."""

import shutil

import pytest

from common.errors import UserError
from tests.workflows.commands import TINY, command, jobs, one_clear_error, read, snakemake, with_own_seeds
from workflows.experiment import load_experiment
from workflows.part import Part, as_words, chosen_part, joined, of_words, trained_for, with_seeds
from workflows.why import Plan, files_to_force

SEEDS = {"a4": 3, "f2": [0, 4], "f2_half": [4], "f2_half_int4": [4]}


@pytest.fixture
def experiment(tmp_path):
    return load_experiment(str(with_own_seeds(tmp_path, SEEDS)))


def test_a_number_is_the_seeds_from_0_on(experiment):
    assert [experiment.seeds_of(name) for name in ("a4", "f2", "f2_half", "a2")] == [[0, 1, 2], [0, 4], [4], [0]]
    assert experiment.all_seeds == [0, 1, 2, 4]
    assert [pair for pair in experiment.trainings if pair[1]] == [
        *(("a4", seed) for seed in (1, 2)),
        *((name, 4) for name in ("f2", "f2_half", "f2_half_int4")),
    ]
    assert experiment.resolved["systems"]["a2"]["seeds"] == [0]


def test_a_part_has_the_seeds_that_are_asked_for(experiment):
    found = chosen_part(experiment, "bits", "a4, f2_half", "0,4")
    of_f2_half = {name: (4,) for name in ("f2_half", "f2_half_int4")}
    assert found == Part({"a4": (0,), "f2": (0, 4), "fw1": (0,), **of_f2_half, "fw1_int8": (0,)}, {})
    assert trained_for(experiment, found)["f2"] == (0, 4)
    only_derived = chosen_part(experiment, systems="f2_half")
    assert trained_for(experiment, only_derived) == {"f2": (4,), "f2_half": (4,)}, "not seed 0 of its source"
    assert with_seeds(experiment, chosen_part(experiment), [2]) == Part({"a4": (2,)}, {"weight errors of a4": (2,)})
    assert joined(experiment, Part({"f2": (4,)}, {}), Part({"f2": (0,)}, {})).systems == {"f2": (0, 4)}
    with pytest.raises(UserError, match=r"seeds: no system has seed '3'; the experiment has 0, 1, 2, 4"):
        chosen_part(experiment, seeds="3")


def test_a_part_as_words_and_back():
    seeds = {"a4": (0, 1), "weight errors of f2": (4,)}
    assert of_words(as_words(seeds)) == seeds
    for word in ("a4", "a4=", "a4=0,x"):
        with pytest.raises(UserError, match="write NAME=SEEDS"):
            of_words([word])


def test_each_system_is_made_with_its_own_seeds(tmp_path):
    with_own_seeds(tmp_path, SEEDS)
    trained = {
        seeds: {job.removeprefix("Train ") for job in jobs(snakemake(tmp_path, "-n", seeds=seeds)) if "Train" in job}
        for seeds in ("", "0", "4")
    }
    assert trained["4"] == {f"{name}, seed 4" for name in ("f2", "f2_half", "f2_half_int4")}
    assert {"a4, seed 0", "f2, seed 0", "a2, seed 0"} < trained["0"] and "f2_half, seed 0" not in trained[""]
    assert trained[""] == trained["0"] | trained["4"] | {"a4, seed 1", "a4, seed 2"}


def test_the_commands_take_seeds(tmp_path):
    arguments = ["--experiment", with_own_seeds(tmp_path, SEEDS), "--results", tmp_path, "--only", "table1"]
    said = command("workflows.why", *arguments, "--seeds", "4").stdout
    assert "train f2_half, seed 4: not made yet" in said and "seed 0" not in said
    one_clear_error(command("workflows.why", *arguments, "--seeds", "7"), "no system has seed '7'")
    done = command("workflows.made", "--experiment", TINY, "--systems", "a4", "--out", tmp_path / "made.json")
    one_clear_error(done, "a4: write NAME=SEEDS")


def test_what_is_there_of_the_seeds_is_shown_and_the_rest_is_named(run, tmp_path):
    """Seed 0 of everything, as the run made it, where two systems shall have more: an incomplete state, no error."""
    path = with_own_seeds(tmp_path, {"a4": 3, "f2": 2})
    folder = shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("audio", "tables", "figures"))
    experiment = load_experiment(str(path))
    plan, asked = Plan(experiment, folder), chosen_part(experiment, seeds="0")
    assert plan.made() == asked
    changed, named = str(folder / "experiment.json"), str(folder / "made.json")
    assert files_to_force(plan, asked) == [changed], "the experiment's seeds are written there"
    assert files_to_force(plan, chosen_part(experiment)) == [changed, named]
    for module, *arguments in (
        ("workflows.check", "--experiment", path, "--out", folder / "experiment.json"),
        ("workflows.made", "--experiment", path, "--systems", "a4=0", "--out", folder / "made.json"),
        ("analysis.render", "--experiment-folder", folder),
        ("analysis.report", "--experiment-folder", folder),
    ):
        done = command(module, *arguments)
        assert done.returncode == 0, done.stderr
    made = read(folder / "made.json")
    assert made["systems"] == dict.fromkeys(experiment.systems, [0]) and made["not_made"] == {}
    lacking = "Made with some of their seeds so far: 1 of 3 seeds (a4), 1 of 2 seeds (f2)."
    assert lacking in command("analysis.summary", "--experiment-folder", folder).stdout
    assert lacking in (folder / "RESULTS.md").read_text().replace("\\", "")
    assert lacking in (folder / "report.html").read_text()
