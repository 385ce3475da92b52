"""From the manifest to the interval: speakers go with the reference, whatever their names look like."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml

from analysis.inputs.results import Results
from analysis.scoring.trn import read_trn, write_trn
from analysis.significance.contrasts import contrast, system_errors
from asr.corpora import prepare, read_cuts
from common.files import read_json, write_json
from workflows.steps import prepare as step

SPEAKERS, UTTERANCES = 12, 48
STYLES = {"plain": "spk{:02d}", "hyphens": "spk-{:02d}", "one in another": "s-{:d}"}


def prepared(folder, style: str, monkeypatch):
    """Speakers named in a style, through the corpus's module, the manifest and `workflows.prepare`."""
    recordings = folder / "recordings"
    recordings.mkdir()
    soundfile.write(recordings / "tone.wav", (3000 * np.sin(np.arange(800) / 5)).astype(np.int16), 8000)
    for name, count in {"train": 1, "dev": 1, "test": UTTERANCES}.items():
        rows = []
        for number in range(count):
            (recordings / f"{name}{number:03d}.wav").symlink_to(recordings / "tone.wav")
            rows.append(f"{name}{number:03d}.wav\t{style.format(number % SPEAKERS)}\t0.1\ta b c d e\n")
        (recordings / f"{name}.txt").write_text("".join(rows))
    entry = {"module": "tests.corpora.folder_corpus", "source": "a test", "licence": "none", "size": "tiny"}
    (folder / "corpora.yaml").write_text(yaml.safe_dump({"folder": entry}))
    monkeypatch.setattr(step, "prepare", partial(prepare, register=folder / "corpora.yaml"))
    corpus = SimpleNamespace(name="folder", settings={"folder": str(recordings)})
    sets = {"dev_set": "dev", "test_sets": ["test"], "further_sets": [], "decoded_sets": ["dev", "test"]}
    experiment = SimpleNamespace(name="tiny", corpus=corpus, **sets)
    step.prepare_corpus(experiment, folder / "tiny/data/folder")
    return folder / "tiny"


def evaluated(folder) -> Results:
    """Two systems as an evaluation leaves them, with a decode of the first utterances beside the whole one."""
    reference = folder / "data/folder/test.trn"
    words = read_trn(reference)
    for name, seed in (("a", 1), ("b", 2)):
        rng, home = np.random.default_rng(seed), folder / f"systems/{name}/seed0/eval"
        heard = [(u, " ".join(w if rng.random() > 0.1 else "x" for w in words.words(u))) for u in words.lines]
        write_trn(home / "greedy/test/p.trn", heard)
        write_trn(home / "beam/test/p.trn", heard[:10])
        write_trn(home / "beam/test.reference.trn", [(u, "a b c d e") for u in [*words.lines][:10]])
        point = {"id": "p", "path": [1], "depth": 1, "offered": True, "trained": True}
        own = {"greedy": "results/tiny/data/folder/test.trn", "beam": str(home / "beam/test.reference.trn")}
        decodes = {decode: {"sets": {"test": {"reference": path, "points": ["p"]}}} for decode, path in own.items()}
        write_json(home / "points.json", {"system": name, "seed": 0, "points": [point], "decodes": decodes})
    experiment = {"name": "tiny", "corpus": {"name": "folder"}, "dev_set": "dev", "test_sets": ["test"], "seeds": [0]}
    write_json(folder / "experiment.json", {**experiment, "decodes": {}, "systems": {"a": {}, "b": {}}})
    return Results(folder)


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_hyphen_in_a_name_does_no_harm_from_manifest_to_interval(tmp_path, monkeypatch, style):
    folder = prepared(tmp_path, style, monkeypatch)
    manifest = {utterance.id: utterance.speaker for utterance in read_cuts(folder / "data/folder/test.jsonl.gz")}
    assert read_json(folder / "data/folder/test.speakers.json") == manifest
    assert {utterance.id for utterance in read_cuts(folder / "data/folder/dev.jsonl.gz")} == set(
        read_json(folder / "data/folder/dev.speakers.json")
    )
    results = evaluated(folder)
    a, b = ([results.alignments(results.points(name, 0).points[0], "greedy", ["test"])] for name in "ab")
    found = contrast(system_errors([a, b]), [1, -1])
    assert found.units == SPEAKERS and found.low < found.value < found.high
    part = results.alignment(results.points("a", 0).points[0], "beam", "test").reference
    assert set(part.units) == {style.format(number) for number in range(10)}


def test_names_decide_nothing(tmp_path, monkeypatch):
    """The same speech and errors under other names give the same interval."""
    found = []
    for name, style in STYLES.items():
        (tmp_path / name).mkdir()
        results = evaluated(prepared(tmp_path / name, style, monkeypatch))
        a, b = ([results.alignments(results.points(each, 0).points[0], "greedy", ["test"])] for each in "ab")
        found.append(contrast(system_errors([a, b]), [1, -1]))
    assert found[0] == found[1] == found[2]
