"""The whole workflow through the real commands, on an experiment that trains next to nothing."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.workflows.commands import ROOT, TINY, jobs, measured, read, snakemake
from workflows.experiment import load_experiment


def systems(run):
    return sorted(path.name for path in (run / "systems").iterdir())


def test_every_system_has_model_transcripts_costs_and_provenance(run):
    assert systems(run) == sorted(load_experiment(str(run.parent / "tiny.yaml")).systems)
    for name in systems(run):
        folder = run / "systems" / name / "seed0"
        points = read(folder / "eval" / "points.json")
        assert points["system"] == name and bool(points["points"]) == (name != "heard")
        for decode, entry in points["decodes"].items():
            for test_set, decoded in entry["sets"].items():
                for point in decoded["points"]:
                    lines = (folder / "eval" / decode / test_set / f"{point}.trn").read_text().splitlines()
                    assert len(lines) == decoded["utterances"]
        for cost in read(folder / "measured" / "costs.json")["points"].values():
            assert cost["parameters_stored"] >= cost["parameters_executed"] > 0
            assert cost["macs"] > 0 and cost["peak_memory_bytes"] > 0
            assert cost["real_time_factor"]["repeats"] >= 5
        provenance = read(folder / "provenance.json")
        assert provenance["seed"] == 0 and provenance["wall_seconds"] > 0
        assert provenance["versions"]["torch"] and provenance["device"]
        assert provenance["configuration"]["method"] == points_method(folder)


def points_method(folder):
    return read(folder / "system.json")["method"]


def test_points_of_a_foldable_system(run):
    points = read(run / "systems/f2/seed0/eval/points.json")["points"]
    assert [point["path"] for point in points] == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert [point["trained"] for point in points] == [True, False, False, True]
    extra = read(run / "systems/a4/seed0/eval/points.json")["points"]
    assert [(point["path"], point["offered"]) for point in extra] == [([1, 1, 1, 1], True), ([1, 1, 0, 0], False)]


def test_beam_decodes_the_points_of_the_tables_only(run):
    decodes = read(run / "systems/f2/seed0/eval/points.json")["decodes"]
    sets = decodes["beam"]["sets"]
    chosen = sets["test_a"]["points"]
    assert {"d02_00", "d04_00"} < set(chosen)
    (choice,) = decodes["beam"]["choices"]
    assert {choice["point"], choice["on_dev"]} == set(chosen) - {"d02_00", "d04_00"}
    assert sets["test_a"]["utterances"] == 2


def test_a_family_is_decoded_by_its_own_decodes_on_all_sets(run):
    own, speech = (read(run / f"systems/{name}/seed0/eval/points.json")["decodes"] for name in ("f2", "fw1"))
    assert set(own) == {"greedy", "beam"} and set(speech) == {"greedy"}
    sets = ["dev", "test_a", "test_b", "test_c"]
    assert sorted(own["greedy"]["sets"]) == sorted(speech["greedy"]["sets"]) == sets
    texts = (run / "systems/fw1/seed0/eval/greedy/test_c/d02_00.trn").read_text()
    references = (run / "data/synth/test_c.trn").read_text()
    spoken = [re.findall(r"\(.*\)", text) for text in (texts, references)]
    assert len(spoken[0]) == 4 and spoken[0] == spoken[1]


def test_a_model_that_recognises_nothing_has_no_points(run):
    folder = run / "systems/heard/seed0"
    points = read(folder / "eval/points.json")
    assert points["points"] == [] and points["decodes"] == {}
    assert read(folder / "measured/costs.json")["points"] == {}


def test_costs_follow_the_path(run):
    costs = read(run / "systems/f2/seed0/measured/costs.json")["points"]
    one, two = costs["d02_00"], costs["d04_00"]
    assert one["parameters_stored"] == two["parameters_stored"]
    assert two["macs"] > one["macs"]
    dropped = read(run / "systems/a4/seed0/measured/costs.json")["points"]["x02_00"]
    assert dropped["parameters_executed"] < dropped["parameters_stored"]


def test_toys_are_what_they_claim(run):
    student = read(run / "systems/student/seed0/system.json")
    assert student["architecture"] == {"units": 16}
    log = [json.loads(line) for line in (run / "systems/student/seed0/log.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in log} == {"distil", "train"}
    whole = read(run / "systems/a4/seed0/measured/costs.json")["points"]["d04_00"]
    small = read(run / "systems/int8/seed0/measured/costs.json")["points"]["d04_00"]
    assert small["stored_bytes"] < whole["stored_bytes"]
    widths = read(run / "systems/widths/seed0/measured/costs.json")["points"]
    assert widths["width050"]["macs"] < widths["width100"]["macs"]
    assert widths["width050"]["stored_bytes"] < widths["width100"]["stored_bytes"]


def test_tables_figures_and_summary(run):
    for name in ("table1", "table4"):
        for kind in ("csv", "md", "tex", "html"):
            assert (run / "tables" / f"{name}.{kind}").stat().st_size > 0
    for kind in ("svg", "pdf"):
        assert (run / "figures" / f"figure2.{kind}").stat().st_size > 0
    summary = (run / "RESULTS.md").read_text()
    assert "not evidence" in summary and "train_system" in summary
    assert "Not evidence." in (run / "report.html").read_text()


def test_points_that_are_not_paths_have_rows_and_costs(run):
    with (run / "tables/table1.csv").open() as file:
        rows = {row["sys"]: row for row in csv.DictReader(file)}
    assert {"W1", "W2", "Q1"} <= set(rows) and float(rows["W2"]["wer"]) > 0
    costs = (run / "tables/costs.csv").read_text()
    assert "widths" in costs and "int8" in costs


def test_a_second_call_has_nothing_to_do(run):
    again = snakemake(run.parent, "-n")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def planned(run):
    """Messages of the jobs that one dry run announces."""
    done = snakemake(run.parent, "-n")
    assert done.returncode == 0, done.stderr
    return jobs(done)


def test_a_changed_setting_retrains_its_system_and_those_that_start_from_it_in_one_call(run, alone):
    experiment = run.parent / "tiny.yaml"
    before = experiment.read_text()
    try:
        experiment.write_text(before.replace("{depth: 4, kl: {start_step: 4}}", "{depth: 4, alpha_kl: 0.2}"))
        made, chain = planned(run), ["f2", "f2_half", "f2_half_int4"]
        assert [job for job in made if job.startswith("Train")] == [f"Train {name}, seed 0" for name in chain]
        assert [job for job in made if job.startswith("Measure what")] == [measured(name) for name in chain]
        experiment.write_text(before.replace("a4: {method: baselines.all_physical}", A4_CHANGED))
        retrained = [job for job in planned(run) if job.startswith("Train")]
        assert retrained == ["Train a4, seed 0", "Train int8, seed 0", "Train student, seed 0"]
        assert "Decode all points of student, seed 0" in planned(run)
    finally:
        experiment.write_text(before)


def test_a_change_in_one_family_and_a_new_one_leave_the_others(run, alone):
    experiment = run.parent / "tiny.yaml"
    before = experiment.read_text()
    values = yaml.safe_load(before)
    speech = values["families"]["speech"]
    try:
        values["families"]["more"] = {**speech, "title": "more", "tokenizer": {"units": "char"}}
        values["systems"]["m1"] = {"family": "more", "method": "baselines.all_physical", "backbone": {"layers": 1}}
        experiment.write_text(yaml.safe_dump(values))
        made = [job for job in planned(run) if job.startswith(("Train", "Prepare", "Decode", "Measure"))]
        decoded, prepared = "Decode all points of m1, seed 0", "Prepare tokenizer and features of more"
        assert made == [decoded, measured("m1"), prepared, "Train m1, seed 0"]
        values = yaml.safe_load(before)
        values["families"]["speech"]["tokenizer"] = {"units": "char"}
        experiment.write_text(yaml.safe_dump(values))
        made = [job for job in planned(run) if job.startswith(("Train", "Prepare"))]
        trained = [f"Train {name}, seed 0" for name in ("fw1", "fw1_int8", "heard", "w2")]
        assert made == ["Prepare tokenizer and features of speech", *trained]
        values = yaml.safe_load(before)
        values["features"]["speed_factors"] = [0.9, 1.0]
        experiment.write_text(yaml.safe_dump(values))
        made = [job for job in planned(run) if job.startswith(("Train", "Prepare"))]
        assert made[0] == "Prepare tokenizer and features"
        assert [job.split()[1] for job in made[1:]] == [
            *("a2,", "a4,", "f2,", "f2_half,", "f2_half_int4,", "int8,", "student,", "widths,")
        ]
    finally:
        experiment.write_text(before)


A4_CHANGED = "a4: {method: baselines.all_physical, backbone: {layer_drop: 0.2}}"


def test_a_failed_job_leaves_the_earlier_results(run, tmp_path):
    """Snakemake would delete a job's outputs before it starts; ours stay until there are better ones. In a copy, for
    what Snakemake notes of a job is gone after a failure."""
    shutil.copy(run.parent / "tiny.yaml", tmp_path)
    run = shutil.copytree(run, tmp_path / "tiny")
    damaged = {
        run / "systems/f2/seed0/eval/greedy/test_a/d02_00.trn": "analyse",
        run / "data/synth/tokenizer.json": "train_system",
    }
    kept = [run / "RESULTS.md", run / "tables/table1.html", run / "systems/f2/seed0/model.safetensors"]
    before = {path: path.read_bytes() for path in kept}
    for path, rule in damaged.items():
        content = path.read_bytes()
        try:
            path.write_bytes(content[: len(content) // 2])
            target = run / ("RESULTS.md" if rule == "analyse" else "systems/f2/seed0/model.safetensors")
            done = snakemake(run.parent, str(target), "--forcerun", rule, "--rerun-triggers", "params")
            assert done.returncode != 0 and "error: " in done.stdout + done.stderr
            assert {path: path.read_bytes() for path in kept} == before
        finally:
            path.write_bytes(content)


def test_report_holds_the_summary_and_needs_no_network(run, tmp_path):
    report = tmp_path / "snakemake_report.html"
    done = snakemake(run.parent, "--report", str(report), env={**os.environ, "https_proxy": "http://127.0.0.1:9"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "RESULTS.md" in report.read_text() and "figure2" in report.read_text()


@pytest.mark.parametrize(
    ("system", "checkpoint", "inputs"),
    [
        ("f2", "stage0/checkpoint.pt", []),
        ("student", "stage1/checkpoint.pt", ["a4"]),
        ("f2_half", "stage0/checkpoint.pt", ["f2"]),
    ],
    ids=["in the only stage", "in the second stage, with a teacher and a changed shape", "of a derived system"],
)
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(run, tmp_path, system, checkpoint, inputs):
    """SIGKILL after a checkpoint; the rerun resumes and is bit-identical to the run that was not killed, also where
    meanwhile something was changed that decides nothing."""
    out = tmp_path / system
    changed = tmp_path / "tiny.yaml"
    changed.write_text((ROOT / TINY).read_text().replace("log_every: 2", "log_every: 1") + "# A remark.\n")
    command = [sys.executable, "-m", "workflows.train", "--experiment", TINY, "--system", system]
    command += ["--data", str(run / "data/synth"), "--out", str(out)]
    command += [word for name in inputs for word in ("--input", f"{name}={run}/systems/{name}/seed0")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reached = out / "work" / checkpoint
    deadline = time.monotonic() + 120
    while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert reached.exists() and not (out / "model.safetensors").exists(), "the training was too quick to be killed"
    command[command.index(TINY)] = str(changed)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [
        line.split() for line in done.stderr.splitlines() if "/" in line and line.startswith(("train ", "distil "))
    ]
    assert lines[0][0] == "train" and int(lines[0][1].split("/")[0]) > 2, "it did not resume"
    expected = run / f"systems/{system}/seed0/model.safetensors"
    assert (out / "model.safetensors").read_bytes() == expected.read_bytes()
    assert not (out / "work").exists()


def test_provenance_says_which_precision_ran(run):
    found = {
        name: read(run / f"systems/{name}/seed0/provenance.json")["precision"] for name in ("a2", "student", "int8")
    }
    assert found == {
        "a2": {"asked": "tf32-mixed", "ran": {"train": "32-true"}, "device": "cpu"},
        "student": {"asked": "bf16-mixed", "ran": {"distil": "bf16-mixed", "train": "bf16-mixed"}, "device": "cpu"},
        "int8": {"asked": "32-true", "ran": {}, "device": "cpu"},
    }


def test_a_checkpoint_of_another_configuration_is_refused(run, tmp_path):
    """Left-over work of other settings is neither resumed nor thrown away."""
    out = tmp_path / "a2"
    shutil.copytree(run / "systems/a2/seed0", out)
    import torch

    (out / "work/stage0").mkdir(parents=True)
    state = {"fingerprint": json.dumps({"training": {"steps": 99}})}
    torch.save(state, out / "work/stage0/checkpoint.pt")
    command = [sys.executable, "-m", "workflows.train", "--experiment", TINY, "--system", "a2"]
    command += ["--data", str(run / "data/synth"), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "belongs to another configuration" in done.stderr and "training.steps" in done.stderr
    assert (out / "model.safetensors").read_bytes() == (run / "systems/a2/seed0/model.safetensors").read_bytes()
