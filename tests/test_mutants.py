"""The mutation run itself: its tables name what exists, quiet places are left out, outcomes are told apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.marked import write_between
from tests import mutants
from tests.mutants import EXPLAINED, OWN_TESTS, ROOT, Mutant, explained, report, run_tests, silent_spans


def test_modules_and_their_tests_exist():
    for module, tests in OWN_TESTS.items():
        assert (ROOT / module).is_file(), module
        assert tests and all((ROOT / test).is_file() for test in tests), module


def test_what_is_explained_still_stands_there():
    for module, was, now in explained():
        lines = [" ".join(line.split()) for line in (ROOT / module).read_text().splitlines()]
        assert was in " ".join(lines) and was != now, f"{EXPLAINED.name}: {module} no longer has '{was}'"


def test_annotations_decorators_messages_and_main_are_left_out():
    source = "\n".join(
        [
            "@cached(size=8)",
            "def f(x: int | None = 1) -> float | None:",
            "    if x > 2:",
            "        raise ValueError(x - 3)",
            "    y: int | str = x + 4",
            "    return y",
            "def main():",
            "    print(5 + 6)",
            'if __name__ == "__main__":',
            "    main(7)",
        ]
    )

    def silent(text: str) -> bool:
        line = next(n for n, row in enumerate(source.splitlines(), 1) if text in row)
        place = (line, source.splitlines()[line - 1].index(text))
        return any(begin <= place < end for begin, end in silent_spans(source))

    assert all(map(silent, ("8)", "| None =", "| None:", "- 3", "| str", "5 + 6", "7")))
    assert not any(map(silent, ("1)", "> 2", "+ 4")))


@pytest.fixture
def tree(tmp_path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "test_good.py").write_text("def test_one():\n    assert 1 < 2\n")
    (tree / "test_bad.py").write_text("def test_one():\n    assert 1 > 2\n")
    (tree / "test_slow.py").write_text("import time\ndef test_one():\n    time.sleep(60)\n")
    (tree / "test_broken.py").write_text("import no_such_module\n")
    return tree


@pytest.mark.parametrize(
    ("file", "outcome"), [("good", "passed"), ("bad", "failed"), ("broken", "failed"), ("slow", "time")]
)
def test_outcomes_of_a_run(tree, file, outcome):
    found, seconds = run_tests(tree, [f"test_{file}.py"], 60.0 if outcome != "time" else 3.0)
    assert found == outcome and seconds < 60


def test_tests_that_do_not_exist_are_no_outcome(tree):
    with pytest.raises(RuntimeError, match="could not run test_none.py"):
        run_tests(tree, ["test_none.py"], 60.0, unchanged=True)


def test_outcomes_are_remembered_until_the_code_changes(tree, monkeypatch, tmp_path):
    """A module whose test finds one of two changes; nothing is run twice."""
    (tree / "sums.py").write_text("def total(a, b):\n    return a + b\n")
    (tree / "test_sums.py").write_text("from sums import total\n\n\ndef test():\n    assert total(1, 1) == 2\n")
    subprocess.run(["git", "init", "-q", "."], cwd=tree, check=True)
    (tree / ".venv").symlink_to(ROOT / ".venv")
    monkeypatch.setattr(mutants, "ROOT", tree)
    monkeypatch.setattr(mutants, "OUTCOMES", tmp_path / "outcomes.jsonl")
    monkeypatch.setattr(mutants, "OWN_TESTS", {"sums.py": ["test_sums.py"]})
    monkeypatch.setattr(mutants, "_folders", lambda: [tree])
    found, missed = (
        Mutant("sums.py", 2, "return a + b", f"return {now}", f"def total(a, b):\n    return {now}\n")
        for now in ("a - b", "a ** b + 1")
    )
    for _ in range(2):
        outcomes = mutants.Session(1).outcomes({"sums.py": [found, missed]})
        assert outcomes == {found: "caught", missed: "survived"}
        assert len((tmp_path / "outcomes.jsonl").read_text().splitlines()) == 3  # the unchanged module, two mutants
    assert (tree / "sums.py").read_text() == "def total(a, b):\n    return a + b\n", "the checkout is never touched"
    (tree / "test_sums.py").write_text("from sums import total\n\n\ndef test():\n    assert total(2, 3) == 5\n")
    assert mutants.Session(1).outcomes({"sums.py": [found, missed]}) == {found: "caught", missed: "caught"}
    rows = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [row["outcome"] for row in rows] == ["passed", "failed", "passed", "passed", "failed", "failed"]


def test_the_page_counts_and_names_them(tmp_path):
    module = next(iter(OWN_TESTS))
    made = [Mutant(module, n, "a < b", now, "") for n, now in enumerate(("a > b", "a <= b", "a == b", "a != b"))]
    outcomes = dict(zip(made, ("caught", "survived", "survived", "time"), strict=True))
    text = report(outcomes, {(module, "a < b", "a <= b"): "b is never a"}, "Commit 1234567.")
    assert f"| {module} | 4 | 2 | 1 | 1 | 1 |" in text and "| **all** | 4 | 2 | 1 | 1 | 1 |" in text
    assert f"- {module}:1 `a < b` → `a <= b`: b is never a" in text and f"- {module}:2 `a < b` → `a == b`" in text
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- mutants:begin -->\nold\n<!-- mutants:end -->\nafter\n")
    write_between(page, "mutants", f"{text}\n")
    assert page.read_text().startswith("# Page\n<!-- mutants:begin -->\nCommit 1234567.")
    assert page.read_text().endswith("\n<!-- mutants:end -->\nafter\n") and "old" not in page.read_text()


def test_the_command_explains_itself():
    done = subprocess.run([sys.executable, "-m", "tests.mutants", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "--each" in done.stdout
