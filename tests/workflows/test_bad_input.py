"""Bad input through the real commands: one clear message, status 1, no traceback, and earlier results as they were."""

import dataclasses
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from asr.checkpoints import save_state
from asr.corpora import read_cuts
from asr.corpora.content import write_content
from asr.corpora.manifests import write_cuts
from common.errors import UserError
from common.files import replacing
from tests.workflows.commands import TINY, command, contents, errors, one_clear_error, read, refused, train
from workflows.experiment import load_experiment
from workflows.steps.evaluate import evaluate_system
from workflows.steps.train import train_system


@pytest.fixture
def earlier(run, tmp_path):
    """A copy of a trained and evaluated system, to be trained or evaluated again."""
    return Path(shutil.copytree(run / "systems/a2/seed0", tmp_path / "a2"))


def results(folder):
    """What a run has finished, without the work in progress that a later run goes on from."""
    return {name: value for name, value in contents(folder).items() if not name.startswith("work/")}


def training(data, out):
    """The step of `python -m workflows.train` for a2."""
    return lambda: train_system(load_experiment(TINY), "a2", 0, data, out, {})


def utterances(data, name="train"):
    return read_cuts(data / f"{name}.jsonl.gz")


def rewrite(data, number, name="train", **changes):
    """Change one utterance of a manifest."""
    cuts = utterances(data, name)
    cuts[number] = dataclasses.replace(cuts[number], **changes)
    write_cuts(data / f"{name}.jsonl.gz", cuts)
    return cuts[number]


def _missing(path):
    path.unlink()


def _empty(path):
    path.write_bytes(b"")


def _truncated(path):
    path.write_bytes(path.read_bytes()[:2000])


def _nan(path):
    samples, rate = soundfile.read(path, dtype="float32")
    samples[1234] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT", format="WAV")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_missing, "there is no such audio file"),
        (_empty, "the audio file is empty"),
        (_truncated, "the file is truncated"),
        (_nan, "sample 1234 is NaN or infinite"),
    ],
)
def test_bad_audio_stops_training_and_is_named(data, earlier, damage, message):
    before = results(earlier)
    bad = utterances(data)[0]
    damage(bad.audio)
    refused(training(data, earlier), bad.audio, f"utterance {bad.id}", message)
    assert results(earlier) == before


def test_bad_audio_stops_evaluation_and_is_named(data, earlier):
    before = contents(earlier)
    bad = utterances(data, "test_b")[-1]
    _missing(bad.audio)
    one_clear_error(evaluate(data, earlier), str(bad.audio), f"utterance {bad.id}", "there is no such audio file")
    assert contents(earlier) == before


def test_a_traceback_is_there_for_those_who_ask(data, tmp_path):
    _missing(utterances(data)[0].audio)
    done = train("a2", data, tmp_path / "a2", FOLDBENCH_TRACEBACK="1")
    assert done.returncode == 1 and "Traceback" in done.stderr and "there is no such audio file" in done.stderr


