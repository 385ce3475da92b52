"""What an edit makes again: the table of `docs/reliability.md`, by `snakemake -n` on a copy of this repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile

from tests.workflows.commands import BIN, ROOT, TINY, snakemake

EVERYTHING = {
    "check_experiment", "prepare_data", "prepare_inputs", "prepare_inputs_speech", "train_system",
    "train_source_system", "evaluate_system", "measure_sensitivity", "measure_weight_errors", "measure_costs",
    "name_what_is_made", "analyse", "write_report",
}  # fmt: skip
TABLES = {"analyse", "write_report"}
FROM_SYSTEMS = {"evaluate_system", "measure_sensitivity", "measure_weight_errors", "measure_costs"}
FROM_SYSTEMS |= {"name_what_is_made", *TABLES}
FROM_DATA = EVERYTHING - {"check_experiment", "prepare_data"}


def replaced(file, before, after):
    def edit(tree: Path, experiment: Path) -> None:
        path = experiment if file == "experiment" else tree / file
        text = path.read_text()
        assert before in text, (file, before)
        path.write_text(text.replace(before, after, 1))

    return edit


def appended(file, text):
    def edit(tree: Path, experiment: Path) -> None:
        path = experiment if file == "experiment" else tree / file
        path.write_text(path.read_text() + text)

    return edit


def touched(file):
    return lambda tree, experiment: (tree / file).touch()


def another_torch(tree: Path, experiment: Path) -> None:
    """An installed package of another version, as the interpreter sees it."""
    folder = tree / "newer" / "torch-99.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0+cpu\n")


def all_of(*edits):
    """Edits of which the same is expected, in one copy: any of them that makes more is seen."""

    def edit(tree: Path, experiment: Path) -> None:
        for each in edits:
            each(tree, experiment)

    return edit


# edit -> (what is edited, rules that run again)
EDITS = {
    "comments, docstrings, what nobody names, and a file saved again": (
        all_of(
            appended("analysis/scoring/normalise.py", "\n# A remark.\n"),
            appended("workflows/experiment/schema.py", "\n# A remark.\n"),
            replaced("asr/batches.py", '"""From prepared', '"""Once more: from prepared'),
            appended("workflows/rules/systems.smk", "\n# A remark.\n"),
            appended("environment.yml", "\n# A remark.\n"),
            appended("experiment", "\n# A remark.\n"),
            appended("methods/shared/start.py", "\n# A remark.\n"),
            appended("methods/selfpinching.py", "\nREMARK = 1\n"),
            replaced("config/corpora.yaml", "source: espeak-ng", "source: the engine"),
            touched("asr/training.py"),
        ),
        set(),
    ),
    "how often is logged and saved, who reads batches, and the title": (
        all_of(
            replaced("experiment", "log_every: 2", "log_every: 4\n  workers: 2"),
            replaced("experiment", "checkpoint_every: 2", "checkpoint_every: 4"),
            replaced("experiment", "A run for tests", "A run"),
        ),
        {"check_experiment", *TABLES},
    ),
    "another seed": (
        replaced("experiment", "seeds: [0]", "seeds: [0, 1]"),
        {"check_experiment", "train_system", "train_source_system", *FROM_SYSTEMS},
    ),
    "a claim": (replaced("analysis/claims.yaml", "absolute: 0.3", "absolute: 0.4"), TABLES),
    "code of scoring": (appended("analysis/scoring/normalise.py", "\nREMARK = 1\n"), TABLES),
    "code of decoding": (
        appended("asr/decoding.py", "\nREMARK = 1\n"),
        {"train_system", "train_source_system", *FROM_SYSTEMS},
    ),
    "a default of the Conformer": (
        replaced("asr/backbones/conformer.py", "dropout: float = 0.1", "dropout: float = 0.2"),
        {"check_experiment", "train_system", "train_source_system", *FROM_SYSTEMS} - {"measure_sensitivity"},
    ),
    "code of the corpus": (appended("asr/corpora/synth.py", "\nREMARK = 1\n"), EVERYTHING),
    "code of a toy": (
        appended("tests/toys/width_slices.py", "\nREMARK = 1\n"),
        {"check_experiment", "train_system", "evaluate_system", "measure_costs", "name_what_is_made", *TABLES},
    ),
    "another torch": (another_torch, EVERYTHING - {"prepare_data"}),
}


def copied_tree(folder: Path) -> Path:
    """This repository's files, with the notes that Snakemake keeps of what it made."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if not name.startswith("results/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".snakemake").symlink_to(ROOT / ".snakemake")
    return folder


