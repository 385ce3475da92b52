"""What a result is known by: source code by what it says, recordings by content, and results that are accepted."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from asr.corpora import Utterance, write_cuts
from asr.corpora.content import check_audio, content_file, set_content, write_content
from common.errors import UserError
from tests.workflows.commands import TINY, command, one_clear_error, read, snakemake
from workflows import sources
from workflows.experiment import load_experiment
from workflows.identity import Identities, changes, differences, identity
from workflows.sources import code_hash, module_hashes, package_versions
from workflows.why import Plan, said_first

SOURCE = '''
"""A module."""
import math
from typing import Any  # a remark


class Rate(float):
    """A rate."""

    unit: str = "percent"
    """In words."""

    @property
    def shown(self) -> str:
        """Two digits."""
        return f"{self:.2f}" "%" f"{{{self.unit!r}}}"


async def mean(values: list[float], /, *, weights: Any = None, **others: int) -> float:
    match values:
        case []:
            return math.nan
        case [one, *_] if one:
            return sum(v * w for v, w in zip(values, weights or [1] * len(values)))
    try:
        return (total := sum(values)) / len(values)
    except* ZeroDivisionError as group:
        raise ValueError(u"no values") from group
    finally:
        lambda x=b"\\x00": -x[1:-1]
'''


def test_the_hash_of_source_code_is_the_recorded_one_under_every_python():
    """Made under Python 3.11 and 3.12: who trains under one goes on under the other."""
    assert code_hash(SOURCE) == "eace3ae1be9d7458"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  # a remark", ""),
        ('"""A module."""\n', '"""A module, once more."""\n# And a remark.\n'),
        ('    """In words."""\n', ""),
        ('        """Two digits."""\n', "\n\n"),
        ("[1] * len(values)", "[1] * (len(values))"),
        ('"%" f"', 'f"%'),
        ('u"no values"', "'no values'"),
    ],
)
def test_what_does_not_run_is_in_no_hash(before, after):
    assert before in SOURCE
    assert code_hash(SOURCE.replace(before, after)) == code_hash(SOURCE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (" / len(values)", " // len(values)"),
        ("[1] * len", "[2] * len"),
        (":.2f}", ":.3f}"),
        ("!r}", "!s}"),
        ('"percent"', '"per cent"'),
        ("weights: Any = None", "weights: Any = 0"),
        ("/, *, weights", "*, weights"),
        ("async def", "def"),
    ],
)
def test_what_runs_is_in_the_hash(before, after):
    assert before in SOURCE
    assert code_hash(SOURCE.replace(before, after)) != code_hash(SOURCE)


def test_a_list_of_checksums_beside_a_module_is_part_of_it():
    assert "asr/corpora/fsdd_sha256.txt" in module_hashes(["asr.corpora.fsdd"])


def test_how_data_are_prepared_and_how_results_are_described_decides_no_training():
    from workflows.identity import PREPARED

    needed = module_hashes(["workflows.steps.train", "methods.unfolding", "asr.backbones.conformer"], PREPARED)
    assert {"asr/training.py", "methods/unfolding.py", "asr/backbones/conformer.py", "workflows/data.py"} <= set(needed)
    for name in needed:
        assert not name.startswith(("common/", "analysis/")), name
        assert name not in ("asr/corpora/preparation.py", "asr/settings.py"), name
        assert not name.startswith("workflows/experiment/"), name


def test_relative_imports_of_a_listed_package_are_followed(tmp_path, monkeypatch):
    files = {
        "theirlab/__init__": "",
        "theirlab/method": "from .helpers import factor\nfrom . import more\nfrom .deep import inner\n",
        "theirlab/helpers": "factor = 2\n",
        "theirlab/more": "",
        "theirlab/deep/__init__": "",
        "theirlab/deep/inner": "from ..beside import x\n",
        "theirlab/beside": "x = 1\n",
        "theirlab/unused": "",
    }
    for name, text in files.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = {
        str(Path(name).relative_to(tmp_path).with_suffix(""))
        for name in module_hashes(["theirlab.method"], (), ("theirlab",))
    }
    assert found == files.keys() - {"theirlab/unused"}


def test_packages_that_compute_are_known_by_version_without_the_label_of_a_build():
    found = package_versions(["workflows.steps.train", "asr.backbones.conformer"])
    assert {"torch", "espnet", "numpy", "lhotse"} <= set(found) and not {"rich", "pydantic"} & set(found)
    assert all("+" not in version for version in found.values())


@pytest.fixture
def corpus(tmp_path):
    """Two utterances in one file, and one in another."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", rng.integers(-999, 999, 4000).astype(np.int16), 8000)
    stretches = [("s1-a0", "a", 0.0), ("s1-a1", "a", 0.25), ("s2-b0", "b", 0.0)]
    utterances = [Utterance(i, tmp_path / f"{f}.wav", 8000, 0.25, i[:2], "one", start) for i, f, start in stretches]
    write_cuts(tmp_path / "train.jsonl.gz", utterances)
    write_content(tmp_path, {"train": utterances})
    return tmp_path


