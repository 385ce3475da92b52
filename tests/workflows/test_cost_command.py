"""`python -m workflows.cost`: what systems cost before anything is trained, by the real command."""

import csv
import io
import re
import subprocess

import pytest

from analysis.inputs.published import published_table
from tests.workflows.commands import BIN, ROOT, command, one_clear_error, read
from workflows.cost import main
from workflows.steps import cost_rows


def rows_of(*arguments):
    """The CSV that the command prints, and nothing else on standard output, and what it says beside it."""
    done = command("workflows.cost", *arguments)
    assert done.returncode == 0, done.stderr
    return table_of(done.stdout), done.stderr


def table_of(text):
    reader = csv.DictReader(io.StringIO(text), strict=True)
    rows = list(reader)
    assert reader.fieldnames[:2] == ["system", "point"] and rows
    assert all(None not in row and None not in row.values() for row in rows), text
    return rows


@pytest.fixture
def rows_here(monkeypatch, capsys):
    """The same in this process, which has imported everything."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["cost", *map(str, arguments)])
        main()
        out, said = capsys.readouterr()
        return table_of(out), said

    return call


@pytest.fixture(scope="module")
def paper():
    """What the command gives that the README names."""
    (arguments,) = re.findall(r"`python -m workflows\.cost ([^`]+)` counts", (ROOT / "README.md").read_text())
    return rows_of(*arguments.split())


def test_the_documentation_shows_what_the_command_prints(paper):
    section = (
        (ROOT / "docs/experiments.md").read_text().split("## Costs before anything is trained")[1].split("\n## ")[0]
    )
    shown = list(csv.DictReader(io.StringIO(section.split("```\n")[1])))
    (systems,) = re.findall(r"--systems (\S+) --parameters-only\n", section)
    assert shown == [row for row in paper[0] if row["system"] in systems.split(",")]


@pytest.mark.parametrize("table", ["paper_table1", "paper_table2"])
def test_parameters_of_the_papers_tables_come_out_to_the_printed_digit(paper, table):
    rows, said = paper
    assert said == ""
    found = {}
    for row in rows:
        for name in row["published_rows"].split("; "):
            of, _, key = name.partition(" ")
            if of == table and row["input_features"] in ("waveform", row["published_input_features"]):
                millions = published_table(table)[key]["params_millions"]
                digits = len(millions.partition(".")[2])
                assert f"{int(row['parameters']) / 1e6:.{digits}f}" == millions, row
                assert millions in row["published_parameters_millions"].split("; ")
                found[key] = row["system"]
    assert set(found) == set(published_table(table))


def test_what_the_experiment_trains_stands_beside_what_the_paper_counted(paper):
    """80 filter banks; the counts are those of ESPnet's and transformers' own modules, counted by hand."""
    with open("analysis/published/param_counts.csv", newline="") as file:
        expected = {(row["input_dim"], row["physical_layers"]): row["total"] for row in csv.DictReader(file)}
    rows, _ = paper
    for layers in (12, 10, 8, 6, 4):
        own = {row["input_features"]: row["parameters"] for row in rows if row["system"] == f"a{layers}"}
        assert own == {features: expected[features, str(layers)] for features in ("80", "83")}
    assert {row["input_features"] for row in rows if row["system"] == "w12"} == {"waveform"}


def test_every_system_has_a_row_and_what_costs_the_same_has_one(paper):
    from workflows.experiment import load_experiment
    from workflows.part import chosen_part

    rows, _ = paper
    assert {row["system"] for row in rows} == set(chosen_part(load_experiment("paper_librispeech")).systems)
    seen = [(row["system"], row["point"], row["input_features"]) for row in rows]
    assert len(set(seen)) == len(seen)
    depths = [row["depth"] for row in rows if row["system"] == "f6" and row["input_features"] == "80"]
    assert depths == ["6", "8", "10", "12"]


REFERENCE = ROOT / "results/reference/smoke/systems"
KINDS = "a12,f6,w6,a12_uniform65,f6_gate65_int4,a12_low_rank,aio"
WORDS = 10
"""Different words in the transcripts of `smoke`."""


def test_costs_without_data_are_those_of_the_trained_systems(rows_here):
    """Of what was trained for the reference run: weights, zeros, bytes and multiply-accumulates of every point."""
    rows, said = rows_here("smoke", "--systems", KINDS, "--units", WORDS)
    assert said == "" and {row["system"] for row in rows} == set(KINDS.split(","))
    for row in rows:
        trained = read(REFERENCE / row["system"] / "seed0/measured/costs.json")["points"][row["point"]]
        for key in ("parameters_nonzero", "parameters_executed", "stored_bytes", "bits_a_weight", "macs"):
            assert float(row[key]) == pytest.approx(trained[key], rel=1e-6), (key, row)
        assert int(row["parameters"]) == trained["parameters_stored"] and row["audio_seconds"] == "10.0"


SMALL = """
title: small
corpus: {name: switchboard}
test_sets: [test]
tokenizer: {units: char}
features: {mels: 20}
backbone:
  name: conformer
  settings: {input_dim: 20, width: 32, heads: 2, ffn: 32, decoder_layers: 1, decoder_heads: 2, decoder_ffn: 32}
