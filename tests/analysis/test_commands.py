"""The commands a user types: keys, messages, exit statuses, and how light they are."""

import json
import math
import subprocess
import sys

import pytest

from tests.analysis.conftest import ROOT, command, one_clear_error

COMMANDS = [
    "analysis.wer",
    "analysis.mapsswe",
    "analysis.render",
    "analysis.headline",
    "analysis.summary",
    "analysis.claims",
]


def python(code: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter, in the repository's root."""
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def trn(tmp_path):
    """A reference and two systems, the first with two errors more."""
    texts = {
        "ref": "a b c d (s-1)\ne f g h (s-2)\n",
        "a": "a x c d (s-1)\ne f g (s-2)\n",
        "b": "a b c d (s-1)\ne f g h (s-2)\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.trn").write_text(text)
    return {name: tmp_path / f"{name}.trn" for name in texts}


def test_wer_has_exactly_its_keys(trn):
    found = json.loads(command("analysis.wer", trn["ref"], trn["a"], "--json").stdout)
    assert found == {"sub": 1, "del": 1, "ins": 0, "ref_words": 8, "wer": 25.0}


def test_wer_in_words(trn):
    assert command("analysis.wer", trn["ref"], trn["a"]).stdout.startswith("WER 25.00 %  (2 errors in 8 words: 1 sub")


def test_mapsswe_has_exactly_its_keys(trn):
    found = json.loads(command("analysis.mapsswe", trn["ref"], trn["a"], trn["b"], "--json").stdout)
    constant = {"mean": 1.0, "sd": 0.0, "z": 0.0, "p": 1.0, "significant": False, "constant_difference": True}
    assert found == {"segments": 2, **constant}
    trn["b"].write_text("a b c d (s-1)\ne f g x y z (s-2)\n")
    found = json.loads(command("analysis.mapsswe", trn["ref"], trn["a"], trn["b"], "--json").stdout)
    assert set(found) == {"segments", "mean", "sd", "z", "p", "significant"}
    assert found["mean"] == -0.5 and found["z"] < 0  # A has 1 + 1 errors, B 0 + 3: d = +1, -2
    assert all(math.isfinite(value) for value in found.values())


def test_warnings_go_to_standard_error(trn):
    done = command("analysis.mapsswe", trn["ref"], trn["a"], trn["b"], "--json")
    assert "same difference" in done.stderr and "normal approximation" in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a b c d\n", ["bad.trn, line 1", "no utterance id"]),
        (b"a (s-1)\nb (s-1)\n", ["bad.trn, line 2", "second time"]),
        (b"\xff (s-1)\n", ["bad.trn, line 1", "not UTF-8"]),
        (b"{ a / x } b c d (s-1)\ne (s-2)\n", ["bad.trn, line 1", "sclite"]),
        (b"a (s-1)\n", ["bad.trn", "1 only in the reference (s-2)"]),
        (b"", ["bad.trn", "no utterance"]),
    ],
)
def test_a_bad_hypothesis_gets_one_message(trn, tmp_path, content, words):
    (tmp_path / "bad.trn").write_bytes(content)
    one_clear_error(command("analysis.wer", trn["ref"], tmp_path / "bad.trn", "--json"), *words)
    one_clear_error(command("analysis.mapsswe", trn["ref"], trn["a"], tmp_path / "bad.trn"), *words)


def test_a_reference_without_words_has_no_rate(tmp_path):
    (tmp_path / "empty.trn").write_text(" (s-1)\n")
    one_clear_error(command("analysis.wer", tmp_path / "empty.trn", tmp_path / "empty.trn"), "empty.trn", "no word")


@pytest.mark.parametrize("module", COMMANDS)
def test_help_answers_without_heavy_imports(module):
    code = (
        f"import runpy, sys\nsys.argv = ['x', '--help']\ntry:\n    runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numba', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_analysis_never_imports_torch_or_the_other_layers():
    code = (
        "import pkgutil, importlib, sys, analysis\n"
        "for module in pkgutil.iter_modules(analysis.__path__):\n"
        "    importlib.import_module('analysis.' + module.name)\n"
        "found = {'torch', 'asr', 'methods', 'baselines', 'workflows'} & set(sys.modules)\nassert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
