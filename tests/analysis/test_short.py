"""Table 1 in short, as README and findings show it."""

import pytest

from analysis.tables.short import short_table

HEAD = (
    "sys,system,physical_layers,depth,params_millions,ref_words,wer,wer_low,wer_high,difference,difference_low,"
    "difference_high,seeds,published_wer,published_star\n"
)
SEVERAL = (
    "1,a12,12,12,3.033466,31061,57.51371,51.845072,63.182347,,,,5,12.86,0\n"
    "2,a10,10,10,2.582074,31061,59.46149,54.429306,64.493673,1.94778,-7.082804,10.978364,3,12.96,1\n"
    "3,a8,8,8,2.130682,31061,,,,,,,,13.49,0\n"
)


@pytest.fixture
def written(tmp_path):
    def write(rows):
        (tmp_path / "table1.csv").write_text(HEAD + rows)
        return tmp_path / "table1.csv"

    return write


def test_each_row_has_its_interval_and_its_seeds(written):
    said, _, heading, _, *rows = short_table(written(SEVERAL), "WER").splitlines()
    assert said.startswith("Table 1 on 31,061 words: means over seeds, differences over the seeds that both have;")
    assert "intervals over seeds and speakers" in said
    assert heading.split(" | ")[5:8] == ["WER % [95 %]", "minus Sys. 1 [95 %]", "seeds"]
    assert rows == [
        "| 1 | a12 | 12 | 12 | 3.03 | 57.51 [51.85, 63.18] | – | 5 | 12.86 |",
        r"| 2 | a10 | 10 | 10 | 2.58 | 59.46 [54.43, 64.49] | +1.95 [-7.08, +10.98] | 3 | 12.96\* |",
    ], "a8 was not made"


def test_one_training_is_called_so(written):
    one = "1,a12,12,12,3,900,8.5,,,,,,1,,\n2,f6,6,12,1.7,900,9.25,8,10,0.75,-0.5,2,1,,\n"
    said, _, heading, _, *rows = short_table(written(one), "CER", resampled="utterances").splitlines()
    assert "on 900 characters: one training; intervals over utterances." in said and "CER % [95 %]" in heading
    assert rows == [
        "| 1 | a12 | 12 | 12 | 3.00 | 8.50 | – | 1 | – |",
        "| 2 | f6 | 6 | 12 | 1.70 | 9.25 [8.00, 10.00] | +0.75 [-0.50, +2.00] | 1 | – |",
    ]


def test_nothing_made_is_no_table(written):
    assert short_table(written("3,a8,8,8,2.130682,31061,,,,,,,,13.49,0\n"), "WER") == ""