def test_another_sampling_rate_is_resampled_and_said_once(data, tmp_path):
    cuts = utterances(data)
    other = cuts[0].sampling_rate // 2
    for cut in cuts[:3]:
        samples, rate = soundfile.read(cut.audio, dtype="float32")
        assert rate == cut.sampling_rate
        soundfile.write(cut.audio, samples[::2], other)
    write_content(data, {name: utterances(data, name) for name in ("train", "dev")})
    done = train("a2", data, tmp_path / "a2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"{other} Hz, not the declared {cuts[0].sampling_rate} Hz") == 1


def inputs(data, experiment=TINY, *arguments):
    return command("workflows.inputs", "--experiment", experiment, "--data", data, *arguments)


@pytest.mark.parametrize("name", ["train", "dev"])
def test_letters_that_the_list_lacks_are_named_and_the_earlier_tokenizer_stays(data, name):
    before = contents(data)
    bad = rewrite(data, 1, name, text="señor 7")
    after = contents(data)
    words = ("lacks '7' 'Ñ'", f"utterance {bad.id}", "give another list")
    one_clear_error(inputs(data, TINY, "--family", "speech"), *words)
    assert contents(data) == after and set(after) == set(before)


def test_a_list_of_letters_that_is_none_is_named(data, tmp_path):
    letters = tmp_path / "vocab.json"
    experiment = tmp_path / "tiny.yaml"
    experiment.write_text(Path(TINY).read_text().replace("{units: letter}", f"{{units: letter, letters: {letters}}}"))
    before = contents(data)
    one_clear_error(inputs(data, experiment, "--family", "speech"), f"{letters}: no such file")
    letters.write_text('{"[PAD]": 0, "|": 1, "A": 2}')
    one_clear_error(inputs(data, experiment, "--family", "speech"), f"{letters}: not a list of letters", "<pad>")
    assert contents(data) == before


def test_an_unknown_family_and_missing_inputs_are_said(data, tmp_path):
    one_clear_error(inputs(data, TINY, "--family", "speach"), "unknown family 'speach'; did you mean 'speech'")
    one_clear_error(inputs(tmp_path / "none"), str(tmp_path / "none"), "prepare the corpus")
    (data / "speech/tokenizer.json").unlink()
    one_clear_error(train("heard", data, tmp_path / "heard"), f"{data}/speech/tokenizer.json: no such file")


@pytest.mark.parametrize("name", ["train", "dev"])
def test_an_empty_transcript_is_named(data, earlier, name):
    before = results(earlier)
    bad = rewrite(data, 2, name, text=" ")
    refused(training(data, earlier), data / f"{name}.jsonl.gz", f"utterance {bad.id}", "the transcript is empty")
    assert results(earlier) == before


def test_a_character_outside_the_tokenizer_is_named(data, earlier):
    before = results(earlier)
    bad = rewrite(data, 2, text="seven ÿ two")
    done = train("a2", data, earlier)
    one_clear_error(done, str(data / "train.jsonl.gz"), f"utterance {bad.id}", "character 'ÿ' is not in the tokenizer")
    assert results(earlier) == before


def test_a_transcript_longer_than_the_frames_is_counted_and_left_out(data, tmp_path):
    """Said once; and training without these utterances gives the same weights, byte for byte."""
    cuts = utterances(data)
    for number in (4, 9):
        rewrite(data, number, text="nine " * 100)
    done = train("a2", data, tmp_path / "counted")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("longer than the frames") == 1
    assert f"2 of {len(cuts)} utterances of 'train'" in done.stderr
    write_cuts(data / "train.jsonl.gz", [cut for number, cut in enumerate(cuts) if number not in (4, 9)])
    without = train("a2", data, tmp_path / "without")
    assert without.returncode == 0 and "longer than the frames" not in without.stderr
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("counted", "without")]
    assert weights[0] == weights[1]


def test_no_utterance_is_long_enough(data, earlier):
    before = results(earlier)
    cuts = [dataclasses.replace(cut, text="nine " * 100) for cut in utterances(data)]
    write_cuts(data / "train.jsonl.gz", cuts)
    refused(training(data, earlier), "'train'", "no utterance is long enough for its transcript")
    assert results(earlier) == before


def evaluate(data, model, out=None, system="a2", **environment):
    arguments = ["--experiment", TINY, "--system", system, "--data", data, "--model", model]
    return command("workflows.evaluate", *arguments, "--out", out or model / "eval", **environment)


