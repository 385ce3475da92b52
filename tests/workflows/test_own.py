"""`own` on recordings that nobody prepared: its length follows from what it is given; it is scored by characters."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from analysis.scoring.speakers import write_speakers
from asr.corpora import check_source
from common.errors import UserError
from common.files import read_json
from tests.workflows.commands import ROOT, command, jobs, one_clear_error, snakemake
from workflows.experiment import load_experiment
from workflows.identity import Identities, differences
from workflows.prepare import few_speakers, foreseen

LETTERS = "abcd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`own` at a tiny size, in a folder of its own with what it extends and with recordings: a tone for each letter."""
    found = tmp_path_factory.mktemp("own")
    for name in ("base", "sisters", "recipe", "own"):
        shutil.copy(ROOT / f"config/{name}.yaml", found)
    rng = np.random.default_rng(0)
    lines = ["audio,text"]
    for number in range(40):
        said = rng.choice([*LETTERS], 4)
        tones = [np.sin(np.arange(2400) * (300 + 400 * LETTERS.index(one)) * 2 * np.pi / 8000) for one in said]
        samples = 0.3 * np.concatenate(tones) + 0.01 * rng.standard_normal(9600)
        soundfile.write(found / f"{number:02d}.mp3", samples, 8000)
        lines.append(f"{number:02d}.mp3,{''.join(said)}")
    (found / "recordings.csv").write_text("\n".join(lines))
    (found / "tiny.yaml").write_text(yaml.safe_dump(small(found)))
    return found


def small(found: Path) -> dict:
    width = {"input_dim": 20, "width": 16, "heads": 2, "ffn": 16, "kernel": 5}
    decoder = {"decoder_heads": 2, "decoder_ffn": 16}
    rows = {"a12": {"system": "a12", "depth": 12}, "f4@12": {"system": "f4", "depth": 12}}
    return {
        "extends": "own",
        "extends_only": {"systems": ["a12", "f4"], "tables": [], "figures": []},
        "corpus": {"settings": {"source": str(found / "recordings.csv"), "workers": 1}},
        "score": "characters",
        "features": {"mels": 20, "store": False},
        "backbone": {"settings": {**width, **decoder}},
        "training": {"passes": 3, "least_steps": 2, "steps": 500, "batch_seconds": 8},
        "headline": "f4",
        "measure": {"audio_seconds": 1},
        "tables": {"depths": {"kind": "systems", "decode": "greedy", "reference": "a12", "rows": rows}},
        "figures": {"depth": {"kind": "depth_curves", "decode": "greedy", "systems": ["f4"], "baselines": ["a12"]}},
    }


@pytest.fixture(scope="module")
def prepared(folder) -> Path:
    """Its corpus and inputs, through the steps."""
    from workflows.steps.inputs import prepare_inputs
    from workflows.steps.prepare import prepare_corpus

    experiment, data = load_experiment(str(folder / "tiny.yaml")), folder / "results/tiny/data/folder"
    prepare_corpus(experiment, data)
    prepare_inputs(experiment, None, data)
    return data


def test_the_ready_file_has_one_line_to_set():
    own = yaml.safe_load((ROOT / "config/own.yaml").read_text())
    assert own["corpus"] == {"name": "folder", "settings": {"source": "recordings", "workers": 2}}
    experiment = load_experiment("own")
    assert [*experiment.systems] == ["a12", "a6", "f6", "f4"] and not experiment.parts
    assert [*experiment.tables] == ["depths"] and [*experiment.figures] == ["depth"]
    training = experiment.training_of("f6")
    assert (training.passes, training.least_steps, training.steps) == (20, 1500, 6000)


def test_a_source_that_is_not_there_is_said_before_any_work():
    with pytest.raises(UserError, match="corpus.settings.source: recordings: no such file or folder"):
        check_source("folder", load_experiment("own").corpus.settings)


