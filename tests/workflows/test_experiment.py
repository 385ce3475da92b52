"""Reading experiments: what is wrong is said with file and key, before any work and without torch."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from workflows.edges import Edges
from workflows.experiment import experiment_files, load_experiment

TINY = Path("tests/workflows/tiny.yaml")


def changed(tmp_path, change, name="changed"):
    values = yaml.safe_load(TINY.read_text())
    change(values)
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(values):
        for key in keys:
            values = values[key]
        values[last] = value

    return change


WRONG = [
    (put("trainin", {}), "unknown key 'trainin'; did you mean 'training'"),
    (put("training", "step", 3), "training: unknown key 'step'; did you mean 'steps'"),
    (put("training", "steps", 0), "training.steps: Input should be greater than 0"),
    (
        put("systems", "f2", "method", "methods.unfoldng"),
        "unknown method 'methods.unfoldng'; did you mean 'methods.unfolding'",
    ),
    (put("systems", "student", "settings", "teacher", "system", "a44"), "unknown system 'a44'; did you mean 'a4'"),
    (put("tables", "table1", "rows", "F1", "system", "f22"), "unknown system 'f22'; did you mean 'f2'"),
    (put("tables", "table1", "decode", "gredy"), "unknown decode 'gredy'; did you mean 'greedy'"),
    (put("tables", "table1", "reference", "9"), "tables.table1.reference: unknown row '9'"),
    (put("systems", "a4", "paths", ["1 1 1"]), "systems.a4: path '1 1 1' has 3 counts for 4 physical layers"),
    (put("systems", "a4", "paths", ["1 1 x 1"]), "'1 1 x 1' is not a path"),
    (put("tables", "table4", "rows", "1", {"system": "a4"}), "a row needs one of depth, path and point"),
    (put("systems", "a-4", {"method": "baselines.all_physical"}), "'a-4' is not a plain name"),
    (put("systems", "a4", "training", {"stepz": 1}), "systems.a4.training: unknown key 'stepz'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_experiments_name_file_and_key(tmp_path, change, message):
    path = changed(tmp_path, change)
    with pytest.raises(UserError) as error:
        load_experiment(str(path))
    assert message in str(error.value) and str(path) in str(error.value)


DEEPER = [
    (put("systems", "f2", "settings", {"depth": 1}), "systems.f2: settings.depth: 1 is below the 2 physical layers"),
    (put("systems", "f2", "settings", {"depth": 3}), "systems.f2: settings.training_path: 2 paths lead"),
    (
        put("systems", "f2", "settings", {"depth": 4, "training_path": "1 3"}),
        "path '1 3' breaks the unfolding rule",
    ),
    (put("systems", "f2", "settings", {"dept": 4}), "unknown key 'dept'; did you mean 'depth'"),
    (put("backbone", "settings", "widht", 4), "unknown key 'widht'; did you mean 'width'"),
    (put("backbone", "name", "confromer"), "unknown backbone 'confromer'; did you mean 'conformer'"),
]


@pytest.mark.parametrize(("change", "message"), DEEPER)
def test_methods_are_checked_before_any_work(tmp_path, change, message):
    path = changed(tmp_path, change)
    out = tmp_path / "experiment.json"
    command = [sys.executable, "-m", "workflows.check", "--experiment", str(path), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert message in done.stderr and str(path) in done.stderr
    assert not out.exists()


def test_systems_that_need_each_other_are_refused(tmp_path):
    def circle(values):
        values["systems"]["student"]["settings"]["teacher"]["system"] = "int8"
        values["systems"]["int8"]["settings"]["source"]["system"] = "student"

    with pytest.raises(UserError, match="in a circle: .*student -> int8|in a circle: .*int8 -> student"):
        load_experiment(str(changed(tmp_path, circle)))


def test_unknown_experiment_names_the_closest():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "snakemake"), "-n", "--config", "experiment=smoek"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "did you mean 'smoke'" in done.stderr and "Traceback" not in done.stderr


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path):
    changed(tmp_path, lambda values: None, "base")
    (tmp_path / "child.yaml").write_text("extends: base\ntraining: {steps: 3}\ntest_sets: [test_b]\n")
    base, child = (load_experiment(str(tmp_path / f"{name}.yaml")) for name in ("base", "child"))
    assert child.training == base.training.model_copy(update={"steps": 3})
    assert child.test_sets == ["test_b"] and child.systems == base.systems and child.name == "child"
    assert [path.stem for path in experiment_files(str(tmp_path / "child.yaml"))] == ["child", "base"]


def test_extending_with_another_corpus_keeps_none_of_its_settings(tmp_path):
    changed(tmp_path, lambda values: None, "base")
    (tmp_path / "child.yaml").write_text("extends: base\ncorpus: {name: fsdd, settings: {seed: 3}}\n")
    assert load_experiment(str(tmp_path / "child.yaml")).corpus.settings == {"seed": 3}


def test_every_committed_experiment_is_valid():
    names = [path.stem for path in Path("config").glob("*.yaml") if path.stem != "corpora"]
    assert "smoke" in names
    for name in names:
        load_experiment(name)


def test_references_in_settings_are_edges():
    experiment = load_experiment(str(TINY))
    edges = Edges(experiment, "results/tiny")

    class wildcards:
        system, seed = "student", 0

    assert experiment.needs("student") == ["a4"]
    assert edges.inputs_of(wildcards) == ["results/tiny/systems/a4/seed0/model.safetensors"]
    assert edges.input_arguments(wildcards) == "--input a4=results/tiny/systems/a4/seed0"


def test_what_methods_need_is_what_the_reader_saw():
    from methods.contract import load_method

    experiment = load_experiment(str(TINY))
    for name, entry in experiment.systems.items():
        kind = load_method(entry.method, name)
        assert sorted(kind.needs(kind.Config.model_validate(entry.settings)).values()) == experiment.needs(name)


def test_only_what_changes_a_system_changes_its_training_inputs(tmp_path):
    base = load_experiment(str(TINY))
    other = load_experiment(str(changed(tmp_path, put("systems", "f2", "settings", "alpha_kl", 0.2), "tiny")))
    assert base.training_inputs("f2") != other.training_inputs("f2")
    assert base.training_inputs("a4") == other.training_inputs("a4")
    rows = load_experiment(str(changed(tmp_path, put("tables", "table1", "rows", "1", "depth", 4), "tiny")))
    assert base.training_inputs("f2") == rows.training_inputs("f2")


LAZY = """
import sys
{code}
heavy = sorted({{"torch", "espnet", "espnet2", "lightning_fabric", "transformers"}} & set(sys.modules))
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "code",
    [
        "from workflows.experiment import load_experiment; load_experiment('smoke').resolved",
        "from workflows.sources import sources_hash; sources_hash('workflows.steps.train', 'methods.unfolding')",
        "import workflows.edges, methods.paths, methods.names, analysis.wer, analysis.mapsswe, analysis.render",
        "import workflows.prepare, workflows.train, workflows.evaluate, workflows.measure, workflows.check",
        "import asr.settings, asr.corpora, asr.tokenizer",
    ],
)
def test_light_modules_import_no_torch(code):
    subprocess.run([sys.executable, "-c", LAZY.format(code=code)], check=True)