def planned(tree: Path, experiment: Path, results: Path, force: bool = False) -> set[str]:
    """The rules of which a dry run announces jobs; with `force` as `make reproduce` runs it."""
    words = [str(BIN / "snakemake"), "--profile", "workflows/profiles/default", "--cores", "2", "-n", "--nolock"]
    words += ["--config", f"experiment={experiment}", f"results={results}"]
    newer = str(tree / "newer")
    if force:
        asked = [sys.executable, "-m", "workflows.why", "--experiment", experiment, "--results", results, "--force"]
        told = subprocess.run(asked, cwd=tree, capture_output=True, text=True, check=True)
        words += shlex.split(told.stdout)
    done = subprocess.run(words, cwd=tree, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": newer})
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +\d+$", done.stdout + done.stderr, re.MULTILINE)
    return set(rows) - {"all", "total"}


@pytest.fixture(scope="module")
def reruns(run, reading, tmp_path_factory) -> dict[str, set[str]]:
    """Edit -> rules that run again."""

    def tried(edit: str) -> set[str]:
        folder = tmp_path_factory.mktemp("edit")
        tree = copied_tree(folder / "tree")
        experiment = folder / "tiny.yaml"
        shutil.copy(run.parent / "tiny.yaml", experiment)
        EDITS[edit][0](tree, experiment)
        return planned(tree, experiment, run.parent)

    with reading(), ThreadPoolExecutor(2) as threads:
        return dict(zip(EDITS, threads.map(tried, EDITS), strict=True))


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_makes_again_what_it_concerns_and_nothing_else(reruns, edit):
    assert reruns[edit] == EDITS[edit][1]


def test_what_stands_beside_a_result_decides_where_snakemakes_notes_are_gone(run, tmp_path):
    """A folder of results that was moved or copied, or a checkout that was cleaned."""
    tree, experiment = copied_tree(tmp_path / "tree"), tmp_path / "tiny.yaml"
    (tree / ".snakemake").unlink()
    shutil.copy(run.parent / "tiny.yaml", experiment)
    assert planned(tree, experiment, run.parent, force=True) == set()
    experiment.write_text(experiment.read_text().replace("  steps: 8\n", "  steps: 9\n", 1))
    from_training = {"check_experiment", "train_system", "train_source_system", *FROM_SYSTEMS}
    assert planned(tree, experiment, run.parent, force=True) == from_training
    shutil.copy(run.parent / "tiny.yaml", experiment)
    appended("analysis/scoring/normalise.py", "\nREMARK = 1\n")(tree, experiment)
    assert planned(tree, experiment, run.parent, force=True) == TABLES


def test_reversed_recordings_are_heard_by_everything_that_hears(run, alone, tmp_path):
    """Preparation alone ran again and gave other audio under the same settings, as in a run that was interrupted."""
    data = run / "data/synth"
    kept = shutil.copytree(data, tmp_path / "kept")  # with its times
    tree = copied_tree(tmp_path / "tree")
    path = tree / "asr/corpora/simulation.py"
    text = path.read_text()
    assert "def write_audio(" in text
    path.write_text(text + BACKWARDS)
    experiment = run.parent / "tiny.yaml"
    words = [sys.executable, "-m", "workflows.prepare", "--experiment", str(experiment), "--out", str(data)]
    try:
        before = soundfile.read(first_recording(data))[0]
        done = subprocess.run(words, cwd=tree, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert (soundfile.read(first_recording(data))[0] == before[::-1]).all()
        assert planned(ROOT, experiment, run.parent) == FROM_DATA
    finally:
        shutil.rmtree(data)
        shutil.copytree(kept, data)
    assert planned(ROOT, experiment, run.parent) == set()


BACKWARDS = """

def write_audio(path, samples, rate, _forwards=write_audio):
    _forwards(path, samples[::-1].copy(), rate)
"""


def first_recording(data):
    return min(path for path in (data / "audio/train").rglob("*") if path.is_file())


def test_other_transcripts_are_analysed_again(run, alone, tmp_path):
    """Decoding alone ran again and gave other words."""
    folder = run / "systems/a2/seed0/eval"
    kept = shutil.copytree(folder, tmp_path / "kept")
    tree = copied_tree(tmp_path / "tree")
    path = tree / "asr/decoding.py"
    path.write_text(path.read_text() + "\n\ndef greedy(log_probs, lengths):\n    return [[3] for _ in lengths]\n")
    experiment = run.parent / "tiny.yaml"
    words = [sys.executable, "-m", "workflows.evaluate", "--experiment", str(experiment), "--system", "a2"]
    words += ["--data", str(run / "data/synth"), "--model", str(folder.parent), "--out", str(folder)]
    try:
        done = subprocess.run(words, cwd=tree, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert planned(ROOT, experiment, run.parent) == {"name_what_is_made", *TABLES}
    finally:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)


def test_a_folder_with_a_space_and_a_semicolon_is_one_word_of_every_command(run, tmp_path):
    odd = tmp_path / "a folder; touch hacked"
    odd.mkdir()
    shutil.copy(ROOT / TINY, odd)
    done = snakemake(odd, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^Shell command: (.*)$|^ *(\(?python -m .*)$", done.stdout + done.stderr, re.MULTILINE)
    commands = [first or second for first, second in commands]
    assert len(commands) > 20
    for each in commands:
        words = shlex.split(each.replace("(python", "python").replace(") 2>", " 2>"))
        assert all("; touch" not in word or str(odd) in word for word in words), each
        assert "touch" not in words, each
    done = snakemake(odd, str(odd / "tiny/experiment.json"), str(odd / "tiny/data/synth/corpus.json"))
    assert done.returncode == 0, done.stderr
    assert (odd / "tiny/data/synth/corpus.json").is_file()
    assert not (ROOT / "hacked").exists() and not (tmp_path / "hacked").exists()
