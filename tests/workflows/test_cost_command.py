"""`python -m workflows.cost`: what systems cost before anything is trained, by the real command."""

import csv
import io

import pytest

from analysis.inputs.published import published_table
from tests.workflows.commands import command


def rows_of(*arguments):
    """The CSV that the command prints, and nothing else on standard output, and what it says beside it."""
    done = command("workflows.cost", *arguments)
    assert done.returncode == 0, done.stderr
    reader = csv.DictReader(io.StringIO(done.stdout), strict=True)
    rows = list(reader)
    assert reader.fieldnames[:2] == ["system", "point"] and rows
    assert all(None not in row and None not in row.values() for row in rows), done.stdout
    return rows, done.stderr


@pytest.fixture(scope="module")
def paper():
    return rows_of("config/paper_librispeech.yaml", "--only", "all", "--parameters-only")


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

    rows, _ = paper
    assert {row["system"] for row in rows} == set(load_experiment("paper_librispeech").systems)
    seen = [(row["system"], row["point"], row["input_features"]) for row in rows]
    assert len(set(seen)) == len(seen)
    depths = [row["depth"] for row in rows if row["system"] == "f6" and row["input_features"] == "80"]
    assert depths == ["6", "8", "10", "12"]
