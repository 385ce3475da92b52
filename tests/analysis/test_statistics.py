"""Table 4 with other batch-norm statistics: what the rows say, what the notes say, and what our claim makes of them."""

import json
import shutil
from pathlib import Path

import pytest

from analysis.inputs.results import Results
from analysis.tables.formats import to_csv, to_markdown
from analysis.tables.papers import build_table
from analysis.verdicts.claims_file import CLAIMS, read_claims
from analysis.verdicts.judge import judge_claims
from common.errors import UserError
from tests.analysis import claims_folder
from tests.analysis.results_folder import TABLE4, UNFOLDED, write_json

FACTS = {"seconds": 3.2, "audio_seconds": 1200.4, "batches": 60, "executions": 480, "modules": 8, "bytes": 4160}
DEEP, ONES = " ".join(map(str, UNFOLDED)), "1 1 1 1 1 1 1 1"
USES = {
    "a12": {"use": "again", "points": ["1 1 1 1 1 1 1 1 1 1 1 1"]},
    "a8": {"use": "again", "points": [ONES], "seconds": 4.0},
    "d8": {"use": "running", "points": []},
    "j8": {"use": "again", "points": [ONES, DEEP]},
    "a8_running": {"use": "running", "points": [], "seconds": 0.0, "audio_seconds": 0.0},
    "a8_path": {"use": "again", "points": [DEEP]},
}


@pytest.fixture
def with_statistics(folder) -> Path:
    """The small folder with rows `2 running` and `2 path`, copies of row 2, and with what provenance says of each."""
    path = folder / "experiment.json"
    content = json.loads(path.read_text())
    for kind in ("running", "path"):
        name = f"a8_{kind}"
        shutil.copytree(folder / "systems/a8", folder / f"systems/{name}")
        points = folder / f"systems/{name}/seed0/eval/points.json"
        points.write_text(points.read_text().replace('"a8"', f'"{name}"'))
        content["systems"][name] = {"method": "baselines.statistics"}
        content["tables"]["table4"]["rows"][f"2 {kind}"] = {"system": name, "path": DEEP}
    write_json(path, content)
    for name, use in USES.items():
        file = folder / f"systems/{name}/seed0/provenance.json"
        write_json(file, {**json.loads(file.read_text()), "statistics": {**FACTS, **use}})
    return folder


def table4(folder):
    results = Results(folder)
    return build_table(results, "table4", results.experiment.tables["table4"])


def test_rows_of_ours_follow_the_papers_and_say_what_they_are(with_statistics):
    table = table4(with_statistics)
    rows = {row["sys"]: row for row in table.rows}
    assert [*rows] == [*TABLE4, "2 running", "2 path"]
    used = {name: row.get("batch_norm_statistics") for name, row in rows.items()}
    assert used == {
        "0": "of this path",
        "1": "of 1 other path",
        "2": "of 1 other path",
        "3": "of this path",
        "4": "running",
        "5": "running",
        "E0": "of this path and 1 other path",
        "E1": "of this path and 1 other path",
        "K0": None,
        "K1": None,
        "2 running": "running",
        "2 path": "of this path",
    }
    for name in ("2 running", "2 path"):
        assert rows[name]["training_loss"] == rows["2"]["training_loss"] == "L_P^8"
        assert rows[name]["how"] == rows["2"]["how"] and rows[name]["published_wer"] is None
        assert rows[name]["wer"] == rows["2"]["wer"]
    assert "batch-norm statistics" in to_markdown(table) and ",batch_norm_statistics," in to_csv(table)


def test_notes_say_what_was_estimated_and_what_it_cost(with_statistics):
    notes = " ".join(table4(with_statistics).notes)
    assert "Ours, 2 running, 2 path: the row of that number with other statistics of batch norm" in notes
    assert "over 20 minutes of training speech without augmentation" in notes
    assert "That took 3.2 to 4.0 s a system" in notes
    assert "The statistics are 4.2 kB of each model" in notes


def test_without_batch_norm_or_provenance_nothing_is_said(folder):
    table = table4(folder)
    assert "batch_norm_statistics" not in [column.key for column in table.columns]
    assert "batch norm" not in " ".join(table.notes)


def claim():
    return next(claim for claim in read_claims(CLAIMS).claims if claim.id == "collapse_and_batch_norm")


SPEAKERS, SEEDS = 40, 3
ERRORS = {"0": 5, "1": 15, "3": 6, "2": 12, "4": 6, "5": 14, "1 path": 15, "1 running": 15, "5 path": 14}
ERRORS |= {"5 running": 14, "2 running": 14, "2 path": 8}


def judged(tmp_path, **changes):
    """Our claim where every speaker makes so many errors in 50 words, more and fewer by turns."""
    errors = {**ERRORS, **changes}
    rows = {f"table4.{row}": [[[count + n % 2 for n in range(SPEAKERS)]]] * SEEDS for row, count in errors.items()}
    folder = claims_folder.make(tmp_path / "made", rows)
    found = {claim.id: outcome for claim, outcome in judge_claims(Results(folder)).judged}
    return found["collapse_and_batch_norm"]


def test_our_claim_is_marked_as_ours_and_says_how_much_goes(tmp_path):
    assert claim().source == "foldbench" and "not in the paper" in claim().published
    found = judged(tmp_path)
    assert found.verdict == "reproduced"
    rise = found.parts[0].effect
    # Row 2 rises over row 3 by 16 points (8 words of 50), of which 4 are left: 12 are normalisation.
    assert rise.value == pytest.approx(12.0) and rise.interval is not None and rise.unit == "points"
    assert [part.effect.value for part in found.parts[1:3]] == pytest.approx([0.0, 0.0])
    # Rises that are left: rows 1 and 5 over rows 0 and 4.
    assert [part.effect.value for part in found.parts[3:]] == pytest.approx([20.0, 16.0])


@pytest.mark.parametrize(
    ("changes", "part"),
    [({"2 path": 16}, 0), ({"1 path": 8}, 1), ({"5 path": 9}, 2), ({"1 path": 5, "1 running": 5}, 3), ({"4": 13}, 4)],
)
def test_every_part_of_our_claim_can_fail(tmp_path, changes, part):
    found = judged(tmp_path, **changes)
    assert found.verdict == "contradicted" and found.parts[part].verdict == "contradicted"


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("table4: [1 running", "table7: [1 running", "rows: unknown table 'table7'"),
        ("[1 running,", "[1 runing,", "unknown row '1 running'"),
    ],
)
def test_rows_of_ours_have_to_be_listed(tmp_path, folder, right, wrong, message):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.read_text().replace(right, wrong, 1))
    with pytest.raises(UserError, match=message):
        judge_claims(Results(folder), path)
