"""Normalisers by name, from the commands and from an experiment's results, and every bad input of theirs."""

import importlib
import json
import subprocess

import pytest
import yaml

from analysis.scoring.glm import read_glm
from analysis.scoring.lattice import parse
from analysis.scoring.normalise import NORMALISERS, load_normaliser
from analysis.scoring.score import Scorer
from analysis.scoring.trn import read_trn, write_trn
from analysis.stm import read_ctm, read_stm, score
from common.errors import UserError, run
from tests.analysis.conftest import command as process
from tests.analysis.conftest import one_clear_error
from workflows.experiment import Experiment, load_experiment
from workflows.normaliser import chosen_normaliser

GLM = ";; made up\n* case_sensitive = 'F'\nGONNA => [{GOING TO / GONNA}] / [ ] __ [ ]\nUH => %HESITATION / [ ] __ [ ]\n"


@pytest.fixture
def files(tmp_path):
    """A reference with an optional hesitation and a fragment, a hypothesis, a GLM."""
    (tmp_path / "ref.trn").write_text("(uh) i am gonna go wor- (s-1)\nyes (s-2)\n")
    (tmp_path / "hyp.trn").write_text("i am going to go world (s-1)\nyes uh (s-2)\n")
    (tmp_path / "test.glm").write_text(GLM)
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    """A command's own `main` with its exit status and output, without the start of an interpreter."""

    def ended(module: str, *arguments: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr("sys.argv", [module, *map(str, arguments)])
        status = run(importlib.import_module(module).main)
        return subprocess.CompletedProcess(module, status, *capsys.readouterr())

    return ended


def wer(folder, *arguments) -> dict:
    """The counts of the real command."""
    done = process("analysis.wer", folder / "ref.trn", folder / "hyp.trn", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_scores_by_name(files):
    assert wer(files) == wer(files, "--normaliser", "identity-1")
    plain, hub5 = wer(files), wer(files, "--normaliser", "hub5-1", "--glm", files / "test.glm")
    assert (plain["sub"] + plain["del"] + plain["ins"], plain["ref_words"]) == (5, 7)
    assert hub5 == {"sub": 0, "del": 0, "ins": 1, "ref_words": 8, "wer": 12.5}
    assert wer(files, "--normaliser", "hub5_recipe-1", "--glm", files / "test.glm")["ins"] == 0  # drops the "uh"


def test_mapsswe_takes_the_same_normalisers(files, command):
    (files / "b.trn").write_text("i am gonna go word (s-1)\nyes (s-2)\n")
    paths = [files / name for name in ("ref.trn", "hyp.trn", "b.trn")]
    done = command("analysis.mapsswe", *paths, "--json", "--normaliser", "hub5-1", "--glm", files / "test.glm")
    found = json.loads(done.stdout)
    assert (found["segments"], found["mean"]) == (1, 1.0)


def test_hesitations_are_one_class_without_a_glm(files):
    (files / "ref.trn").write_text("um well (s-1)\nyes (s-2)\n")
    (files / "hyp.trn").write_text("UH well (s-1)\nyes (s-2)\n")
    assert wer(files, "--normaliser", "hub5-1")["wer"] == 0.0
    assert wer(files)["sub"] == 1


def test_letters_beyond_ascii_are_folded_by_librispeech_1_only(files):
    (files / "ref.trn").write_text("Été (s-1)\n")
    (files / "hyp.trn").write_text("été (s-1)\n")
    assert wer(files)["sub"] == 1
    assert wer(files, "--normaliser", "librispeech-1")["sub"] == 0


def test_a_recogniser_cannot_offer_a_choice_or_an_optional_word(tmp_path):
    (tmp_path / "ref.trn").write_text("a b and/or (s-1)\n")
    (tmp_path / "hyp.trn").write_text("(x) a b/c-d and/or (s-1)\n")
    scorer = Scorer(load_normaliser("hub5-1"))
    found = scorer.align(read_trn(tmp_path / "ref.trn"), read_trn(tmp_path / "hyp.trn"))
    assert found.counts.to_json() == {"sub": 1, "del": 0, "ins": 2, "ref_words": 3}


def test_optional_words_survive_write_trn(tmp_path):
    write_trn(tmp_path / "ref.trn", [("s-1", "(uh) a")])
    write_trn(tmp_path / "hyp.trn", [("s-1", "a")])
    scorer = Scorer(load_normaliser("hub5-1"))
    assert scorer.align(read_trn(tmp_path / "ref.trn"), read_trn(tmp_path / "hyp.trn")).counts.errors == 0


def test_one_reference_serves_all_systems(files):
    scorer = Scorer(load_normaliser("hub5-1", files / "test.glm"))
    reference, hypothesis = read_trn(files / "ref.trn"), read_trn(files / "hyp.trn")
    assert scorer.align(reference, hypothesis).reference is scorer.align(reference, reference).reference


def test_every_table_names_the_normaliser(folder, command):
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["normaliser"] = {"name": "hub5-1", "glm": str(folder / "test.glm")}
    (folder / "experiment.json").write_text(json.dumps(experiment))
    (folder / "test.glm").write_text(GLM)
    done = command("analysis.render", "--experiment-folder", folder)
    assert done.returncode == 0, done.stderr
    for name in ("table1", "table4"):
        text = (folder / "tables" / f"{name}.md").read_text()
        assert "Text normaliser: hub5-1" in text and "test.glm, SHA-256" in text
    assert (folder / "RESULTS.md").read_text().count("Text normaliser: hub5-1") >= 2


def test_words_as_they_stand_are_named_too(rendered):
    assert "Text normaliser: identity-1" in (rendered / "RESULTS.md").read_text()


def test_an_experiment_has_its_corpus_s_normaliser_or_its_own(command, tmp_path):
    assert chosen_normaliser(load_experiment("smoke"), "smoke").name == "identity-1"
    smoke = load_experiment("smoke").model_dump()
    own = Experiment.model_validate({**smoke, "normaliser": {"name": "hub5-1"}})
    assert chosen_normaliser(own, "own").name == "hub5-1"
    librispeech = Experiment.model_validate({**smoke, "corpus": {"name": "librispeech"}})
    assert chosen_normaliser(librispeech, "librispeech").name == "librispeech-1"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({**smoke, "normaliser": {"name": "hub5-2"}}))
    done = command("workflows.check", "--experiment", wrong)
    one_clear_error(done, "wrong.yaml: normaliser", "did you mean 'hub5-1'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b";; only a comment\n", ["holds no rule"]),
        (b"A => B\n", ["holds no rule", "first line"]),
        (b";;\nA B\n", ["line 2", "without '=>'"]),
        (b";;\n  ;; indented\nA => B\n", ["line 2", "begin the line"]),
        (b";;\n* name none\nA => B\n", ["line 2", "in quotes"]),
        (b";;\n* format = 'NIST2'\nA => B\n", ["line 2", "NIST2"]),
        (b";;\n* copy_no_hit = 'F'\nA => B\n", ["line 2", "copy_no_hit"]),
        (b";;\n* max_nrules = '1'\nA => B\nC => D\n", ["line 4", "max_nrules"]),
        (b";;\n[] => B\n", ["line 2", "replaces nothing"]),
        (b';;\n" => B\n', ["line 2", "quotation mark"]),
        (b';;\n;; INPUT_DEPENDENT_APPLICATION = "("\nA => B\n', ["line 2", "regular expression"]),
        (b";;\nA => \xff\n", ["line 2", "not UTF-8"]),
        (b";;\nYES => [{ YES / ] / [ ] __ [ ]\n", ["utterance 's-2'", "without its '}'"]),
    ],
)
def test_a_bad_glm_gets_one_message(files, content, words, command):
    (files / "bad.glm").write_bytes(content)
    arguments = [files / "ref.trn", files / "hyp.trn", "--normaliser", "hub5-1", "--glm", files / "bad.glm"]
    where = "ref.trn" if "utterance" in words[0] else "bad.glm"
    one_clear_error(command("analysis.wer", *arguments), where, *words)


