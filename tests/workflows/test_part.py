"""A part of an experiment, then the whole: nothing is made twice, and what is up to date is shown."""

import re
import shutil
import subprocess
from functools import partial, reduce
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from tests.workflows.commands import ROOT, TINY, command, jobs, measured, one_clear_error, read, snakemake
from tests.workflows.parts import ONLY, files_of, running_beside
from workflows.experiment import load_experiment
from workflows.experiment.entries import ParetoEntry
from workflows.experiment.merging import NO_EXPERIMENTS
from workflows.identity import Identities
from workflows.part import Part, chosen_part, joined, shown_by
from workflows.why import Plan, files_to_force

ANALYSED = [
    "Name what is made and up to date",
    "Score, test significance, render tables and figures",
    "Write the report, one page that opens offline",
]


def test_a_part_makes_what_its_tables_and_systems_need(both):
    assert jobs(both.part) == sorted(
        [
            "Check the experiment: methods, settings, paths",
            "Prepare the corpus: recordings, manifests, reference transcripts",
            "Prepare tokenizer and features",
            *(f"Train {name}, seed 0" for name in ("a4", "f2", "f2_half")),
            *(f"Decode all points of {name}, seed 0" for name in ("a4", "f2_half")),
            *(measured(name) for name in ("a4", "f2_half")),
            *ANALYSED,
        ]
    )


def test_a_part_followed_by_the_whole_makes_nothing_twice(both):
    assert sorted(set(jobs(both.part)) & set(jobs(both.whole))) == ANALYSED
    now = files_of(both.run)
    assert len(both.files) > 100 and {path: now[path] for path in both.files} == both.files


def test_a_part_after_the_whole_has_nothing_to_do(run):
    done = snakemake(run.parent, "-n", only="figure2,  table4", systems="w2")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr, done.stderr


def test_one_system_is_measured_at_a_time_with_nothing_beside_it(both):
    systems = load_experiment(TINY).systems
    for run, count in ((both.part, 2), (both.whole, len(systems) - 2)):
        found = dict(running_beside(run.stdout + run.stderr, "Measure what"))
        assert len(found) == count and not any(found.values()), found
    profiles = (yaml.safe_load(path.read_text()) for path in (ROOT / "workflows/profiles").glob("*/config.yaml"))
    assert all("measuring=1" in profile["resources"] for profile in profiles)


def test_measuring_comes_last(both):
    said = re.findall(r"^Job \d+: (\w+)", both.whole.stdout + both.whole.stderr, re.MULTILINE)
    assert {*said[said.index("Measure") :]} == {"Measure", "Name", "Score", "Write"}, said


def test_a_part_shows_what_is_made_and_names_the_rest(both):
    text = (both.shown / "RESULTS.md").read_text()
    lacking = (
        "Not made so far: table1 (needs a2, f2, widths, int8, 1 more), bits (needs f2, f2_half_int4, fw1, "
        "fw1_int8), figure2 (needs f2, a2), repeated_errors (needs f2, the weight errors of f2, the weight errors of "
        "a4), student, heard, w2."
    )
    assert lacking in text.replace("\\", "") and lacking in (both.shown / "report.html").read_text()
    assert "## Table 4" in text and "## Table 1" not in text and "## Figure" not in text
    assert sorted(path.name for path in (both.shown / "tables").glob("*.md")) == ["costs.md", "decodes.md", "table4.md"]
    assert "f2_half: depth 4" in text, "the headline is of what is there"
    reasons = [claim["reason"] for claim in read(both.shown / "claims.json")["claims"]]
    assert "table1.F5 was not made: it needs f2" in reasons, reasons
    assert read(both.shown / "made.json")["systems"] == {"a4": [0], "f2_half": [0]}
    whole = (both.run / "RESULTS.md").read_text()
    assert "Not made" not in whole + (both.run / "report.html").read_text() and "## Table 1" in whole
    assert read(both.run / "made.json")["not_made"] == {}


def test_what_is_out_of_date_is_not_shown_and_not_made_again_by_a_part(run, alone, tmp_path):
    experiment = run.parent / "tiny.yaml"
    before = experiment.read_text()
    copy = shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("audio"))
    changed = before.replace("kl: {start_step: 4}", "alpha_kl: 0.2")
    (tmp_path / "tiny.yaml").write_text(changed)
    try:
        experiment.write_text(changed)
        made = jobs(snakemake(run.parent, "-n", only=ONLY))
        assert made == ["Check the experiment: methods, settings, paths", *ANALYSED]
    finally:
        experiment.write_text(before)
    arguments = ["--experiment", tmp_path / "tiny.yaml", "--results", tmp_path, "--only", ONLY]
    said = command("workflows.why", *arguments).stdout
    assert said.startswith("check: ") and "train" not in said, said
    arguments = ["--experiment", tmp_path / "tiny.yaml", "--systems", "a4=0"]
    assert command("workflows.made", *arguments, "--out", copy / "made.json").returncode == 0
    assert read(copy / "made.json")["not_made"] == {
        "f2": 'settings.settings.alpha_kl: null -> 0.2, settings.settings.kl: {"start_step": 4} -> null',
        "f2_half": "follows train f2, seed 0",
        "f2_half_int4": "follows train f2, seed 0, train f2_half, seed 0",
    }
    assert command("analysis.render", "--experiment-folder", copy).returncode == 0
    said = command("analysis.summary", "--experiment-folder", copy).stdout
    stale = "(needs an up-to-date f2, an up-to-date f2_half, an up-to-date f2_half_int4)"
    lacking = f"table1 {stale}, bits {stale}, figure2 (needs an up-to-date f2)"
    assert lacking in said and lacking in (copy / "RESULTS.md").read_text().replace("\\", "")
    assert "table1 of tiny" not in said and "## Table 4" in (copy / "RESULTS.md").read_text()