def test_few_speakers_and_sets_of_other_names_are_said(folder, tmp_path):
    """One speaker in each set: no verdict, said when it is prepared. An absent set: by the key that names it."""
    rows = [(path, number) for number, path in enumerate(sorted(folder.glob("*.mp3")))]
    table, path = tmp_path / "spoken.csv", folder / "spoken.yaml"
    table.write_text("\n".join(["audio,text,speaker", *(f"{each},ab,person{n % 3}" for each, n in rows)]))
    values = {"extends": "tiny", "corpus": {"settings": {"source": str(table)}}}
    path.write_text(yaml.safe_dump(values))
    done = command("workflows.prepare", "--experiment", path, "--out", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert "1 speaker in test: claims about error rates get verdicts from 10 on" in done.stdout.splitlines()
    path.write_text(yaml.safe_dump({**values, "test_sets": ["test_a"]}))
    done = command("workflows.prepare", "--experiment", path, "--out", tmp_path / "data")
    one_clear_error(done, "spoken: test_sets: corpus folder has other sets: unknown set 'test_a'; did you mean 'test'?")


@pytest.mark.parametrize(("over", "said"), [("voices", []), ("timbres", ["3 timbres in test"])])
def test_it_is_groups_of_speakers_that_can_be_too_few(folder, tmp_path, over, said):
    """Twelve voices, of three timbres."""
    found_by = {"voices": ".+", "timbres": "^[^_]+"}[over]
    corpus = {"settings": {"source": str(folder)}, "speaker_groups": {"over": over, "found_by": found_by}}
    path = folder / f"{over}.yaml"
    path.write_text(yaml.safe_dump({"extends": "tiny", "corpus": corpus}))
    voices = [f"t{number % 3}_v{number}" for number in range(12)]
    (tmp_path / "test.trn").write_text("".join(f"ab ({voice}-1)\n" for voice in voices))
    write_speakers(tmp_path / "test.speakers.json", {f"{voice}-1": voice for voice in voices})
    found = few_speakers(load_experiment(str(path)), tmp_path)
    assert [line.partition(":")[0] for line in found] == said


def test_what_training_takes_is_known_once_the_recordings_are_read(folder, prepared):
    experiment = load_experiment(str(folder / "tiny.yaml"))
    said = foreseen(experiment, str(folder / "tiny.yaml"), prepared)
    seconds = read_json(prepared / "corpus.json")["sets"]["train"]["seconds"]
    assert said.count("\n") == 0 and f"systems 2 x seeds 1 of {round(3 * seconds / 8)} steps" in said
    assert said.endswith("; decoding is not foreseen")
    assert "of 500 steps" in foreseen(experiment, str(folder / "tiny.yaml"), folder / "nowhere")


def test_a_training_lasts_as_many_passes_and_its_paths_are_chosen_by_characters(folder, prepared):
    from workflows.steps.evaluate import evaluate_system
    from workflows.steps.train import train_system

    experiment, out = load_experiment(str(folder / "tiny.yaml")), folder / "results/tiny/systems/f4/seed0"
    train_system(experiment, "f4", 0, prepared, out, {})
    seconds = read_json(prepared / "corpus.json")["sets"]["train"]["seconds"]
    training = read_json(out / "provenance.json")["configuration"]["training"]
    assert training["steps"] == round(3 * seconds / 8) > 2 and training["passes"] is None
    assert read_json(out / "system.json")["steps"] == training["steps"]
    evaluate_system(experiment, "f4", prepared, out, out / "eval")
    assert read_json(out / "eval/points.json")["decodes"]["greedy"]["choices"]
    assert read_json(prepared / "test.speakers.json") == {}


def test_extends_only_names_what_is_there(folder):
    values = yaml.safe_load((folder / "tiny.yaml").read_text())
    wrong = {
        "unknown name 'a13'; did you mean 'a12'": {"systems": ["a13"]},
        "unknown key 'system'; did you mean 'systems'": {"system": ["a12"]},
        "extends_only: a mapping of systems": {"systems": "a12"},
    }
    for number, (message, only) in enumerate(wrong.items()):
        path = folder / f"wrong{number}.yaml"
        path.write_text(yaml.safe_dump({**values, "extends_only": only}))
        with pytest.raises(UserError, match=message):
            load_experiment(str(path))


def test_published_tables_are_not_scored_by_characters(folder):
    values = yaml.safe_load((folder / "tiny.yaml").read_text())
    values["tables"]["depths"] |= {"kind": "table1", "published": "paper_table1"}
    (folder / "published.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="tables.depths: published numbers are error rates of words"):
        load_experiment(str(folder / "published.yaml"))


def _kinds_of_source(found: Path) -> dict[str, tuple[object, list[str]]]:
    """Sources of each kind with the files that are read of them."""
    kaldi, given, lhotse = found / "kaldi", found / "given", found / "lhotse"
    scripts, tables = ("wav.scp", "text", "utt2spk", "segments"), ("train.tsv", "dev.tsv", "test.tsv")
    pair = {name: str(lhotse / f"{name}.jsonl") for name in ("recordings", "supervisions")}
    files = (
        [kaldi / name for name in scripts] + [given / name for name in tables] + [Path(name) for name in pair.values()]
    )
    for path in [found / "recordings.csv", *files]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("something")
    return {
        "table": (str(found / "recordings.csv"), [str(found / "recordings.csv")]),
        "folder": (str(found), [str(found / "recordings.csv")]),
        "kaldi": (str(kaldi), [str(kaldi / name) for name in scripts]),
        "given": (str(given), [str(given / name) for name in tables]),
        "named": ({name[:-4]: str(given / name) for name in tables}, [str(given / name) for name in tables]),
        "lhotse": (pair, [*pair.values()]),
    }


def test_the_files_that_name_recordings_decide_the_corpus(folder, tmp_path):
    experiment = load_experiment(str(folder / "tiny.yaml"))

    def recipe() -> dict:
        return Identities(experiment, tmp_path / "results").data_recipe()

    for source, files in _kinds_of_source(tmp_path).values():
        experiment.corpus.settings["source"] = source
        before = recipe()
        assert [*before["files"]] == files
        for file in map(Path, files):
            written = file.read_text()
            file.write_text(f"{written} else")
            assert [*differences(before, recipe())] == [f"files: {file}"]
            file.write_text(written)
        assert recipe() == before
    (tmp_path / "kaldi/utt2spk").unlink()
    experiment.corpus.settings["source"] = str(tmp_path / "kaldi")
    assert str(tmp_path / "kaldi/utt2spk") not in recipe()["files"]
    experiment.corpus.settings["source"] = str(tmp_path / "nowhere")
    assert recipe()["files"] == {}, "preparation says it"


def test_other_originals_of_converted_recordings_are_heard_after_the_command_of_the_page(folder, tmp_path):
    for path in [*folder.glob("*.yaml"), folder / "recordings.csv", *folder.glob("*.mp3")]:
        shutil.copy(path, tmp_path)
    values = small(tmp_path)
    values["training"]["passes"] = None  # how long training takes is not measured
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    identities = Identities(load_experiment(str(tmp_path / "tiny.yaml")), tmp_path / "tiny")

    def prepare() -> None:
        out = tmp_path / "tiny/data/folder"
        done = command("workflows.prepare", "--experiment", tmp_path / "tiny.yaml", "--out", out)
        assert done.returncode == 0, done.stderr

    prepare()
    heard, recipe = identities.training_contents("a12", {}), identities.data_recipe()
    rng = np.random.default_rng(1)
    for path in tmp_path.glob("*.mp3"):
        soundfile.write(path, 0.1 * rng.standard_normal(9600), 8000)
    assert (identities.training_contents("a12", {}), identities.data_recipe()) == (heard, recipe)
    prepare()
    now = identities.training_contents("a12", {})
    assert {"set train", "set dev"} <= {each for each in heard if now[each] != heard[each]}


@pytest.mark.slow
def test_the_whole_workflow_says_what_it_will_take_and_reports_cers(folder):
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    said = (done.stdout + done.stderr).splitlines()
    (split,) = [place for place, line in enumerate(said) if "splits made by recording" in line]
    (time,) = [place for place, line in enumerate(said) if line.startswith("training will take")]
    trained = next(place for place, line in enumerate(said) if "Train a12" in line or "Train f4" in line)
    assert split < time < trained
    text = (folder / "tiny/RESULTS.md").read_text()
    assert "pooled CER %" in text and "Nobody named the speakers of test" in text
    table, prepare = folder / "recordings.csv", "Prepare the corpus: recordings, manifests, reference transcripts"
    before = table.read_text()
    assert jobs(snakemake(folder, "--dry-run")) == []
    table.write_text(before.replace(",a", ",b", 1))
    assert prepare in jobs(snakemake(folder, "--dry-run"))
    table.write_text(before)
    assert jobs(snakemake(folder, "--dry-run")) == []
