"""The page of findings: every claim where its verdict puts it, with the numbers of its file; none where nothing ran."""

import json
import re
import shutil
from pathlib import Path

import pytest

from analysis import findings
from common.errors import UserError
from common.marked import lines_between
from tests.workflows.commands import ROOT

SMOKE = ROOT / "results/reference/smoke"
MARKED = "before\n<!-- findings:begin -->\nold\n<!-- findings:end -->\nafter\n"


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """The committed run of smoke as if it were mini_cpu's and evidence, of which one part is not there."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results/reference/mini_cpu")
    for part in ("tables", "figures"):
        shutil.copytree(SMOKE / part, folder / part)
    for name in ("claims.json", "experiment.json", "RESULTS.md", "claims.csv"):
        content = (SMOKE / name).read_text().replace('"evidence": false', '"evidence": true')
        (folder / name).write_text(content)
    (folder / "tables/usmlite.csv").unlink()
    return folder.parent


def test_of_what_was_not_run_there_is_the_command_and_no_number(tmp_path):
    page = findings.findings(tmp_path)
    for name in findings.ASKED:
        assert f"make reproduce EXPERIMENT={name}`" in page and f"EXPERIMENT={name}`" in findings.first_lines(tmp_path)
    assert not re.search(r"\d+\.\d|%", page)


def test_every_claim_stands_once_under_its_verdict_with_its_numbers(reference):
    page = findings.findings(reference)
    section = page.split("## `mini_cpu`")[1].split("## `mini_real`")[0]
    places = {verdict: section.index(f"{heading}:") for verdict, heading in findings.HEADINGS.items()}
    ends = {
        verdict: min([end for end in places.values() if end > begin], default=len(section))
        for verdict, begin in places.items()
    }
    claims = json.loads((reference / "mini_cpu/claims.json").read_text())["claims"]
    assert {claim["verdict"] for claim in claims} == {*findings.HEADINGS, "not tested here"}
    for claim in claims:
        (found,) = re.findall(f"^\\| {re.escape(claim['statement'])}.*", section, re.MULTILINE) or [None]
        if claim["verdict"] == "not tested here":
            assert found is None and claim["id"].replace("_", " ") in section
            continue
        assert places[claim["verdict"]] < section.index(found) < ends[claim["verdict"]]
        for number in (claim["effect"]["value"], *(claim["effect"]["interval"] or ())):
            assert f"{number:.2f}" in found
    assert "ONLY=sisters` goes on" in section


def test_the_other_comparisons_of_a_claim_are_counted(reference):
    path = reference / "mini_cpu/claims.json"
    content = json.loads(path.read_text())
    claim = next(
        claim for claim in content["claims"] if len(claim["parts"]) > 1 and claim["verdict"] != "not tested here"
    )
    parts = [{"verdict": verdict} for verdict in ("reproduced", "contradicted", "inconclusive", "reproduced")]
    path.write_text(json.dumps(content | {"claims": [claim | {"verdict": "contradicted", "parts": parts}]}))
    said = "(the others: 2 reproduced, 1 inconclusive) |"
    assert f"{claim['effect']['name']} {said}" in findings.findings(reference)
    path.write_text(json.dumps(content | {"claims": [claim | {"parts": parts[1:2], "verdict": "contradicted"}]}))
    assert "the others:" not in findings.findings(reference)


def test_a_verdict_that_waits_for_trainings_is_promised_by_no_number_of_words(reference):
    path = reference / "mini_cpu/claims.json"
    content = json.loads(path.read_text())
    open_one = next(claim for claim in content["claims"] if claim["verdict"] == "inconclusive" and claim["trainings"])

    def said(**values):
        path.write_text(json.dumps(content | {"claims": [open_one | values]}))
        return findings.findings(reference).split("## `mini_real`")[0]

    power = {"now": 0.3, "words": 1234, "seeds": None}
    few = {"seeds": [0], "words": 3000, "words_needed": None, "seeds_needed": None, "power": power}
    assert "| 3 trainings first |" in said(**few)
    assert "| 3 trainings first; then about 9,100 test words with these trainings |" in said(
        **few | {"words_needed": 9123}
    )
    two = few | {"seeds": [0, 1], "power": power | {"seeds": 17}}
    assert "| 3 trainings first; then about 17 trainings on these words |" in said(**two)
    assert "| 3 trainings first |" in said(**few | {"power": power | {"seeds": 3}}), (
        "no more than a verdict takes anyway"
    )
    three = two | {"seeds": [0, 1, 2], "shown": "inconclusive"}
    ways = "about 1,200 test words with these trainings, or 17 trainings on these words"
    assert f"| {ways} |" in said(**three)
    assert "trainings first" not in said(**few | {"shown": "inconclusive"}), "too few speakers: none is given"


def test_numbers_come_with_their_command_commits_and_machines(reference):
    for number, (system, commit, modified) in enumerate([("a12", "1234567", False), ("f6", "89abcde", True)] * 2):
        home = reference / f"mini_cpu/systems/{system}/seed{number // 2}"
        home.mkdir(parents=True)
        facts = {"commit": commit + "0" * 33, "modified": modified, "processor": "a processor", "device": "cpu"}
        (home / "provenance.json").write_text(json.dumps(facts))
    said = (
        "4 systems, each seed counted, by `make reproduce EXPERIMENT=mini_cpu` and its parts, on a processor, at "
        "commits 1234567, 89abcde+ (+: with changes): each"
    )
    assert said in findings.findings(reference) and said in findings.first_lines(reference)


def test_links_lead_to_files_of_the_run(reference):
    readme, page = Path("README.md"), Path("docs/findings.md")
    readme.write_text(MARKED)
    page.parent.mkdir()
    findings.write_findings(reference, page, readme)
    links = {file: re.findall(r"\]\(([^)#]+)\)", file.read_text()) for file in (readme, page)}
    for file, targets in links.items():
        assert len(targets) > 3
        assert all((file.parent / target).exists() for target in targets)
    assert "tables/table1.md" in " ".join(links[page])
    assert readme.read_text().startswith("before\n") and readme.read_text().endswith("end -->\nafter\n")
    readme.write_text("no marks\n")
    with pytest.raises(UserError, match="marks <!-- findings:begin -->"):
        findings.write_findings(reference, page, readme)


def test_what_stands_in_the_repository_is_what_its_results_give(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert findings.PAGE.read_text() == findings.findings(findings.REFERENCE)
    assert lines_between(findings.README, findings.MARKS) == findings.first_lines(findings.REFERENCE)
