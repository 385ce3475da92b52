"""Results that are kept in one folder and taken as done in another, as in a fresh clone on another machine."""

import json
import shlex
import shutil

import pytest

from tests.workflows.commands import TINY, command, errors, jobs, measured, one_clear_error, read, snakemake
from workflows.experiment import load_experiment
from workflows.identity import Identities, identity
from workflows.keep import Keeper
from workflows.kept import ARCHIVE, WEIGHTS
from workflows.steps.export.folder import export_system

ANALYSED = [
    "Check the experiment: methods, settings, paths",
    "Name what is made and up to date",
    "Score, test significance, render tables and figures",
    "Write the report, one page that opens offline",
]
DATA = ["Prepare the corpus: recordings, manifests, reference transcripts"]
DATA += ["Prepare tokenizer and features", "Prepare tokenizer and features of speech"]


@pytest.fixture(scope="module")
def kept(run, reading, tmp_path_factory):
    """The committed results of the session's run, and what keeping said."""
    reference = tmp_path_factory.mktemp("reference")
    with reading():
        done = command("workflows.keep", *experiment(run.parent), "--reference", reference)
    assert done.returncode == 0, done.stderr
    return reference, done.stdout


@pytest.fixture
def clone(run, kept, tmp_path):
    """A folder of results that holds nothing but the experiment, and a copy of the committed ones."""
    results = tmp_path / "results"
    results.mkdir()
    shutil.copy(run.parent / "tiny.yaml", results)
    shutil.copytree(kept[0], tmp_path / "reference")
    return results


def experiment(results):
    return ["--experiment", results / "tiny.yaml", "--results", results]


def bring(results):
    done = command("workflows.bring", *experiment(results), "--reference", results.parent / "reference")
    assert done.returncode == 0, done.stderr
    return done.stderr


def planned(results, *arguments, **options):
    """The jobs that `make reproduce` would run, and what it said."""
    told = command("workflows.why", *experiment(results), "--force", "--fresh", options.get("fresh", ""))
    assert told.returncode == 0, told.stderr
    done = snakemake(results, "-n", *arguments, *shlex.split(told.stdout), **options)
    assert done.returncode == 0, done.stderr
    return jobs(done)


def changed(path, **values):
    """A JSON file with other values."""
    path.write_text(json.dumps({**read(path), **values}))


def test_what_is_kept_is_small_and_has_weights_where_they_are_asked_for(run, kept):
    reference, said = kept
    folders = sorted(path.parent for path in reference.rglob("system.json"))
    assert len(folders) == len(list((run / "systems").iterdir())) == said.count("of transcripts")
    with_weights = [folder.parent.name for folder in folders if (folder / WEIGHTS[0]).exists()]
    assert with_weights == ["a4"] and "kept a4, seed 0" in said
    assert all((folder / ARCHIVE).is_file() and not list(folder.rglob("*.trn")) for folder in folders)
    assert not [path for path in reference.rglob("*") if path.suffix in (".wav", ".gz")]
    assert (reference / "tiny/RESULTS.md").read_bytes() == (run / "RESULTS.md").read_bytes()


def test_tables_are_kept_only_as_analysis_writes_them_today_from_what_is_here(tmp_path):
    ours, kept = tmp_path / "results/tiny", tmp_path / "reference/tiny"
    points = ours / "systems/a4/seed0/eval/points.json"
    for folder, text in ((ours, "today"), (kept, "earlier")):
        (folder / "systems/a4/seed0").mkdir(parents=True, exist_ok=True)
        (folder / "systems/a4/seed0/system.json").write_text("{}")
        (folder / "systems/a4/seed0/eval").mkdir(exist_ok=True)
        (folder / "systems/a4/seed0/eval/points.json").write_text("{}")
        (folder / "RESULTS.md").write_text(text)
    (ours / "made.json").write_text('{"systems": {"a4": [0]}}')
    experiment, shown = load_experiment(TINY), kept / "RESULTS.md"
    identities = Identities(experiment, ours)

    def analysed():
        found = identity(identities.analysis_recipe(), identities.analysis_contents())
        (ours / "analysis.identity.json").write_text(json.dumps(found))
        return found

    def keep():
        return Keeper(experiment, ours, kept).keep_shown()

    assert keep() == "not made yet" and shown.read_text() == "earlier"
    (ours / "made.json").write_text('{"systems": {"a4": [0], "f2": [0]}}')
    analysed()
    assert keep() == "they show what is not kept: f2, seed 0" and shown.read_text() == "earlier"
    (ours / "made.json").write_text('{"systems": {"a4": [0]}}')
    found = analysed()
    assert keep() is None and shown.read_text() == "today"
    (ours / "RESULTS.md").write_text("of other transcripts")
    points.write_text("[]")
    assert keep() == "systems/a4/seed0/eval/points.json: its content" and shown.read_text() == "today"
    analysed()
    assert keep() == "they show what is not kept: a4, seed 0", "of the same weights other transcripts"
    points.write_text("{}")
    found["recipe"]["files"]["analysis/claims.yaml"] = "another"
    (ours / "analysis.identity.json").write_text(json.dumps(found))
    assert keep() == "files: analysis/claims.yaml" and shown.read_text() == "today"