def test_a_set_is_known_by_what_is_said_and_by_its_samples(corpus):
    before = set_content(corpus, "train")
    moved = shutil.copytree(corpus, corpus.parent / "moved")
    from asr.corpora import read_cuts

    assert write_content(moved, {"train": read_cuts(moved / "train.jsonl.gz")})["train"] == before
    samples, rate = soundfile.read(moved / "b.wav", dtype="int16")
    soundfile.write(moved / "b.wav", samples[::-1], rate)
    assert write_content(moved, {"train": read_cuts(moved / "train.jsonl.gz")})["train"] != before


def test_a_file_whose_time_changed_is_hashed_again_and_only_once(corpus, monkeypatch):
    import asr.corpora.content as content

    hashed = []
    monkeypatch.setattr(content, "sha256", lambda path: hashed.append(path.name) or real(path))
    real = __import__("common.files", fromlist=["sha256"]).sha256
    check_audio(corpus, ["train"])
    assert hashed == []
    os.utime(corpus / "a.wav")
    check_audio(corpus, ["train"])
    check_audio(corpus, ["train"])
    assert hashed == ["a.wav"]


def test_a_recording_that_is_another_is_refused_by_name(corpus):
    samples, rate = soundfile.read(corpus / "b.wav", dtype="int16")
    soundfile.write(corpus / "b.wav", samples[::-1], rate)
    with pytest.raises(UserError, match=r"b\.wav: utterance s2-b0: the recording is another .* prepare the corpus"):
        check_audio(corpus, ["train"])
    (corpus / "b.wav").unlink()
    with pytest.raises(UserError, match=r"b\.wav: utterance s2-b0: there is no such audio file"):
        check_audio(corpus, ["train"])


def test_training_refuses_recordings_that_changed_after_preparation(data, tmp_path):
    audio = next(path for path in sorted((data / "audio/train").rglob("*")) if path.is_file())
    samples, rate = soundfile.read(audio, dtype="int16")
    soundfile.write(audio, samples[::-1], rate)
    done = command("workflows.train", "--experiment", TINY, "--system", "a2", "--data", data, "--out", tmp_path / "a2")
    one_clear_error(done, audio.name, "the recording is another than when the corpus was prepared")


def test_differences_are_said_in_words():
    def made(steps, code, torch, content):
        recipe = {
            "settings": {"training": {"steps": steps}},
            "sources": {"asr/batches.py": code},
            "packages": {"torch": torch},
            "files": {},
        }
        return identity(recipe, {"set train": content})

    found = changes(made(320, "a", "2.13.0", "x"), made(400, "b", "2.14.0", "y"))
    assert found == [
        'packages.torch: "2.13.0" -> "2.14.0"',
        "settings.training.steps: 320 -> 400",
        "sources: asr/batches.py",
        "set train: its content",
    ]
    assert changes(made(320, "a", "2.13.0", "x"), made(320, "a", "2.13.0", "x")) == []


def test_of_lists_is_said_what_only_one_has():
    """Points of a system, of which a table shows one more: the first sixty letters of both are alike."""
    points = [f"[{depth}, null, null]" for depth in range(4, 14)]
    found = [*differences({"rows": points}, {"rows": [*points[1:], "[14, null, null]"]})]
    assert found == ['rows: without ["[4, null, null]"], with ["[14, null, null]"]']
    assert [*differences({"points": [[], points[1:]]}, {"points": [[], points]})] == [
        'points[1]: with ["[4, null, null]"]'
    ]
    assert [*differences([1, 2], [2, 1], "seeds")] == ["seeds: in another order"]
    assert [*differences([1], None, "seeds")] == ["seeds: [1] -> null"]