training: {steps: 10, batch_seconds: 4}
decodes: {greedy: {kind: greedy}}
measure: {audio_seconds: 2}
systems:
  a2: {method: baselines.all_physical, backbone: {layers: 2}}
  exits: {method: baselines.intermediate_ctc, backbone: {layers: 2}, settings: {exits: [1], thresholds: [0.1]}}
  thin: {method: baselines.low_rank, backbone: {layers: 2}, settings: {source: {system: a2}, by: energy}}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_memory_and_times_are_measured_when_they_are_asked_for(small):
    (row,), said = rows_of(small, "--systems", "a2", "--memory", "--times")
    assert said == "note: the transcripts are not read: 30 char units are assumed (--units)\n"
    assert row["vocabulary"] == "32" and row["threads"] == "1" and row["device"]
    weights = 4 * int(row["parameters"])
    assert int(row["stored_bytes"]) <= int(row["peak_memory_bytes"]) and float(row["real_time_factor"]) > 0
    # Weights, gradients and the two moments of AdamW at least.
    assert int(row["training_peak_memory_bytes"]) > 4 * weights and float(row["training_step_seconds"]) > 0


@pytest.mark.parametrize("arguments", [[], ["--parameters-only"]])
def test_what_only_training_tells_is_empty_and_said(small, rows_here, arguments):
    rows, said = rows_here(small, "--units", 5, *arguments)
    empty = [(row["system"], row["point"]) for row in rows if "" in (row["parameters"], row.get("macs"))]
    learned = [("thin", "d02_00")] if arguments else [("exits", "h0100"), ("thin", "d02_00")]
    assert empty == learned
    assert [line.split(":")[1] for line in said.splitlines()] == [f" {' '.join(each)}" for each in learned]
    assert [row["parameters"] == "" for row in rows if row["system"] == "exits"] == [False] * 3


def test_what_a_library_prints_is_no_row(small, rows_here, monkeypatch):
    counted = cost_rows.expected_parameters

    def loud(*arguments):
        print("a library warns")
        return counted(*arguments)

    monkeypatch.setattr(cost_rows, "expected_parameters", loud)
    rows, said = rows_here(small, "--systems", "a2", "--units", 5, "--parameters-only")
    assert len(rows) == 1 and said == "a library warns\n"


def test_wrong_arguments_are_named():
    one_clear_error(command("workflows.cost", "smoek"), "did you mean 'smoke'")
    one_clear_error(command("workflows.cost", "smoke", "--systems", "f7"), "unknown system 'f7'")
    done = command("workflows.cost", "smoke", "--parameters-only", "--memory")
    assert done.returncode == 2 and "leave out --memory and --times" in done.stderr and done.stdout == ""


# Switchboard: everything but its corpus is there.


def test_the_papers_switchboard_experiment_has_its_conformers_and_the_same_costs(paper, rows_here):
    from workflows.experiment import load_experiment

    experiment = load_experiment("paper_switchboard")
    assert {table.kind for table in experiment.tables.values()} == {"table1", "table4"}
    assert set(published_table("paper_table1")) <= set(experiment.tables["table1"].rows)
    assert set(published_table("paper_table4")) <= set(experiment.tables["table4"].rows)
    rows, said = rows_here("paper_switchboard", "--parameters-only")
    beside = [row for row in paper[0] if row["system"] in experiment.systems]
    assert rows == beside and said == ""


@pytest.mark.parametrize("module", ["workflows.folder", "workflows.check"])
def test_an_experiment_whose_corpus_is_to_follow_is_refused_before_any_work(module):
    done = command(module, "--experiment", "paper_switchboard")
    one_clear_error(done, "corpus 'switchboard' cannot be prepared yet", "docs/add_a_corpus.md", "workflows.cost")
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_a_dry_run_of_such_an_experiment_says_it_too(tmp_path):
    words = [
        str(BIN / "snakemake"),
        "-n",
        "--nolock",
        "--config",
        "experiment=paper_switchboard",
        f"results={tmp_path}",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "cannot be prepared yet" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