def test_in_a_fresh_folder_everything_kept_is_done_and_shown_alike(run, clone):
    """Nothing is prepared, trained, decoded or measured; tables and verdicts are those of the run."""
    assert bring(clone).splitlines()[0].startswith("12 trainings of 12 systems")
    done = snakemake(clone)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert jobs(done) == sorted(ANALYSED)
    for name in ("tables/table1.csv", "tables/bits.csv", "tables/costs.csv", "claims.csv"):
        assert (clone / "tiny" / name).read_bytes() == (run / name).read_bytes(), name
    assert not (clone / "tiny/data/synth/audio").exists()
    assert command("workflows.why", *experiment(clone)).stdout == "nothing would be made again\n"
    again = command("workflows.keep", *experiment(clone), "--reference", clone.parent / "reference")
    assert again.stdout.count(": as before") == 12 and "not kept" not in again.stdout


def test_only_what_is_missing_is_made_from_a_source_whose_weights_are_here(clone):
    shutil.rmtree(clone.parent / "reference/tiny/systems/int8")
    bring(clone)
    made = planned(clone)
    about = ["Train int8, seed 0", "Decode all points of int8, seed 0", measured("int8")]
    assert made == sorted([*ANALYSED, *DATA, *about])


def test_a_source_without_weights_is_trained_again_by_a_word_only(clone):
    """And then with all that is derived from it: one piece."""
    shutil.rmtree(clone.parent / "reference/tiny/systems/f2_half_int4")
    bring(clone)
    done = snakemake(clone, "-n")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert errors(done) == ["error: 2 trainings would have to be done again:"]
    assert "f2_half, seed 0: its weights are not here, and train f2_half_int4, seed 0 needs them" in done.stderr
    assert "FRESH=sources" in done.stderr
    assert jobs(snakemake(clone, "-n", systems="a4")) == sorted(ANALYSED), "which needs none of them"
    trained = [job for job in planned(clone, fresh="sources") if job.startswith("Train")]
    assert trained == ["Train f2, seed 0", "Train f2_half, seed 0", "Train f2_half_int4, seed 0"]


def test_what_would_be_out_of_date_afterwards_is_said(clone):
    """A system that is asked for takes its source along, and what else is derived from that is left behind."""
    shutil.rmtree(clone.parent / "reference/tiny/systems/f2_half_int4")
    (clone / "tiny.yaml").write_text(
        (clone / "tiny.yaml").read_text().replace("tables:\n", "  f2_int8: {method: baselines.post_training, "
        "settings: {source: {system: f2}, bits: 8}}\ntables:\n", 1)
    )  # fmt: skip
    bring(clone)
    done = snakemake(clone, "-n", systems="f2_int8")
    assert "f2, seed 0: its weights are not here, and train f2_int8, seed 0 needs them" in done.stderr
    assert "Not asked for, and out of date afterwards: f2_half." in done.stderr


def test_trained_anew_it_has_the_same_weights(run, clone):
    """By one command, on the machine that trained it: the recordings are made again too."""
    bring(clone)
    system = clone / "tiny/systems/a2/seed0/system.json"
    told = command("workflows.why", *experiment(clone), "--systems", "a2", "--force", "--fresh", "1").stdout
    forced = [word for word in shlex.split(told) if not word.endswith("made.json")]
    done = snakemake(clone, str(system), *forced, systems="a2", fresh="1")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert jobs(done) == sorted([*DATA[:2], "Train a2, seed 0"])
    assert read(system) == read(run / "systems/a2/seed0/system.json")
    assert (system.parent / WEIGHTS[0]).is_file() and not (system.parent / "accepted.json").exists()
    assert [job for job in planned(clone) if job.startswith("Train")] == []