def trained_again(run):
    done = snakemake(run.parent, "-n")
    assert done.returncode == 0, done.stderr
    return [line.split(": ")[1] for line in (done.stdout + done.stderr).splitlines() if ": Train " in line], done


def test_why_says_what_changed_and_an_accepted_result_is_kept(run, alone):
    """The workflow, `why` and the first lines of a run agree, before and after a difference was accepted."""
    experiment, folder = run.parent / "tiny.yaml", run / "systems/f2/seed0"
    before = experiment.read_text()
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}
    arguments = ["--experiment", experiment, "--results", run.parent]
    assert command("workflows.why", *arguments).stdout == "nothing would be made again\n"
    one_clear_error(command("workflows.why", *arguments, "--accept", "f2"), "f2", "nothing of it has changed")
    one_clear_error(command("workflows.why", *arguments, "--accept", "f3"), "unknown system 'f3'")
    values = yaml.safe_load(before)
    values["systems"]["f2"]["settings"]["alpha_kl"] = 0.2
    try:
        experiment.write_text(yaml.safe_dump(values))
        jobs, done = trained_again(run)
        chain = ["Train f2, seed 0", "Train f2_half, seed 0", "Train f2_half_int4, seed 0"]
        assert sorted(jobs) == chain
        assert "note: 3 finished systems would be trained again:" in done.stderr
        assert "f2, seed 0: settings.settings.alpha_kl: null -> 0.2" in done.stderr
        said = command("workflows.why", *arguments).stdout.splitlines()
        assert "train f2, seed 0: settings.settings.alpha_kl: null -> 0.2" in said
        assert "evaluate f2, seed 0: follows train f2, seed 0" in said
        assert not [line for line in said if line.startswith(("train a4", "evaluate a4", "data", "inputs"))]

        done = command("workflows.why", *arguments, "--accept", "f2")
        assert done.returncode == 0 and "accepted for f2: settings.settings.alpha_kl: null -> 0.2" in done.stdout
        assert not [line for line in done.stdout.splitlines() if line.startswith("train f2")]
        assert trained_again(run)[0] == []
        (note,) = read(folder / "provenance.json")["accepted"]
        assert note["difference"] == ["settings.settings.alpha_kl: null -> 0.2"] and note["when"]

        values["systems"]["f2"]["settings"]["alpha_kl"] = 0.3  # another difference, which nobody accepted
        experiment.write_text(yaml.safe_dump(values))
        assert sorted(trained_again(run)[0]) == chain
    finally:
        experiment.write_text(before)
        for path in list(folder.iterdir()):
            if path.is_file() and path not in files:
                path.unlink()
        for path, (content, time) in files.items():
            path.write_bytes(content)
            os.utime(path, ns=(time, time))
    assert trained_again(run)[0] == []


def test_nothing_is_said_first_where_nothing_would_be_trained_again(run, tmp_path):
    experiment = load_experiment(str(run.parent / "tiny.yaml"))
    assert said_first(Plan(experiment, run)) == []
    assert said_first(Plan(experiment, tmp_path / "nothing here")) == [], "not made yet is not made again"


def test_where_results_stand_is_given_in_either_way(run, monkeypatch):
    """`make reproduce` names the folder as seen from the checkout."""
    experiment = load_experiment(str(run.parent / "tiny.yaml"))
    monkeypatch.chdir(run.parent)
    for folder in (run, Path("tiny"), Path("../") / run.parent.name / "tiny"):
        assert Plan(experiment, folder).reasons == {}, folder


def test_each_set_says_what_it_holds(run):
    data = run / "data/synth"
    held = read(data / "corpus.json")["sets"]
    for name in ("train", "dev", "test_a", "test_b", "test_c"):
        assert read(data / content_file(name))["content"] == held[name]["content"]


def test_an_untracked_method_counts_as_modified(tmp_path, monkeypatch):
    from workflows import provenance

    def git(*words):
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tmp_path, check=True)

    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/plain.py").write_text("x = 1\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit()["modified"] is False
    (tmp_path / "results.txt").write_text("no code")
    assert provenance.commit()["modified"] is False
    (tmp_path / "methods/nobody_has_seen_this.py").write_text("x = 2\n")
    assert provenance.commit()["modified"] is True
    git("add", "-A")
    git("commit", "-q", "-m", "second")
    assert provenance.commit()["modified"] is False
    (tmp_path / "methods/plain.py").write_text("x = 3\n")
    assert provenance.commit()["modified"] is True


