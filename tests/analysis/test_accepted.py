"""What tables say of systems that were kept although something has changed since."""

import json

import pytest

from analysis.inputs.results import Results
from analysis.tables.accepted import accepted_notes
from analysis.tables.rows import measure
from tests.analysis import results_folder


@pytest.fixture
def folder(tmp_path):
    return results_folder.make(tmp_path / "tiny", (0, 1))


def accept(folder, system, seed, of, *difference):
    path = folder / "systems" / system / f"seed{seed}" / "provenance.json"
    facts = json.loads(path.read_text())
    note = {"when": "2026-01-01T00:00:00+00:00", "of": of, "difference": list(difference)}
    path.write_text(json.dumps({**facts, "accepted": [*facts.get("accepted", []), note]}))


def notes(folder):
    results = Results(folder)
    return accepted_notes(measure(results, "table1", results.experiment.tables["table1"]).values())


def test_one_change_is_named_with_its_systems(folder):
    assert notes(folder) == []
    for system in ("a12", "f6"):
        for seed in (0, 1):
            accept(folder, system, seed, "train", "settings.alpha_kl: null -> 0.2", "sources: asr/a.py")
    assert notes(folder) == [
        "a12, f6 were trained before a change that was accepted: settings.alpha_kl: null -> 0.2, sources: asr/a.py."
    ]


def test_several_changes_are_one_note_for_each_thing_that_is_done(folder):
    """A difference counts from when the system was made, so the last that was accepted holds the earlier ones."""
    accept(folder, "a12", 0, "train", "sources: asr/a.py")
    accept(folder, "a12", 0, "train", "sources: asr/a.py", "sources: asr/b.py")
    accept(folder, "f6", 1, "train", "sources: asr/c.py")
    accept(folder, "f6", 1, "costs of", *(f"sources: asr/{name}.py" for name in "abcdefgh"))
    assert notes(folder) == [
        "a12, f6 were trained before changes that were accepted, not all of them before each (see provenance.json): "
        "sources: asr/a.py, asr/b.py, asr/c.py.",
        "f6 was measured before a change that was accepted: "
        "sources: asr/a.py, asr/b.py, asr/c.py, asr/d.py, asr/e.py, asr/f.py, 2 more.",
    ]


def test_studies_of_two_kinds_do_not_hide_each_other(folder):
    accept(folder, "f6", 0, "sensitivity of", "sources: asr/a.py")
    accept(folder, "f6", 0, "weight errors of", "sources: asr/b.py")
    (note,) = notes(folder)
    assert note.startswith("f6 was studied before changes") and note.endswith("sources: asr/a.py, asr/b.py.")
