"""What stands behind the rows of `make bench`: loops that take turns, counted operations, runs that are read."""

import csv
import json
import os
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch

from benchmarks import jobs, training_step
from benchmarks.comparison import Bench, parser
from benchmarks.joint_step import main as joint_step
from benchmarks.loops.turns import sides
from benchmarks.rates import matrix_rate, operations
from benchmarks.smoke_training import Trained, deepest_wer, one_of_each_method, read_system, seconds_row, table
from benchmarks.training_step import Loop, earlier_checkout, race
from common.errors import UserError
from common.files import write_json
from tests.reference import METHODS, REFERENCE
from workflows.experiment.merging import merged_file

LOOPS = Path("benchmarks/loops").resolve()
LOOP = """
import sys
from turns import Turn

take_turn = Turn(warm_up=1)
for number in range(100):
    print("what a library prints", number)
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[2])
    if number == 3 and sys.argv[2] == "B":
        sys.exit("B has had enough")
    take_turn()
"""


def bench(*options):
    return Bench(parser("x", "x").parse_args(["--device", "cpu", "--quick", *options]))


def test_loops_take_turns_and_say_why_one_ended(tmp_path):
    """One warm-up step of each, then a step of A, a step of B, …"""
    steps = tmp_path / "steps"
    commands = [[sys.executable, "-c", LOOP, str(steps), name] for name in "AB"]
    with sides(commands, [{"PYTHONPATH": str(LOOPS)}] * 2, [None] * 2) as (first, second):
        taken = [side.step() for _ in range(2) for side in (first, second)]
        assert steps.read_text() == "AB" + "ABAB" and all(0 < seconds < 10 for seconds in taken)
        first.step()
        with pytest.raises(RuntimeError, match="B has had enough"):
            second.step()
    assert first.process.poll() is not None


def tiny(**changes):
    shape = {"input_dim": 20, "layers": 2, "width": 16, "ffn": 32, "kernel": 7, "layer_drop": 0.0}
    shape |= {"decoder_layers": 1, "decoder_ffn": 32, **changes}
    return training_step._given("conformer", shape, 12, [70, 60], [3, 2])


def test_our_loop_and_espnets_take_turns():
    """The real loops: run_stage, and ESPnet's trainer on its own model."""
    (times,) = race(bench(), [Loop("ours", tiny()), Loop("espnet_trainer", tiny())], 1, 0)
    assert len(times) == 2 and all(seconds > 0 for seconds in times)


@pytest.mark.slow
def test_our_loop_runs_on_an_earlier_commit():
    """The one that the speed of `smoke` is held against."""
    try:
        with earlier_checkout(training_step.EARLIER) as checkout:
            assert race(bench(), [Loop("ours", tiny(), checkout)], 1, 0)[0][0] > 0
    except UserError as error:
        assert "is not in this history" in str(error)
        pytest.skip(str(error))


