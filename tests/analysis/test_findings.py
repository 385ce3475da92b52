"""The page of findings: every claim where its verdict puts it, with the numbers of its file; none where nothing ran."""

import json
import re
import shutil
from itertools import pairwise
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
    assert not re.search(r"\d+\.\d|%", page.removeprefix(findings.INTRODUCTION).removesuffix(findings.CHANGED))


def test_every_claim_stands_once_under_its_verdict_with_its_numbers(reference):
    """As a row where there is a verdict, or could be one by now; by its name where there is none."""
    path = reference / "mini_cpu/claims.json"
    content = json.loads(path.read_text())
    claims = content["claims"]
    verdicts = ["reproduced", "contradicted", "inconclusive", "not tested here"]
    assert {claim["verdict"] for claim in claims} == set(verdicts)
    judged = next(claim for claim in claims if claim["verdict"] == "inconclusive" and claim["trainings"])
    judged["shown"] = "inconclusive"
    path.write_text(json.dumps(content))
    section = findings.findings(reference).split("## `mini_cpu`")[1].split("## `mini_real`")[0]
    counted = [f"{heading}, by what is counted or measured:" for heading in ("Held", "Did not hold")]
    headings = ["Held:", "Did not hold:", *counted, "Cannot be said here:", "Waiting for", "Not tested here, "]
    headings = [heading for heading in headings if f"\n{heading}" in section]
    places = [section.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places) and {counted[0], "Cannot be said here:", "Waiting for"} <= {*headings}
    found = dict(zip(headings, (section[a:b] for a, b in pairwise([*places, len(section)])), strict=True))
    of_verdict = dict(
        zip(verdicts, ("Held:", "Did not hold:", "Cannot be said here:", "Not tested here, "), strict=True)
    )
    for claim in claims:
        waits = claim["verdict"] == "inconclusive" and claim["shown"] != "inconclusive"
        heading = "Waiting for" if waits else of_verdict[claim["verdict"]]
        if claim["verdict"] in verdicts[:2] and not claim["trainings"]:
            heading = f"{heading[:-1]}, by what is counted or measured:"
        assert [name for name, text in found.items() if claim["statement"] in text or names(claim, text)] == [heading]
        if waits or claim["verdict"] == "not tested here":
            continue
        (row,) = re.findall(f"^\\| {re.escape(claim['statement'])}.*", found[heading], re.MULTILINE)
        for number in (claim["effect"]["value"], *(claim["effect"]["interval"] or ())):
            assert f"{number:.2f}" in row
    assert "ONLY=sisters` goes on" in section


def names(claim, text):
    """Whether a list of names holds the claim's."""
    return bool(re.search(f"[:,;] {claim['id'].replace('_', ' ')}[,. ]", text))


def test_the_other_comparisons_of_a_claim_are_counted(reference):
    path = reference / "mini_cpu/claims.json"
    content = json.loads(path.read_text())
    claim = next(
        claim for claim in content["claims"] if len(claim["parts"]) > 1 and claim["verdict"] != "not tested here"
    )
    parts = [{"verdict": verdict} for verdict in ("reproduced", "contradicted", "inconclusive", "reproduced")]
    path.write_text(json.dumps(content | {"claims": [claim | {"verdict": "contradicted", "parts": parts}]}))
    (row,) = [line for line in findings.findings(reference).splitlines() if claim["statement"] in line]
    assert "(the others: 2 reproduced, 1 inconclusive) |" in row
    path.write_text(json.dumps(content | {"claims": [claim | {"parts": parts[1:2], "verdict": "contradicted"}]}))
    assert "the others:" not in findings.findings(reference)


def test_what_would_settle_a_claim_stands_beside_it_and_where_none_can_be_its_name_alone(reference):
    path = reference / "mini_cpu/claims.json"
    content = json.loads(path.read_text())
    open_one = next(claim for claim in content["claims"] if claim["verdict"] == "inconclusive" and claim["trainings"])

    def said(**values):
        path.write_text(json.dumps(content | {"claims": [open_one | values]}))
        return findings.findings(reference).split("## `mini_real`")[0]

    three = {"seeds": [0, 1, 2], "words": 3000, "shown": "inconclusive", "words_needed": None, "seeds_needed": None}
    ways = "about 1,200 test words with these trainings, or 17 trainings on these words"
    assert f"| {ways} |" in said(**three, power={"now": 0.3, "words": 1234, "seeds": 17})
    assert "| about 17 trainings on these words |" in said(**three | {"seeds_needed": 17}, power=None)
    waiting = said(seeds=[0], shown="inconclusive (1 training)")
    assert "Cannot be said" not in waiting and "1 claim waits for further seeds" in waiting
    experiment = reference / "mini_cpu/experiment.json"
    experiment.write_text(json.dumps(json.loads(experiment.read_text()) | {"intervals": "utterances"}))
    numbers = said(**three).split("Numbers without verdicts:")[1]
    assert "Cannot be said" not in numbers and open_one["statement"] in numbers
    said = "1 inconclusive with their numbers (intervals over utterances give no verdict)"
    assert f"[On the page](docs/findings.md#mini_cpu) too: {said}." in findings.first_lines(reference)


def test_the_readme_has_what_error_rates_decided_and_counts_the_rest(reference):
    claims = json.loads((reference / "mini_cpu/claims.json").read_text())["claims"]
    by_rates = [claim for claim in claims if claim["verdict"] in ("reproduced", "contradicted") and claim["trainings"]]
    counted = [claim for claim in claims if claim["verdict"] == "reproduced" and not claim["trainings"]]
    undecided = [claim for claim in claims if claim["verdict"] == "inconclusive"]
    readme = findings.first_lines(reference)
    assert all(claim["statement"] in readme for claim in by_rates)
    assert not any(claim["statement"] in readme for claim in (*counted, *undecided)) and counted and undecided
    said = f"by what is counted or measured {len(counted)} held"
    assert f"[On the page](docs/findings.md#mini_cpu) too: {said}" in readme
    assert f"; {len(undecided)} inconclusive with their numbers." in readme


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
    links = {file: re.findall(r"\]\(([^)#]+)", file.read_text()) for file in (readme, page)}
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