COMMANDS = (
    "methods.paths",
    "asr.corpora",
    "workflows.check",
    "workflows.prepare",
    "workflows.train",
    "workflows.evaluate",
    "workflows.measure",
    "analysis.wer",
    "analysis.mapsswe",
    "analysis.render",
    "analysis.summary",
)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_imports_no_torch(module):
    code = (
        f"import runpy, sys\nsys.argv = ['x', '--help']\ntry:\n    runpy.run_module('{module}', run_name='__main__')\n"
    )
    code += "except SystemExit as stop:\n    assert not stop.code\n" + LAZY.format(code="")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_editing_a_method_touches_its_systems_only(tmp_path, monkeypatch):
    from workflows import sources

    files = {path.name for path in sources.needed_files("methods.unfolding")}
    assert {"unfolding.py", "contract.py", "paths.py", "settings.py"} <= files
    assert "all_physical.py" not in files
    train = {str(path.relative_to(sources.ROOT)) for path in sources.needed_files("workflows.steps.train")}
    assert "asr/training.py" in train and "methods/contract.py" in train
    assert not {"methods/unfolding.py", "baselines/all_physical.py"} & train
    assert not any(path.startswith("analysis/") for path in train)


def test_data_files_are_hashed_by_content(tmp_path):
    from workflows.sources import files_hash

    rules = tmp_path / "rules.glm"
    rules.write_text("a")
    before = files_hash("analysis/published/*.csv", str(rules))
    assert before == files_hash(str(rules), "analysis/published/*.csv")
    rules.write_text("b")
    assert files_hash("analysis/published/*.csv", str(rules)) != before
    assert files_hash(str(rules)) != before
