"""What a file may name as a method: modules of this project, and of packages that the user lists. Nothing else is
imported."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from common.errors import UserError
from methods.contract import load_method
from methods.names import check_method_exists
from tests.systems import system_folder
from tests.workflows.commands import ROOT, TINY, one_clear_error
from workflows.systems import load_system

METHOD = (ROOT / "baselines/all_physical.py").read_text()


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    """A package of somebody else, with a method; importing any part of it leaves a trace in `tmp_path/imported`."""
    trace = f"open({str(tmp_path / 'imported')!r}, 'a').write(__name__)\n"
    for name, text in {"mylab/__init__": trace, "mylab/plain": METHOD, "surprise": trace}.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("mylab", "surprise")]:
        del sys.modules[name]


def naming(tmp_path, method, **more):
    """A trained system whose description names another method."""
    folder = system_folder(tmp_path, method="baselines.all_physical", settings={})
    description = json.loads((folder / "system.json").read_text())
    (folder / "system.json").write_text(json.dumps({**description, "method": method, **more}))
    return folder


@pytest.mark.parametrize("method", ["surprise", "mylab.plain", "antigravity", "os.path", "methods", "tests.toys.int8"])
def test_a_system_names_no_other_code(mylab, method):
    folder = naming(mylab, method, packages=[method.split(".")[0]])
    with pytest.raises(UserError, match=f"system.json: unknown method '{method}'.*--package") as error:
        load_system(folder)
    assert str(folder) in str(error.value)
    assert not (mylab / "imported").exists()
    assert "antigravity" not in sys.modules and "surprise" not in sys.modules


@pytest.mark.parametrize(
    "name",
    ["methods.contract", "methods.contract.method", "methods.shared.derived", "methods.paths.__main__", "baselines.x"],
)
def test_what_methods_share_is_no_method(name):
    with pytest.raises(UserError, match=f"here: unknown method '{name}'.*known: .*baselines.all_physical"):
        load_method(name, "here")


def test_a_package_that_the_user_lists_is_loaded(mylab):
    folder = naming(mylab, "mylab.plain")
    assert type(load_system(folder, packages=["mylab"]).method).__module__ == "mylab.plain"
    with pytest.raises(UserError, match="unknown method 'surprise'"):
        load_system(naming(mylab, "surprise"), packages=["mylab"])


@pytest.mark.parametrize("listed", [[], ["mylab"], ["other"]])
def test_an_experiment_lists_packages(mylab, listed):
    values = yaml.safe_load((ROOT / TINY).read_text())
    values["systems"]["a2"]["method"] = "mylab.plain"
    values["packages"] += listed
    (mylab / "mine.yaml").write_text(yaml.safe_dump(values))
    words = [sys.executable, "-m", "workflows.check", "--experiment", str(mylab / "mine.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(mylab)}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    if "mylab" in listed:
        assert done.returncode == 0, done.stderr
    else:
        one_clear_error(done, "mine.yaml: systems.a2.method: unknown method 'mylab.plain'", "packages: [mylab]")
        assert not (mylab / "imported").exists()


def test_the_closest_name_is_said_for_listed_packages_too(mylab):
    with pytest.raises(UserError, match="did you mean 'mylab.plain'"):
        check_method_exists("mylab.plian", "x", ["mylab"])
    with pytest.raises(UserError, match="did you mean 'methods.unfolding'"):
        check_method_exists("unfolding", "x")


def test_helpers_and_unknown_modules_are_no_methods():
    for name in ("methods.contract", "methods.", "methods..paths", "methods.unfolding.Unfolding", "baselines.none"):
        with pytest.raises(UserError, match="unknown method"):
            load_method(name, "x")