def test_a_difference_of_the_checkout_is_accepted_and_shown_one_of_settings_is_not(clone):
    """As if the code of f2's training, the code that decoded a2 and a setting of widths had been others."""
    systems = clone.parent / "reference/tiny/systems"
    f2, widths = (read(systems / name / "seed0/provenance.json") for name in ("f2", "widths"))
    f2["identity"]["recipe"]["sources"]["methods/unfolding.py"] = "of another day"
    f2["identity"]["recipe"]["packages"]["torch"] = "2.0.0"
    widths["identity"]["recipe"]["settings"]["training"]["steps"] = 7
    for name, content in (("f2", f2), ("widths", widths)):
        changed(systems / name / "seed0/provenance.json", **content)
    said = bring(clone)
    assert "train widths, seed 0: settings.training.steps: 7 -> 8" in said and "f2" not in said, said
    (note,) = read(clone / "tiny/systems/f2/seed0/provenance.json")["accepted"]
    today = read(clone / "tiny/systems/f2/seed0/provenance.json")["versions"]["torch"].partition("+")[0]
    assert note["difference"] == [f'packages.torch: "2.0.0" -> "{today}"', "sources: methods/unfolding.py"]
    done = snakemake(clone, "-n")
    assert "widths, seed 0: settings.training.steps: 7 -> 8" in done.stderr
    assert [job for job in jobs(done) if job.startswith("Train")] == []  # Snakemake by itself has no notes of it
    assert [job for job in planned(clone) if job.startswith("Train")] == ["Train widths, seed 0"]
    kept = command("workflows.why", *experiment(clone), "--accept", "all")
    assert kept.stdout.splitlines() == [
        "accepted for widths: settings.training.steps: 7 -> 8", *kept.stdout.splitlines()[1:],
    ]  # fmt: skip
    assert [job for job in planned(clone) if job.startswith("Train")] == []


def test_an_edit_after_it_was_brought_trains_again(clone):
    bring(clone)
    text = (clone / "tiny.yaml").read_text()
    (clone / "tiny.yaml").write_text(text.replace("kl: {start_step: 4}", "alpha_kl: 0.2"))
    made = planned(clone)
    trained = [job for job in made if job.startswith("Train")]
    assert trained == ["Train f2, seed 0", "Train f2_half, seed 0", "Train f2_half_int4, seed 0"]
    assert set(DATA) < set(made)


def test_what_was_committed_since_is_brought_again_and_never_overwritten(clone):
    """As after `git pull`, where somebody trained a system again."""
    bring(clone)
    reference = clone.parent / "reference"
    committed, here = (folder / "tiny/systems/a2/seed0/system.json" for folder in (reference, clone))
    changed(committed, weights="f" * 64)
    done = command("workflows.keep", *experiment(clone), "--reference", reference)
    assert "not kept a2, seed 0: it was brought, and another was committed since" in done.stdout
    assert done.stdout.count(": as before") == 11 and read(committed)["weights"] == "f" * 64
    assert "note: a2, seed 0: another was committed since it was brought" in bring(clone)
    assert here.read_bytes() == committed.read_bytes() and bring(clone) == ""


def test_recordings_that_are_others_than_those_that_were_heard_are_said(clone):
    bring(clone)
    data = clone / "tiny/data/synth"
    changed(data / "test_b.content.json", content="of another machine")
    arguments = ["--experiment", clone / "tiny.yaml", "--out", data]
    one_clear_error(command("workflows.prepare", *arguments), "sets test_b", "--accept all")
    cmvn = read(data / "cmvn.json")  # of the same recordings another processor rounds a feature otherwise
    changed(data / "cmvn.json", mean=[cmvn["mean"][0] + 1e-5, *cmvn["mean"][1:]])
    assert "train a2, seed 0: cmvn.json: its content" in command("workflows.why", *experiment(clone)).stdout
    assert bring(clone) == "" and command("workflows.why", *experiment(clone)).stdout.startswith("check: not made yet")
    notes = read(clone / "tiny/systems/a2/seed0/provenance.json")["accepted"]
    assert {note["of"]: note["difference"] for note in notes} == dict.fromkeys(
        ("train", "evaluate", "costs of"), ["cmvn.json: its content"]
    )
    changed(data / "test_b.content.json", content="of another machine")
    done = snakemake(clone, "-n")  # from here on they are an edit like any other
    assert done.returncode == 1 and "evaluate a2, seed 0 needs them" in done.stderr


