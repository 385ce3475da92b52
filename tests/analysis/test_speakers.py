"""Who speaks is read from a file beside the reference, never from an id: what it must hold, where it is looked for."""

import csv
import io
import json
import shutil

import pytest

from analysis.inputs.results import Results
from analysis.scoring.alignment import align
from analysis.scoring.normalise import load_normaliser
from analysis.scoring.score import Scorer
from analysis.scoring.speakers import group_speakers, name_speakers, speakers_file, unit_noun, write_speakers
from analysis.scoring.trn import Transcript, read_trn, write_trn
from analysis.significance.intervals import wer_interval
from analysis.tables.formats import to_csv
from analysis.tables.papers import build_table
from common.errors import UserError
from tests.analysis import claims_folder
from tests.analysis.conftest import command, one_clear_error

IDS = [f"spk-{n % 4:02d}-{n:03d}" for n in range(24)]  # four speakers, one in the eyes of who cuts at the first hyphen
SPEAKERS = {utterance: utterance[:6] for utterance in IDS}


@pytest.fixture
def trn(tmp_path):
    """A reference with the speakers beside it, and one that makes an error in every third utterance."""
    write_trn(tmp_path / "test.trn", [(utterance, "a b c") for utterance in IDS])
    write_trn(tmp_path / "heard.trn", [(u, "a b c" if n % 3 else "a x c") for n, u in enumerate(IDS)])
    write_speakers(tmp_path / "test.speakers.json", SPEAKERS)
    return tmp_path


def test_a_hyphen_in_a_name_does_no_harm(trn):
    reference = name_speakers(read_trn(trn / "test.trn"), speakers_file(trn / "test.trn"))
    found = wer_interval([align(reference, read_trn(trn / "heard.trn"))])
    assert found.units == 4 and reference.units[:5] == ["spk-00", "spk-01", "spk-02", "spk-03", "spk-00"]
    assert wer_interval([align(read_trn(trn / "test.trn"), read_trn(trn / "heard.trn"))]).units == 24


@pytest.mark.parametrize("normaliser", ["identity-1", "librispeech-1", "hub5-1"])
def test_normalising_keeps_the_speakers(trn, normaliser):
    reference = name_speakers(read_trn(trn / "test.trn"), trn / "test.speakers.json")
    scorer = Scorer(load_normaliser(normaliser))
    found = [scorer.align(reference, read_trn(trn / name)) for name in ("heard.trn", "test.trn")]
    assert [one.reference.speakers for one in found] == [SPEAKERS, SPEAKERS]
    assert wer_interval(found[:1]).units == 4
    grouped = scorer.align(group_speakers(reference, "kinds", "^spk-0[01]|^spk"), read_trn(trn / "heard.trn"))
    assert wer_interval([grouped]).units == 3 and unit_noun([grouped.reference]) == "kinds"


def test_a_file_may_know_more_utterances_but_not_fewer(trn):
    part = Transcript(trn / "part.trn", dict.fromkeys(IDS[:2], b"a"))
    assert name_speakers(part, trn / "test.speakers.json").units == ["spk-00", "spk-01"]
    write_speakers(trn / "test.speakers.json", dict(list(SPEAKERS.items())[3:]))
    with pytest.raises(UserError, match=r"names no speaker for 3 utterances of .*test.trn \(spk-00-000, spk-01-001"):
        name_speakers(read_trn(trn / "test.trn"), trn / "test.speakers.json")


@pytest.mark.parametrize("content", ["[]", '{"a": 3}', '{"a": ""}', '{"a": null}', "{"])
def test_a_file_that_is_no_such_file_is_named(trn, content):
    (trn / "test.speakers.json").write_text(content)
    with pytest.raises(UserError, match=r"test\.speakers\.json: (must map each utterance id|not a JSON file)"):
        name_speakers(read_trn(trn / "test.trn"), trn / "test.speakers.json")


def test_what_is_resampled_in_words():
    known, unknown = Transcript("a", {"u": b""}, {"u": "s"}), Transcript("a", {"u": b""})
    assert unit_noun([known, known]) == "speakers" and unit_noun([unknown]) == "utterances"
    assert unit_noun([known, unknown]) == "speakers and utterances"


def test_speakers_in_whose_names_the_same_is_found_are_one_unit():
    reference = Transcript("ref", dict.fromkeys("abcd", b"x"), {"a": "ann_1", "b": "ann_2", "c": "bob_1", "d": "bob_1"})
    grouped = group_speakers(reference, "timbres", "^[^_]+")
    assert grouped.units == ["ann", "ann", "bob", "bob"] and unit_noun([grouped, grouped]) == "timbres"
    unknown = Transcript("ref", {"a": b"x"})
    assert group_speakers(unknown, "timbres", "^[^_]+") is unknown
    for pattern in ("^ann", "^z*"):
        with pytest.raises(UserError, match=r"ref: speaker '(bob_1|ann_.)': '.*' matches nothing there \(timbres\)"):
            group_speakers(reference, "timbres", pattern)