def test_what_a_part_shows_of_other_systems_is_never_made_again_by_it(run, tmp_path):
    """In a folder that was copied, where all that Snakemake knows are times."""
    copy = shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("audio"))
    shutil.copy(run.parent / "tiny.yaml", tmp_path)
    for path in (*(copy / "data").rglob("*.json"), *(copy / "systems").rglob("system.json")):
        path.touch()
    made = jobs(snakemake(tmp_path, "-n", only=ONLY))
    assert "Train a4, seed 0" in made and measured("a4") in made, made
    about = [job for job in made if job.startswith(("Train", "Decode", "Measure", "Leave"))]
    assert all(" a4, seed 0" in job for job in about), about


def seed_0(*names):
    return dict.fromkeys(names, (0,))


@pytest.fixture
def experiment():
    return load_experiment(TINY)


def test_names_choose_systems_and_whose_sensitivity_is_shown(tmp_path):
    values = yaml.safe_load((ROOT / TINY).read_text())
    figure = {"kind": "depth_curves", "decode": "greedy", "systems": ["fw1"], "sensitivity": "w2"}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**values, "figures": {"figure3": figure}}, sort_keys=False))
    experiment = load_experiment(str(tmp_path / "tiny.yaml"))
    found = chosen_part(experiment, " figure3 , table4 ", "a2")
    assert found == Part(seed_0("a4", "a2", "fw1"), seed_0("sensitivity of w2"))
    assert chosen_part(experiment) == Part(seed_0(*experiment.systems), seed_0("sensitivity of w2"))
    everything = experiment.model_copy(update={"figures": {**experiment.figures, "front": ParetoEntry(kind="pareto")}})
    assert chosen_part(everything, "front") == chosen_part(everything) and not chosen_part(everything, "table4").studies
    one, other = chosen_part(experiment, systems="fw1, a4"), chosen_part(experiment, "figure3")
    assert shown_by(experiment, one) == (["table4"], []), "its sensitivity is not asked for"
    assert shown_by(experiment, other) == ([], ["figure3"])
    assert joined(experiment, one, other) == Part(seed_0("a4", "fw1"), seed_0("sensitivity of w2"))


PARTS = {"more": ["bits", "repeated_errors"]}


def in_parts(folder, name="tiny"):
    values = yaml.safe_load((ROOT / TINY).read_text())
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**values, "parts": PARTS}, sort_keys=False))
    return load_experiment(str(path))


def test_what_is_in_a_part_is_made_when_it_is_asked_for(tmp_path):
    """f2_half_int4 stands in a table outside of the part too, fw1_int8 does not; `student` in none at all; nor do w2
    and heard, which fw1 starts from, so that they come with the part."""
    experiment = in_parts(tmp_path)
    always, more, whole = (chosen_part(experiment, only) for only in ("", "more", "all"))
    left_out = {"fw1", "fw1_int8", "w2", "heard"}
    assert set(experiment.systems) - set(always.systems) == left_out and not always.studies
    assert more == Part(
        seed_0("a4", "f2", "heard", "w2", "fw1", "f2_half", "f2_half_int4", "fw1_int8"),
        seed_0("weight errors of f2", "weight errors of a4"),
    )
    assert chosen_part(experiment, "bits").systems.keys().isdisjoint({"heard", "w2"}), "a table shows its rows alone"
    assert whole == Part(seed_0(*experiment.systems), more.studies)
    assert chosen_part(experiment, "more, table4") == joined(experiment, more, chosen_part(experiment, "table4"))
    assert chosen_part(experiment, "table4, all") == whole
    assert shown_by(experiment, always) == (["table1", "table4"], ["figure2"])


@pytest.mark.parametrize("name", sorted({path.stem for path in (ROOT / "config").glob("*.yaml")} - {*NO_EXPERIMENTS}))
def test_parts_and_what_is_in_none_are_the_whole(name):
    experiment = load_experiment(name)
    parts = [chosen_part(experiment, only) for only in ("", *experiment.parts)]
    assert reduce(partial(joined, experiment), parts) == chosen_part(experiment, "all")