def test_other_bad_inputs_get_one_message(files, command):
    ref, hyp, glm = (files / name for name in ("ref.trn", "hyp.trn", "test.glm"))
    one_clear_error(command("analysis.wer", ref, hyp, "--normaliser", "hub-5"), "--normaliser", "did you mean 'hub5-1'")
    one_clear_error(command("analysis.wer", ref, hyp, "--glm", glm), "test.glm", "takes no GLM", "hub5-1")
    missing = ["--normaliser", "hub5-1", "--glm", files / "none.glm"]
    one_clear_error(command("analysis.mapsswe", ref, hyp, hyp, *missing), "none.glm", "no such GLM file")
    hyp.write_text("a (s-1)\nb (s-3)\n")
    differ = ["1 only in the reference (s-2)", "1 only in the hypothesis (s-3)"]
    one_clear_error(command("analysis.wer", ref, hyp, "--normaliser", "hub5-1"), "hyp.trn", *differ)
    ref.write_text("(uh (s-1)\n")
    hyp.write_text("a (s-1)\n")
    one_clear_error(command("analysis.wer", ref, hyp, "--normaliser", "hub5-1"), "utterance 's-1'", "do not pair")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_text(""), ["holds no utterance"]),
        (lambda path: path.write_text(path.read_text().replace("(", "", 1)), ["line 1", "no utterance id"]),
        (lambda path: path.write_text(path.read_text() + path.read_text()), ["comes a second time"]),
        (lambda path: path.write_bytes(b"\xff (s-1)\n"), ["line 1", "not UTF-8"]),
        (lambda path: path.write_text(path.read_text().partition("\n")[2]), ["only in the hypothesis"]),
    ],
)
def test_a_bad_reference_leaves_no_partial_table(folder, spoil, words, command):
    experiment = json.loads((folder / "experiment.json").read_text())
    reference = next((folder / "data").rglob(f"{experiment['test_sets'][0]}.trn"))
    spoil(reference)
    one_clear_error(command("analysis.render", "--experiment-folder", folder), ".trn", *words)
    assert not (folder / "RESULTS.md").exists() and not (folder / "tables").exists()


