"""Scoring by characters: counts by hand, one segment an utterance, and CER wherever WER would stand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import findings
from analysis.inputs.results import Results
from analysis.page.claims import Claims, claims_table
from analysis.render import render
from analysis.report import report
from analysis.scoring.normalise import load_normaliser
from analysis.scoring.score import Scorer
from analysis.scoring.speakers import name_speakers, write_speakers
from analysis.scoring.trn import read_trn, write_trn
from analysis.significance.mapsswe import segment_differences
from analysis.tables.formats import to_markdown
from analysis.verdicts.judge import claims_files, judge_claims, section
from common.errors import UserError
from tests.analysis import claims_folder
from tests.analysis.claims_cases import NO_LOSS, WORSE, claims_file, each
from tests.analysis.report_folder import complete
from tests.analysis.results_folder import make, write_json

SAID = [("a-1", "你好 世界"), ("a-2", "Größe {x}"), ("a-3", "e\u0301tat")]


def transcripts(folder: Path, *heard: list[tuple[str, str]]):
    files = []
    for number, lines in enumerate((SAID, *heard)):
        files.append(folder / f"{number}.trn")
        write_trn(files[-1], lines)
    return files


def counted(folder: Path, name: str, *heard: str):
    reference, hypothesis = transcripts(folder, [(f"a-{n}", text) for n, text in enumerate(heard, 1)])
    scorer = Scorer(load_normaliser(name, score="characters"))
    return scorer.align(read_trn(reference), read_trn(hypothesis)).counts


def test_characters_are_counted_as_words_are_and_spaces_not_at_all(tmp_path):
    """4 + 8 + 5 code points; a deletion, a substitution of the escaped brace, an insertion."""
    found = counted(tmp_path, "identity-1", "你好世", "Größe (x}", "e\u0301taat")
    assert (found.ref_words, found.sub, found.dele, found.ins) == (4 + 8 + 5, 1, 1, 1)


def test_the_normaliser_comes_first(tmp_path):
    """In normal form C the accent is part of its letter, and case does not matter in any script."""
    found = counted(tmp_path, "unicode-1", "你好 世界", "GRÖSSE {X}".replace("SS", "ß"), "État")
    assert (found.ref_words, found.errors) == (4 + 8 + 4, 0)
    assert counted(tmp_path, "identity-1", "你好 世界", "GRÖßE {X}", "État").errors > 0


def test_an_utterance_is_one_segment(tmp_path):
    one = [("a-1", "你x 世y"), ("a-2", "xröße yx}"), ("a-3", "e\u0301tat")]
    other = [("a-1", "你好 世界"), ("a-2", "größe {x}"), ("a-3", "x")]
    reference, *heard = transcripts(tmp_path, one, other)
    spoken = read_trn(reference)

    def differences(score: str) -> list[int]:
        scorer = Scorer(load_normaliser(score=score))
        return segment_differences(*(scorer.align(spoken, read_trn(path)) for path in heard)).tolist()

    assert differences("characters") == [2, 2, -5]


def test_the_command_says_cer(tmp_path):
    reference, hypothesis = transcripts(tmp_path, [("a-1", "你好"), ("a-2", "Größe {x}"), ("a-3", "e\u0301tat")])
    words = [sys.executable, "-m", "analysis.wer", str(reference), str(hypothesis), "--score", "characters"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.startswith("CER 11.76 %  (2 errors in 17 characters: 0 substitutions, 2 deletions")
    found = json.loads(subprocess.run([*words, "--json"], capture_output=True, text=True).stdout)
    assert found["cer"] == pytest.approx(100 * 2 / 17) and "wer" not in found


def test_rules_about_words_are_refused():
    with pytest.raises(UserError, match="'hub5-1' has rules about words"):
        load_normaliser("hub5-1", score="characters")


@pytest.fixture(scope="module")
def by_characters(tmp_path_factory) -> Path:
    """A results folder that is scored by characters, whose utterances nobody speaks."""
    folder = complete(make(tmp_path_factory.mktemp("characters") / "tiny"))
    experiment = json.loads((folder / "experiment.json").read_text())
    rows = {"a12": {"system": "a12", "depth": 12}, "f6@12": {"system": "f6", "depth": 12}}
    rows["f6@6"] = {"system": "f6", "depth": 6}
    table = {"kind": "systems", "title": "Depths", "decode": "greedy", "reference": "a12", "rows": rows}
    curves = {"kind": "depth_curves", "decode": "greedy", "systems": ["f6"], "baselines": ["a12"]}
    experiment |= {"score": "characters", "tables": {"depths": table}, "figures": {"depth": curves}, "headline": "f6"}
    write_json(folder / "experiment.json", experiment)
    for path in folder.glob("data/made_up/*.speakers.json"):
        write_speakers(path, {})
    for path, content in render(folder)[0].items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return folder


def test_tables_figures_and_answers_say_cer(by_characters):
    text = (by_characters / "RESULTS.md").read_text().partition("\n## Claims")[0]
    assert not re.search(r"\bWERs?\b", text)
    for part in (
        "f6: depth 12",
        ": CER ",
        "## CER against executed depth (depth)",
        "## Cost against CER",
        "pooled CER %",
    ):
        assert part in text, part
    assert "CER: the character error rate; characters are scored as words are" in text
    assert text.count("Nobody named the speakers of") == 1
    for path in (by_characters / "tables").iterdir():
        assert not re.search(r"(?<![a-zA-Z])[wW][eE][rR](?![a-zA-Z])", path.read_text()), path
    header = (by_characters / "tables/depths.csv").read_text().splitlines()[0].split(",")
    assert "cer" in header and "ref_characters" in header


def test_the_report_says_cer(by_characters):
    page = report(by_characters)
    claims = page.index('id="verdicts"'), page.index('id="alignments"')
    rest = page[: claims[0]] + page[claims[1] :]
    rest = rest.replace('depthPlan("WER by executed depth, published"', "")  # what papers print
    assert not re.search(r"\bWERs?\b", rest.replace("WER against", ""))
    assert "CER by executed depth" in page and '"rate":"CER"' in page and "character by character" in page


def test_verdicts_count_characters_and_say_cer(tmp_path):
    """In RESULTS.md, `claims.csv`, the report's claims and the page of findings."""
    rows = {"table1.1": [[each(5)], [each(5, 1)], [each(4)]], "table1.S1": [[each(5, 3)], [each(6)], [each(5)]]}
    folder = claims_folder.make(tmp_path / "mini_cpu", rows)
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment |= {"score": "characters", "title": "Characters", "note": "", "parts": {}}
    write_json(folder / "experiment.json", experiment)
    verdicts = judge_claims(Results(folder), claims_file(tmp_path, NO_LOSS, WORSE))
    for path, content in claims_files(verdicts, folder).items():
        path.write_bytes(content)
    page = Claims.model_validate(json.loads((folder / "claims.json").read_text()))
    shown = "\n".join(section(verdicts))
    found = findings.findings(tmp_path).partition("## `mini_cpu`")[2].partition("## `mini_real`")[0]
    told = " ".join(f"{claim.behind} {claim.reason} {claim.effect.name}" for claim in page.claims)
    texts = [shown, (folder / "claims.csv").read_text(), to_markdown(claims_table(page, "x")), found, told]
    for text in texts:
        assert not re.search(r"\bWERs?\b|(?<![a-z])words?(?![a-z])", text, re.IGNORECASE), text
        assert "characters" in text
    assert all("CER of s_table1_S1@12 minus s_table1_1@12" in text for text in (shown, texts[1], found, told))
    assert all(one.behind.endswith(" characters") and one.behind in shown for _, one in verdicts.judged)


def test_the_summary_prints_the_table_as_cer(by_characters):
    words = [sys.executable, "-m", "analysis.summary", "--experiment-folder", str(by_characters)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "depths of tiny, Depths" in done.stdout and "CER %" in done.stdout and "WER" not in done.stdout


def test_a_file_that_names_nobody_leaves_utterances_as_units(tmp_path):
    (reference,) = transcripts(tmp_path)
    write_speakers(tmp_path / "0.speakers.json", {})
    assert name_speakers(read_trn(reference), tmp_path / "0.speakers.json").speakers is None