def _cut_off(run, folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _no_weights(run, folder):
    (folder / "model.safetensors").unlink()


def _foreign(run, folder):
    shutil.copy(run / "systems/a4/seed0/model.safetensors", folder)


def _no_description(run, folder):
    (folder / "system.json").write_text("{")


def _incomplete(run, folder):
    (folder / "system.json").write_text('{"schema": 1, "name": "a2", "seed": 0}')


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (_cut_off, "model.safetensors", "not a readable safetensors file"),
        (_no_weights, "model.safetensors", "no such file"),
        (_foreign, "model.safetensors", "belongs to another configuration"),
        (_no_description, "system.json", "not a JSON file"),
        (_incomplete, "system.json", "'backbone'"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_named(run, data, earlier, damage, file, message):
    damage(run, earlier)
    before = contents(earlier)
    refused(
        lambda: evaluate_system(load_experiment(TINY), "a2", data, earlier, earlier / "eval"), earlier / file, message
    )
    assert contents(earlier) == before


def test_transcripts_of_other_utterances_are_refused(run, tmp_path):
    reference, other = run / "data/synth/test_a.trn", run / "data/synth/test_b.trn"
    one_clear_error(command("analysis.wer", reference, other), str(reference), str(other))
    lines = reference.read_text().splitlines(keepends=True)
    fewer = tmp_path / "fewer.trn"
    fewer.write_text("".join(lines[1:]))
    missing = lines[0].rsplit("(", 1)[1].split(")")[0]
    one_clear_error(command("analysis.wer", reference, fewer), str(fewer), missing)


@pytest.fixture
def small_disk(tmp_path):
    """`mount(kilobytes)` gives a folder on a disk of its own; only root may."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(kilobytes):
        words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except FileNotFoundError:
            done = None
        if done is None or done.returncode:
            reason = (
                f"NO FULL DISK: a small disk cannot be mounted here ({done.stderr.strip() if done else 'no mount'})"
            )
            warnings.warn(reason, stacklevel=1)  # a skip alone is easily overlooked
            pytest.skip(reason)
        mounted.append(folder)
        return folder

    yield mount
    for each in mounted:
        subprocess.run(["umount", str(each)], check=True)


def fill(disk, spare_kilobytes):
    """Leave so much room; returns the file that takes the rest."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free - 1024 * spare_kilobytes
    filler.write_bytes(bytes(max(0, free)))
    return filler


def test_a_full_disk_while_saving_the_weights(run, small_disk, tmp_path):
    """The earlier system stays; with room made, the rerun saves what was trained, byte for byte."""
    out = small_disk(1000) / "a2"
    out.mkdir()
    for name in ("model.safetensors", "system.json", "provenance.json"):
        shutil.copy(run / "systems/a4/seed0" / name, out)  # another system's: a replacement would show
    (tmp_path / "work").mkdir()
    (out / "work").symlink_to(tmp_path / "work")  # checkpoints have room
    filler = fill(out.parent, 60)
    before = results(out)
    done = train("a2", run / "data/synth", out)
    one_clear_error(done, str(out / "model.safetensors"), "no space left", "the earlier file is unchanged")
    assert results(out) == before
    filler.unlink()
    done = train("a2", run / "data/synth", out)
    assert done.returncode == 0, done.stderr
    assert (out / "model.safetensors").read_bytes() == (run / "systems/a2/seed0/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("kilobytes", "file"),
    [(0, "work/stage0/tensorboard"), (400, "work/stage0/checkpoint.pt")],
)
def test_a_full_disk_during_training(run, small_disk, kilobytes, file):
    """Logs and checkpoints; no half a file is left, and with room made the rerun ends with the same weights."""
    out = small_disk(8000) / "a2"
    filler = fill(out.parent, kilobytes)
    done = train("a2", run / "data/synth", out)
    one_clear_error(done, str(out / file), "no space left")
    assert not [name for name in contents(out) if Path(name).name.startswith(".")]
    if kilobytes:
        filler.unlink()
        done = train("a2", run / "data/synth", out)
        assert done.returncode == 0, done.stderr
        assert (out / "model.safetensors").read_bytes() == (run / "systems/a2/seed0/model.safetensors").read_bytes()


def test_a_full_disk_while_transcripts_are_written(run, small_disk):
    """The earlier evaluation stays whole: its points and every transcript."""
    out = small_disk(400) / "eval"
    shutil.copytree(run / "systems/f2/seed0/eval", out)
    fill(out.parent, 12)
    before = contents(out)
    done = evaluate(run / "data/synth", run / "systems/f2/seed0", out, "f2")
    one_clear_error(done, str(out), "no space left")
    assert contents(out) == before and read(out / "points.json")["system"] == "f2"


def test_a_full_disk_while_the_data_is_prepared(small_disk):
    out = small_disk(600) / "data"
    one_clear_error(command("workflows.prepare", "--experiment", TINY, "--out", out), str(out), "no space left")
    assert contents(out) == {}


@pytest.mark.parametrize("numbers", [3, 2_000_000])
def test_libraries_words_for_a_full_disk_are_known(small_disk, numbers):
    """torch, NumPy and safetensors each say it differently, for files that fit a buffer and for larger ones."""
    disk = small_disk(1000)
    fill(disk, 0 if numbers == 3 else 500)
    writers = {
        "torch": lambda path: save_state(path, {"weights": torch.zeros(numbers)}),
        "numpy": lambda path: write(path, lambda temporary: np.save(temporary, np.zeros(numbers))),
        "safetensors": lambda path: write(path, lambda temporary: save_file({"a": torch.zeros(numbers)}, temporary)),
    }
    for name, writer in writers.items():
        with pytest.raises(UserError, match=f"{name}.npy: no space left"):
            writer(disk / f"{name}.npy")
    assert list(contents(disk)) == ["filler"]


def write(path, writer):
    with replacing(path) as temporary:
        writer(temporary)


def test_messages_are_counted(tmp_path):
    """The check itself: a traceback, a second message, and success are each refused."""
    good = subprocess.CompletedProcess([], 1, "", "note: x\nerror: a: b\n")
    one_clear_error(good, "a: b")
    assert errors(good) == ["error: a: b"]
    for status, text in [(0, "error: a\n"), (1, "error: a\nerror: b\n"), (1, "Traceback\nerror: a\n"), (1, "")]:
        with pytest.raises((AssertionError, IndexError)):
            one_clear_error(subprocess.CompletedProcess([], status, "", text))