def test_a_part_decides_nothing_of_what_it_holds(tmp_path):
    """The same systems, rows and points as without it: what is made with it is what is made without it."""
    plain, parted = load_experiment(TINY), in_parts(tmp_path)
    for name in plain.systems:
        recipes = [
            (each.training_recipe(name), each.evaluation_recipe(name), each.costs_recipe(name))
            for each in (Identities(experiment, tmp_path) for experiment in (plain, parted))
        ]
        assert recipes[0] == recipes[1], name


def test_a_part_of_which_nothing_is_made_is_named_as_a_whole(tmp_path):
    from analysis.inputs.made import not_made
    from analysis.inputs.schemas import Experiment, Made

    experiment = in_parts(tmp_path)
    values = Experiment.model_validate({**experiment.resolved, "normaliser": {}})
    made = Made(systems=chosen_part(experiment).systems, not_made=dict.fromkeys(("fw1", "fw1_int8", "w2")))
    said = not_made(values, made)
    assert "the part more (make reproduce EXPERIMENT=tiny ONLY=more: bits, repeated_errors)" in said
    assert "needs" not in said
    studies = seed_0("weight errors of f2", "weight errors of a4")
    with_it = Made(systems=made.systems, studies=studies, not_made=made.not_made)
    assert "bits (needs fw1, fw1_int8)" in not_made(values, with_it), "some of it is shown"


def test_the_workflow_takes_the_names_of_parts(tmp_path):
    in_parts(tmp_path)
    trained = {}
    for only in ("", "more", "all"):
        done = snakemake(tmp_path, "-n", only=only)
        assert done.returncode == 0, done.stderr
        trained[only] = {job.split()[1].rstrip(",") for job in jobs(done) if job.startswith("Train ")}
    assert {"student", "f2"} < trained[""] and not {"fw1", "fw1_int8"} & trained[""]
    assert {"fw1", "fw1_int8", "heard"} < trained["more"] and "student" not in trained["more"]
    assert trained["all"] == trained[""] | trained["more"]
    assert "did you mean 'more'" in snakemake(tmp_path, "-n", only="mroe").stderr


@pytest.mark.parametrize(
    ("only", "systems", "words"),
    [
        ("tabel4", "", "only: unknown table, figure or part 'tabel4'; did you mean 'table4'?"),
        ("table4", "f2_hlaf", "systems: unknown system 'f2_hlaf'; did you mean 'f2_half'?"),
        ("a4", "", "only: unknown table, figure or part 'a4'"),
    ],
)
def test_what_nobody_knows_is_refused(experiment, only, systems, words):
    with pytest.raises(UserError, match=re.escape(words)):
        chosen_part(experiment, only, systems)


def test_the_commands_refuse_it_before_any_work(run, tmp_path):
    done = snakemake(run.parent, "-n", only="tabel4")
    assert done.returncode != 0 and "error: only: unknown table, figure or part 'tabel4'" in done.stderr
    assert "Traceback" not in done.stderr
    done = command("workflows.why", "--experiment", TINY, "--systems", "f3", "--force")
    one_clear_error(done, "systems: unknown system 'f3'")


def test_make_passes_the_names_on():
    words = ["make", "-n", "reproduce", "ONLY=table1, bits", "SYSTEMS=f6", "SEEDS=0"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--config experiment='smoke' only='table1, bits' systems='f6' seeds='0'" in said
    one_line = said.replace("\\\n", "").replace("\t", "")
    assert "--only 'table1, bits' --systems 'f6' --seeds '0' --fresh '' --force" in one_line
    said = subprocess.run(words[:3], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "only=" not in said.replace("--only", "")


def test_a_system_is_measured_for_itself(experiment, run):
    """Another system's weights decide nothing of what one costs."""
    identities = Identities(experiment, run)
    heard = {name: identities.costs_contents(name, run / f"systems/{name}/seed0") for name in ("a4", "w2")}
    assert sorted(heard["a4"]) == ["cmvn.json", "set train", "system", "tokenizer.json"]
    assert sorted(heard["w2"]) == ["set train", "speech/tokenizer.json", "system"]
    assert "asr/backbones/wav2vec2.py" not in identities.costs_recipe("a4")["sources"]


def test_a_plan_knows_what_is_up_to_date(experiment, run, tmp_path):
    assert Plan(experiment, run).made() == chosen_part(experiment)
    assert Plan(experiment, tmp_path / "nothing").made() == Part({}, {})


def test_a_study_that_is_out_of_date_is_named_anew(experiment, run, tmp_path):
    """Where Snakemake has no notes, what `made.json` says of studies counts too."""
    copy = Path(shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("audio")))
    plan, part = Plan(experiment, copy), chosen_part(experiment, "table4")
    assert files_to_force(plan, part) == []
    (copy / "systems/f2/seed0/weight_errors.identity.json").unlink()
    assert files_to_force(Plan(experiment, copy), part) == [str(copy / "made.json")]