def test_a_corpus_may_say_that_its_speakers_share_something(tmp_path):
    """Twelve speakers in six pairs: the interval is one of six, and the table says of what."""
    rows = {f"table1.{row}": [[[4 * (n // 2) + seed * n for n in range(12)]] for seed in (0, 1)] for row in ("1", "S1")}
    folder = claims_folder.make(tmp_path / "made", rows)
    names = json.loads((folder / "data/test.speakers.json").read_text())
    pairs = {utterance: f"pair{int(name.removeprefix('spk')) // 2}_{name}" for utterance, name in names.items()}
    write_speakers(folder / "data/test.speakers.json", pairs)
    experiment = json.loads((folder / "experiment.json").read_text())

    def found(groups):
        corpus = experiment["corpus"] | {"speaker_groups": groups}
        (folder / "experiment.json").write_text(json.dumps(experiment | {"corpus": corpus}))
        results = Results(folder)
        wer = results.alignment(results.points("s_table1_1", 0).points[0], "greedy", "test")
        return wer_interval([wer]), build_table(results, "table1", results.experiment.tables["table1"])

    (of_speakers, alone), (of_pairs, grouped) = found(None), found({"over": "pairs", "found_by": "^[^_]+"})
    assert (of_speakers.units, of_pairs.units) == (12, 6)
    assert of_pairs.high - of_pairs.low > 1.2 * (of_speakers.high - of_speakers.low)
    units = [{row["units"] for row in csv.DictReader(io.StringIO(to_csv(each)))} for each in (alone, grouped)]
    assert units == [{"", "12"}, {"", "6"}]
    assert any("over seeds and speakers" in note for note in alone.notes)
    assert any("over seeds and pairs" in note for note in grouped.notes)
    assert not any("speakers" in note for note in grouped.notes)


def test_the_command_takes_them_from_beside_the_reference_or_from_an_option(trn):
    words = command("analysis.wer", trn / "test.trn", trn / "heard.trn").stdout.splitlines()
    assert words[0].startswith("WER 11.11 %") and words[1].endswith("bootstrap over 4 speakers")
    elsewhere = trn / "elsewhere.json"
    elsewhere.write_text(json.dumps({utterance: "one" if n % 2 else "two" for n, utterance in enumerate(IDS)}))
    done = command("analysis.wer", trn / "test.trn", trn / "heard.trn", "--speakers", elsewhere)
    assert done.stdout.splitlines()[1].endswith("bootstrap over 2 speakers")
    one_clear_error(
        command("analysis.wer", trn / "test.trn", trn / "heard.trn", "--speakers", trn / "none.json"), "none.json"
    )


def test_without_them_utterances_are_resampled_and_that_is_said_once(trn):
    (trn / "test.speakers.json").unlink()
    done = command("analysis.wer", trn / "test.trn", trn / "heard.trn")
    assert done.stdout.count("24 utterances (no speakers known: see --speakers)") == 1 and done.stderr == ""


def test_a_part_of_a_set_has_the_speakers_of_the_whole(folder):
    """A decode of the first utterances has a reference of its own, beside which nobody writes speakers."""
    results = Results(folder)
    point = results.points("f6", 0).points[0]
    part = results.alignment(point, "beam", "test_clean").reference
    assert len(part.lines) == 5 and part.units == ["spk0", "spk1", "spk2", "spk3", "spk4"]
    assert len(set(results.alignment(point, "greedy", "test_clean").reference.units)) == 12


def test_speakers_beside_the_reference_come_before_those_of_the_corpus(folder, tmp_path):
    """Evaluated with data that stand elsewhere."""
    home = folder / "systems/f6/seed0/eval"
    for name in ("test_clean.trn", "test_clean.speakers.json"):
        shutil.copy(folder / "data/made_up" / name, tmp_path / name)
    speakers = json.loads((tmp_path / "test_clean.speakers.json").read_text())
    write_speakers(tmp_path / "test_clean.speakers.json", dict.fromkeys(speakers, "everybody"))
    points = json.loads((home / "points.json").read_text())
    points["decodes"]["greedy"]["sets"]["test_clean"]["reference"] = str(tmp_path / "test_clean.trn")
    (home / "points.json").write_text(json.dumps(points))
    results = Results(folder)
    found = results.alignment(results.points("f6", 0).points[0], "greedy", "test_clean")
    assert set(found.reference.units) == {"everybody"}