def test_a_test_set_without_words_leaves_no_partial_table(folder, command):
    for path in folder.rglob("test_clean.trn"):
        path.write_text("".join(f"({line.rpartition('(')[2]}\n" for line in path.read_text().splitlines()))
    one_clear_error(command("analysis.render", "--experiment-folder", folder), "test_clean.trn", "no word")
    assert not (folder / "RESULTS.md").exists()


def test_an_experiment_with_an_unknown_normaliser(folder, command):
    experiment = json.loads((folder / "experiment.json").read_text())
    (folder / "experiment.json").write_text(json.dumps({**experiment, "normaliser": {"name": "librispeech"}}))
    done = command("analysis.render", "--experiment-folder", folder)
    one_clear_error(done, "experiment.json: normaliser", "did you mean 'librispeech-1'")


@pytest.mark.parametrize(
    ("stm", "ctm", "words"),
    [
        ("f A s 0\n", "f A 0 1 a\n", ["r.stm, line 1"]),
        ("f A s 0 1 a\n", "f A 0 1\n", ["h.ctm, line 1"]),
        ("f A s 0 x a\n", "f A 0 1 a\n", ["r.stm, line 1", "no time"]),
        ("f A s 0 1 a\n", "f B 0 1 a\n", ["'f a' is not in", "h.ctm"]),
        ("f A s 0 1 a\nf B s 0 1 a\n", "f A 0 1 a\n", ["'f b' is not in"]),
        ("f A s 0 1 a\n", "f A * * <ALT_BEGIN>\n", ["h.ctm, line 1", "sclite"]),
        ("f A s 0 1 a\n", "f A 0 1 (a)\n", ["h.ctm, line 1", "sclite"]),
        (";; nothing\n", "f A 0 1 a\n", ["r.stm", "no line"]),
        ("f A s 0 1 { a\n", "f A 0 1 a\n", ["segment 's-000'", "'{'"]),
        ("f A s 0 1\n", "f A 0 1 a\n", ["r.stm", "no word"]),
    ],
)
def test_bad_conversations_get_one_message(tmp_path, stm, ctm, words, command):
    (tmp_path / "r.stm").write_text(stm)
    (tmp_path / "h.ctm").write_text(ctm)
    one_clear_error(command("analysis.stm", tmp_path / "r.stm", tmp_path / "h.ctm"), *words)


def test_conversations_from_the_command(tmp_path, command):
    (tmp_path / "r.stm").write_text(";; comment\nF A s 0 1 <o> (uh) a wor-\nF A s 1 2 b\n")
    (tmp_path / "h.ctm").write_text("f A 1.2 0.5 c 0.9\nf A 0.0 0.5 a 0.9\nf A 0.6 0.3 world 0.8\n")
    done = command("analysis.stm", tmp_path / "r.stm", tmp_path / "h.ctm", "--json")
    assert json.loads(done.stdout) == {"sub": 1, "del": 0, "ins": 0, "ref_words": 4, "wer": 25.0}
    assert len(read_stm(tmp_path / "r.stm")) == 2 and [w.word for w in read_ctm(tmp_path / "h.ctm")][0] == b"a"
    with pytest.raises(UserError, match="identity-1"):
        score(tmp_path / "r.stm", tmp_path / "h.ctm", load_normaliser())


@pytest.mark.parametrize("text", [b"{ a", b"a }", b"{ }", b"{ / }"])
def test_alternatives_that_cannot_be_read(text):
    with pytest.raises(ValueError):
        parse(text)


def test_the_first_line_names_the_sign_of_comments(tmp_path):
    (tmp_path / "a.glm").write_text("# rules\nA => B # comment\n# C => D\n")
    assert read_glm(tmp_path / "a.glm").apply(b"A C") == b"B C"


def test_names_carry_versions():
    assert all(name.rpartition("-")[2].isdigit() for name in NORMALISERS)
