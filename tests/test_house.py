"""The house keeps its own rules: layers, versions that agree, clean rules."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from tests.reference import METHODS, with_methods

BIN = Path(sys.executable).parent


def lock():
    lines = [line for line in Path("requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_layers_know_only_those_below():
    done = subprocess.run([str(BIN / "lint-imports")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_rules_are_clean():
    done = subprocess.run([str(BIN / "snakemake"), "--lint"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_snakefile_is_short():
    assert len(Path("Snakefile").read_text().splitlines()) < 60


def test_versions_agree():
    conda = yaml.safe_load(Path("environment.yml").read_text())["dependencies"]
    python = next(item.split("=")[1] for item in conda if item.startswith("python="))
    assert {item.split("=")[0] for item in conda} == {"python", "git", "make"}
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.13" and python in ("3.11", "3.12")
    assert "(3, 11), (3, 12)" in Path("Makefile").read_text()
    assert "make setup" in Path("environment.yml").read_text()


def test_lock_is_what_is_installed():
    import importlib.metadata

    for name, version in lock().items():
        assert importlib.metadata.version(name).split("+")[0] == version, name


def test_lock_is_complete():
    """Every requirement of every locked package is locked too: a --no-deps installation lacks nothing.

    ESPnet's list is left out: it names packages of parts (text to speech, separation) that are not used.
    """
    import importlib.metadata

    from packaging.requirements import Requirement

    locked = {re.sub(r"[-_.]+", "-", name).lower() for name in lock()}
    missing = set()
    for name in lock():
        if name == "espnet":
            continue
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            found = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if wanted and found not in locked and not found.startswith(("nvidia", "cuda", "triton")):
                missing.add(f"{name} needs {found}")
    assert not missing


def test_only_the_conformer_imports_espnet():
    importers = [
        str(path)
        for folder in ("asr", "methods", "baselines", "analysis", "workflows", "common")
        for path in Path(folder).rglob("*.py")
        if re.search(r"^\s*(from|import) espnet", path.read_text(), re.MULTILINE)
    ]
    assert importers == ["asr/backbones/conformer.py"]


def test_a_dry_run_imports_no_torch(tmp_path):
    code = (
        "import sys\nfrom snakemake.cli import main\n"
        f"try:\n    main(['-n', '-q', '--nolock', '--config', 'results={tmp_path}'])\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'espnet', 'espnet2', 'lightning_fabric'} & set(sys.modules)\nassert not heavy, heavy\n"
        "assert 'workflows.experiment' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_readme_says_of_each_method_what_the_reference_run_found():
    text = Path("README.md").read_text()
    assert with_methods(text) == text
    listed = set(re.findall(r"^\| `((?:methods|baselines)\.\w+)` \|", text, re.MULTILINE))
    assert listed == set(METHODS)


def test_the_layout_in_the_readme_is_the_tree():
    """Every folder that holds code, and every command of the workflow, is named there, and nothing else is."""
    layout = Path("README.md").read_text().split("## Layout")[1].split("## How to go on")[0]
    named = set(re.findall(r"(\w+)/", layout))
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    folders = {Path(file).parent for file in files}
    top = {folder.parts[0] for folder in folders if folder.parts and not folder.parts[0].startswith(".")}
    inside = {"analysis", "asr", "methods", "workflows"}
    rooms = {folder.parts[1] for folder in folders if len(folder.parts) > 1 and folder.parts[0] in inside}
    assert named == top | rooms | {"export", "reference"}
    listed = re.search(r"the commands: ([\w, \n]+);", layout).group(1).replace(",", " ").split()
    commands = {path.stem for path in Path("workflows").glob("*.py") if "def main()" in path.read_text()}
    assert set(listed) == commands