def test_how_weights_are_packed_concerns_those_who_may_pack_them_alone():
    identities = Identities(load_experiment(TINY), Path("results/tiny"))
    concerned = {
        name
        for name in identities.experiment.systems
        if "methods/shared/packed.py" in identities.training_recipe(name)["sources"]
    }
    assert concerned == {"f2_half", "f2_half_int4", "fw1_int8"}


def test_how_labels_are_searched_concerns_transcripts_alone_and_how_batches_are_read_trainings_too():
    identities = Identities(load_experiment(TINY), Path("results/tiny"))
    training, costs, evaluation = (
        set(recipe("f2")["sources"])
        for recipe in (identities.training_recipe, identities.costs_recipe, identities.evaluation_recipe)
    )
    search = {f"asr/search/{name}.py" for name in ("__init__", "beam", "attention", "ctc_prefix")}
    assert search <= evaluation and not search & (training | costs)
    read = ("batches", "examples", "loader", "features", "processes", "finiteness", "optimiser")
    block = ("block", "decoder")
    parts = ("compilation", "masked_batch_norm", "relative_attention", "spec_augment")
    needed = {f"asr/{name}.py" for name in read} | {f"asr/backbones/conformer_{name}.py" for name in block}
    assert needed | {f"asr/backbones/{name}.py" for name in parts} <= training


def test_a_derived_system_follows_the_code_of_what_it_is_derived_from():
    """Its points and losses are those of the first method of the chain."""
    identities = Identities(load_experiment(TINY), Path("results/tiny"))
    for name in ("f2_half", "f2_half_int4", "fw1_int8"):
        recipes = [identities.training_recipe(name), identities.evaluation_recipe(name), identities.costs_recipe(name)]
        assert all("methods/unfolding.py" in recipe["sources"] for recipe in recipes), name
    assert "baselines/magnitude.py" in identities.training_recipe("f2_half_int4")["sources"]
    assert "methods/unfolding.py" not in identities.training_recipe("a4")["sources"]


def test_in_which_order_rows_stand_and_how_many_show_a_point_decides_nothing(tmp_path):
    values = yaml.safe_load(Path(TINY).read_text())

    def recipes(name):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        identities = Identities(load_experiment(str(path)), tmp_path)
        return identities.evaluation_recipe(name), identities.costs_recipe(name)

    before = recipes("f2")
    values["tables"] = dict(reversed(values["tables"].items()))
    values["tables"]["more"] = {"kind": "systems", "decode": "greedy", "rows": {"x": {"system": "f2", "depth": 4}}}
    assert recipes("f2") == before
    values["tables"]["more"]["rows"]["x"] = {"system": "f2", "path": "1 2"}
    assert recipes("f2") != before


def test_what_a_file_says_is_remembered_until_its_time_or_size_changes(tmp_path, monkeypatch):
    kept, path, read = tmp_path / "kept" / "sources.json", tmp_path / "a.py", []
    monkeypatch.setattr(sources, "REMEMBERED", kept)
    worked_out = sources._Source._worked_out
    monkeypatch.setattr(sources._Source, "_worked_out", lambda self: [read.append(self.path), worked_out(self)][1])

    def asked_by_another_command():
        for each in (sources._source_of, sources._remembered):
            each.cache_clear()
        sources._asked.clear()
        read.clear()
        return sources._source(path)

    path.write_text("import math\nLIST = 'list.txt'\n")
    first = asked_by_another_command()
    assert (first.imports, first.data_beside, read) == (["math"], set(), [path])
    sources.remember_sources()
    assert not kept.exists(), "the folder is Snakemake's, and there is none"
    kept.parent.mkdir()
    sources.remember_sources()
    (tmp_path / "list.txt").write_text("what lies beside is asked for anew")
    again = asked_by_another_command()
    assert (again.code_hash, again.imports, again.data_beside) == (first.code_hash, ["math"], {tmp_path / "list.txt"})
    assert not read
    path.write_text("import cmath\nLIST = 'list.txt'\n")
    changed = asked_by_another_command()
    assert changed.code_hash != first.code_hash and changed.imports == ["cmath"] and read == [path]
    sources.remember_sources()
    kept.write_text(kept.read_text().replace('"by": "', '"by": "0'))
    assert asked_by_another_command().code_hash == changed.code_hash and read == [path], "another version's"
    kept.write_text("{")
    assert asked_by_another_command().code_hash == changed.code_hash and read == [path]
    asked_by_another_command()