def test_a_piece_is_kept_whole_or_not(run, tmp_path):
    """A source without weights waits for what is derived from it, that for its source, and weights for room."""
    copy = shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("audio", "work"))
    shutil.copy(run.parent / "tiny.yaml", tmp_path)
    (copy / "systems/f2_half_int4/seed0/eval/points.json").unlink()
    (copy / "systems/a4/seed0/weight_errors.json").unlink()  # a study, which another part may ask for
    where = [*experiment(tmp_path), "--reference", tmp_path / "reference"]
    said = command("workflows.keep", *where, "--megabytes", "0.01").stdout
    assert "not kept f2_half_int4, seed 0: evaluate f2_half_int4, seed 0: not made yet" in said
    piece = "one piece with what is derived from it, which is not kept: "
    assert all(f"not kept {name}, seed 0: {piece}f2_half_int4\n" in said for name in ("f2", "f2_half")), said
    assert "kept a4, seed 0: " in said and "without weights: 0.01 MB are full, without weight errors\n" in said
    done = command("workflows.keep", *where, "--systems", "f2")
    assert done.returncode == 1 and done.stdout == f"not kept f2, seed 0: {piece}f2_half, f2_half_int4\n"
    assert command("workflows.keep", *where, "--systems", "f2", "--incomplete").returncode == 0
    shutil.rmtree(tmp_path / "reference")
    done = command("workflows.keep", *where, "--systems", "int8")
    assert done.returncode == 1 and "not kept int8, seed 0: what it was made from is not kept: a4" in done.stdout
    changed(copy / "data/synth/dev.content.json", content="others")
    done = command("workflows.keep", *where, "--systems", "a4")
    assert done.returncode == 1 and "not kept a4" in done.stdout


def test_what_was_decoded_and_measured_is_accepted_by_a_further_word(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("audio", "work"))
    text = (run.parent / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(text.replace("decoding_batch_seconds: 12\nseeds", "seeds", 1))
    arguments = ["--experiment", tmp_path / "tiny.yaml", "--results", tmp_path]
    lines = ["evaluate a4, seed 0: settings.batch_seconds: 12.0 -> 120.0", "weight errors of a4, seed 0: "]
    said = command("workflows.why", *arguments).stdout
    assert all(line in said for line in lines) and "\ntrain a4" not in said, said
    one_clear_error(command("workflows.why", *arguments, "--accept", "a4"), "nothing of it has changed")
    done = command("workflows.why", *arguments, "--accept", "a4", "--everything")
    assert "accepted for a4: settings.batch_seconds: 12.0 -> 120.0" in done.stdout, done.stdout + done.stderr
    assert not [line for line in lines if line in done.stdout] and "evaluate a2, seed 0: " in done.stdout
    notes = read(copy / "systems/a4/seed0/provenance.json")["accepted"]
    assert [note["of"] for note in notes] == ["evaluate", "weight errors of"]


def test_nothing_is_brought_where_nothing_is_kept_and_a_damaged_archive_is_named(clone):
    done = command("workflows.bring", *experiment(clone), "--reference", clone / "nothing")
    assert (done.returncode, done.stderr) == (0, "") and not (clone / "tiny").exists()
    archive = clone.parent / "reference/tiny/systems/a2/seed0" / ARCHIVE
    whole = archive.read_bytes()
    archive.write_bytes(whole[:100])
    done = command("workflows.bring", *experiment(clone), "--reference", clone.parent / "reference")
    one_clear_error(done, str(archive), "cannot be unpacked")
    assert not (clone / "tiny/systems/a2/seed0").exists() and (clone / "tiny/systems/a4/seed0").exists()
    archive.write_bytes(whole)
    older = clone / "tiny/systems/a4/seed0/provenance.json"  # what was brought before the damage is settled too
    found = read(older)
    found["identity"]["recipe"]["packages"]["torch"] = "2.0.0"
    changed(older, **found)
    bring(clone)
    assert [note["of"] for note in read(older)["accepted"]] == ["train"]
    assert planned(clone) == sorted(ANALYSED)


def test_a_committed_system_is_exported_like_the_one_it_was(run, kept, reading, tmp_path):
    """With the card of what was evaluated, from its archive; one without weights is refused with what trains it."""
    committed = kept[0] / "tiny/systems"
    with reading():
        export_system(run / "systems/a4/seed0", tmp_path / "run", None, None, None)
    done = command("workflows.export", committed / "a4/seed0", tmp_path / "out" / "run")
    assert done.returncode == 0, done.stderr
    for name in ("README.md", "config.json", "model.safetensors"):
        assert (tmp_path / "out/run" / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name
    assert "WER % test" in (tmp_path / "run/README.md").read_text()
    assert not list(committed.rglob("*.trn")), "nothing is written there"
    refused = command("workflows.export", committed / "f2/seed0", tmp_path / "f2")
    one_clear_error(refused, "make reproduce EXPERIMENT=tiny SYSTEMS=f2 SEEDS=0 FRESH=1")
