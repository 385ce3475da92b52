"""CSV as other programs read it: values stay what they are, and no text becomes a spreadsheet's formula."""

import csv
import io

import pytest

from analysis.tables.formats import Column, Table, to_csv

FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=", "-", "-1.2 points", "+1-2", "- 3", "-1e", "=-1"]
PLAIN = ["-1.2", "+111.7", "-.5", "-3.", "+1e-5", "-2E+3", "a=1", "1+1", "", "12.96*", "* 2/3", "–"]


def read_back(value) -> tuple[str, str]:
    """A value as heading and as cell of a table of one column, as a CSV reader finds it."""
    text = to_csv(Table("t", "T", [Column(value if isinstance(value, str) else "key")], [{value: value, "key": value}]))
    (heading,), (cell,) = [row or [""] for row in csv.reader(io.StringIO(text, newline=""))]
    return heading, cell


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_begins_like_a_formula_has_an_apostrophe(text):
    assert read_back(text) == (f"'{text}", f"'{text}")


@pytest.mark.parametrize("text", PLAIN)
def test_numbers_and_other_text_stay_as_they_are(text):
    assert read_back(text) == (text, text)


@pytest.mark.parametrize(("value", "cell"), [(-1.25, "-1.25"), (-3, "-3"), (None, ""), ((-0.5, "-0.50 [a]"), "-0.5")])
def test_values_that_are_numbers_stay_numbers(value, cell):
    assert read_back(value)[1] == cell