def test_espnets_model_has_the_weights_of_ours(monkeypatch):
    """What is timed beside ours is the same model: its parameters have our names and shapes."""
    monkeypatch.syspath_prepend(str(LOOPS))
    import espnet_trainer

    from asr.backbones.conformer import Config, build

    config = Config(**tiny()["backbone"]["settings"])
    ours, theirs = build(config, 12), espnet_trainer.build(config, 12)
    shapes = [{name: weight.shape for name, weight in model.named_parameters()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_another_commits_code():
    with pytest.raises(UserError, match="commit 0000000 is not in this history"), earlier_checkout("0000000"):
        pass
    with earlier_checkout("HEAD") as checkout:
        assert (checkout / "asr" / "training.py").exists() and checkout.resolve() != Path.cwd()


def test_operations_are_counted():
    left, right = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    assert operations(lambda: left @ right) == 2 * 3 * 4 * 5
    assert operations(lambda: (left @ right).sum().backward()) == 3 * 2 * 3 * 4 * 5, "and both gradients"
    assert matrix_rate(bench(), torch.float32) > 0


def test_a_joint_step_saves_operations():
    """6 -> 12 runs 17 layers and one front end instead of 18 and two."""
    options = ["--device", "cpu", "--quick", "--threads", "1", "--layers", "6", "--backbones", "conformer"]
    (row,) = joint_step(options)
    saved = float(row.measure.split("of the ")[1].split(" %")[0])
    assert row.name == "joint step 6 -> 12, the paper's Conformer" and 100 / 18 < saved < 50


LOG = """\
SNAKEMAKE
=========
  Date: 2026-11-27 13:00:00

Provided cores: 2
[Fri Nov 27 13:00:02 2026]
Job 2: Check
Elapsed time: 0:01:40.5
"""


def job(path, seconds, cpu, ended):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:00:01\t1.0\t{cpu}\n")
    when = datetime.fromisoformat(f"2026-11-27 {ended}").timestamp()
    os.utime(path, (when, when))


def test_how_a_run_used_its_processors(tmp_path):
    """100.5 s on two cores, 20.5 of them alone: 160 s of cores for the others, of which they took 10 x 2 + 60 + 40."""
    folder = tmp_path / "smoke" / "benchmarks"
    job(folder / "prepare_data.tsv", 10, 15, "13:00:12")
    job(folder / "train_system" / "a12-0.tsv", 60, 55, "13:01:12")
    job(folder / "train_system" / "f6-0.tsv", 40, "NA", "13:00:52")
    job(folder / "measure_costs" / "a12-0.tsv", 20.5, 10, "13:01:40")
    job(folder / "train_system" / "yesterday-0.tsv", 500, 400, "10:00:00")
    log = tmp_path / "run.log"
    log.write_text(LOG)
    unfinished = tmp_path / "unfinished.log"
    unfinished.write_text(LOG.split("Elapsed")[0])
    made = jobs.run_of(jobs.read_jobs(folder), [log, unfinished])
    text, (row,) = jobs.accounts(*made)
    assert row.ratio == pytest.approx((20 + 60 + 40) / 160)
    assert "| train_system | 2 | 100.0 | 100.0 | 55.0 |" in text
    assert (row.ours, row.theirs) == (120, 160)
    with pytest.raises(UserError, match="no log"):
        jobs.run_of(made[1], [unfinished])
    with pytest.raises(UserError, match="no finished job"):
        jobs.read_jobs(tmp_path / "nowhere")


def test_every_method_is_trained():
    systems = merged_file(Path("config/smoke.yaml"))["systems"]
    chosen = one_of_each_method(systems)
    methods = [systems[name]["method"] for name in chosen]
    assert set(METHODS) | {"baselines.all_physical", "baselines.masked_prediction"} <= set(methods)
    assert len(methods) == len(set(methods)) + 1, "one of each, and a speech encoder"


def test_what_a_run_without_transcripts_says():
    """The committed run: WERs are those of its tables."""
    with open(REFERENCE / "tables" / "table1.csv", newline="") as file:
        wers = {row["sys"]: float(row["wer"]) for row in csv.DictReader(file)}
    assert deepest_wer(REFERENCE, "a12") == pytest.approx(wers["1"], abs=1e-4)
    assert deepest_wer(REFERENCE, "f6") == pytest.approx(wers["S1"], abs=1e-4)
    found = read_system(REFERENCE, "a12")
    assert found.method == "baselines.all_physical" and found.seconds > 0
    assert read_system(REFERENCE, "nobody") is None


def test_what_a_run_with_transcripts_says(tmp_path):
    """Six words of two sets, of which the deepest trained point has one wrong."""
    place = tmp_path / "systems" / "f6" / "seed0"
    points = [("d06", 6, True), ("d12", 12, True), ("d24", 24, False)]
    described = [{"id": name, "depth": depth, "trained": trained} for name, depth, trained in points]
    write_json(place / "eval" / "points.json", {"points": described})
    write_json(place / "provenance.json", {"configuration": {"method": "methods.unfolding"}, "wall_seconds": 50.0})
    rows = [{"step": 1, "dev.total": 9.0}, {"step": 2, "dev.total": 7.0}, {"step": 2, "total": 3.0}]
    (place / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, said, heard in [
        ("test_a", "one two", "one two"),
        ("test_b", "one two three four", "one five three four"),
    ]:
        reference = tmp_path / "data" / "synth" / f"{name}.trn"
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(f"{said} (s1-u1)\n")
        for point, words in [("d06", "nothing"), ("d12", heard), ("d24", "nothing")]:
            transcript = place / "eval" / "greedy" / name / f"{point}.trn"
            transcript.parent.mkdir(parents=True, exist_ok=True)
            transcript.write_text(f"{words} (s1-u1)\n")
    found = read_system(tmp_path, "f6")
    assert found == Trained("methods.unfolding", 7.0, pytest.approx(100 / 6), 50.0)
    there = {"f6": Trained("methods.unfolding", 8.0, 11.5, 100.0)}
    assert "| f6 | `methods.unfolding` | 7.0000 | 8.0000 | 16.67 | 11.50 | 50 | 100 |" in table({"f6": found}, there)
    (row,) = seconds_row({"f6": found, "a12": found}, there, "bf16", "there", "GPU")
    assert (row.ratio, row.name) == (2.0, "training of 1 systems of `smoke`, bf16")
