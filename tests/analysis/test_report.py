"""The report without a browser: what it says, how it escapes, what it does where something is missing or broken."""

import base64
import io
import json
import random
import re
import shutil
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from analysis.inputs.results import Results
from analysis.page import alignments as report_alignments
from analysis.page.alignments import hypothesis, ranked
from analysis.page.charts import LONGEST_CURVE, cost_chart, learning_chart
from analysis.page.tables import beside
from analysis.report import embedded, report
from analysis.tables.formats import Column, Table
from tests.analysis.conftest import ROOT, command, one_clear_error
from tests.analysis.report_folder import CLAIMS, HOSTILE, complete, hostile_folder
from tests.analysis.results_folder import make, write_json


class Page(HTMLParser):
    """What of a page matters here: its headings, its text, the data of its scripts, its links."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.headings, self.links, self.text = [], [], {}, ""
        self.data, self._open = {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in ("meta", "link", "br", "rect", "line", "circle"):
            self._open.append((tag, attributes))
        if tag == "a" and "download" in attributes:
            self.links[attributes["download"]] = urllib.parse.unquote(attributes["href"].partition(",")[2])

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.data[attributes.get("id")] = data
        elif tag != "style":
            self.text += data
            if tag in ("h2", "h3"):
                self.headings.append(data)


@pytest.fixture(scope="module")
def page(pristine, tmp_path_factory) -> Page:
    folder = shutil.copytree(pristine, tmp_path_factory.mktemp("report") / "tiny")
    return Page(report(complete(folder)))


def test_the_sections_come_in_the_order_a_reader_asks(page):
    wanted = [
        "Is deeper better",
        "Figure 2",
        "Cost against",
        "Tables",
        "Verdicts",
        "Where two systems",
        "How it was run",
    ]
    wanted += ["Learning", "Time and memory", "Provenance"]
    places = [next(n for n, heading in enumerate(page.headings) if heading.startswith(word)) for word in wanted]
    assert places == sorted(places)
    assert "made_up" in page.text and "0" * 12 in page.text
    opening = page.text.partition("WER by executed depth")[0]
    assert "Not evidence." in opening and "f6: depth 12 is" in opening


def test_every_verdict_is_shown_with_effect_interval_and_words_needed(page):
    for word in ("reproduced", "contradicted", "inconclusive", "not tested here"):
        assert word in page.text
    for text in (
        "-5.44 points (95 % interval -7.14 to -3.86)",
        "About 48,000 test words",
        "Deeper is better & <b>so</b>",
    ):
        assert text in page.text


def test_verdicts_stand_under_their_papers_and_ours_come_last(page):
    headings = ["arXiv 2: Another <paper>", "arXiv 1: A paper", "Claims of our own, which no paper makes"]
    places = [page.headings.index(heading) for heading in headings]
    assert places == [*range(places[0], places[0] + 3)]
    groups = page.text.split(headings[0])[1].split("Download")[0]
    groups = groups.replace(headings[2], headings[1]).split(headings[1])
    stated = ["memory", "Deeper is better & <b>so</b>", "our_own"]
    assert [[words in group for words in stated] for group in groups] == [
        [True, False, False], [False, True, False], [False, False, True]
    ]  # fmt: skip


def test_costs_are_told_apart_by_family(with_family):
    chart = cost_chart(Results(with_family))
    assert [family["name"] for family in chart["families"]] == [None, "w2v2"]
    assert chart["families"][1]["title"] == "w2v2: narrow models <pre-trained> here"
    families = {point["system"]: point["family"] for point in chart["points"]}
    assert (families["f6"], families["fw6"]) == (None, "w2v2")


def test_where_an_inconclusive_claim_points_is_shown(page):
    for text in (
        "inconclusive (1 training), points against it",
        "(0 pointing for, 1 against the claim)",
        "+1.20 points (95 % interval +0.90 to +1.50; not pooled +0.70 to +1.70; the paper's +0.26)",
    ):
        assert text in page.text
    assert "inconclusive (1 training),against,one_training" in page.links["tiny_claims.csv"]


def test_every_table_can_be_downloaded_as_csv_and_latex(page):
    for name in ("table1", "table1_beside", "table4", "table4_beside", "costs", "figure2_paths", "rules", "examples"):
        assert page.links[f"tiny_{name}.csv"].count("\n") > 1
        assert r"\begin{tabular}" in page.links[f"tiny_{name}.tex"]


def test_the_charts_hold_every_path_with_counts_and_interval(page):
    data = json.loads(page.data["data"])
    figure = data["figures"][0]
    assert [len(system["depths"]) for system in figure["systems"]] == [5, 7, 9]
    f6 = figure["systems"][1]["depths"]
    assert [len(depth["paths"]) for depth in f6] == [1, 6, 15, 20, 15, 6, 1]
    for path in f6[2]["paths"]:
        sub, dele, ins, words = path["counts"]
        assert path["wer"] == pytest.approx(100 * (sub + dele + ins) / words)
        assert path["interval"][0] <= path["wer"] <= path["interval"][1]
    assert [len(system["depths"]) for system in figure["published"][0]["systems"]] == [3, 4, 5]
    assert {axis["key"] for axis in data["cost"]["axes"]} == {
        "parameters_stored", "stored_bytes", "macs", "real_time_factor", "peak_memory_bytes"
    }  # fmt: skip


def test_sounds_are_the_stretches_that_the_manifest_names(page):
    utterances = json.loads(page.data["data"])["viewer"]["utterances"]
    sounds = [utterance["sound"] for utterance in utterances if utterance["sound"]]
    assert 10 <= len(sounds) <= report_alignments.SOUNDS
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0].partition(",")[2])), dtype="int16")
    assert rate == 8000 and len(samples) == 4000
    assert len(set(samples)) == 1 and samples[0] > 1000, "the second half of the first channel"


def test_nothing_hostile_gets_out_of_its_place(tmp_path):
    page = Page(text := report(hostile_folder(tmp_path / "tiny")))
    assert page.tags.count("script") == 2 and "img" not in page.tags and text.count("<script") == 2
    assert "<img src=x onerror=hacked()>{{ 7*7 }}" in page.text
    heard = json.loads(page.data["data"])["viewer"]["utterances"]
    assert any(HOSTILE.format(3) in utterance["words"] for utterance in heard)
    latex = page.links["tiny_examples.tex"]
    assert r"\textless{}/script\textgreater{}" in latex and r"\textbackslash{}end\{x\}\&\%\$\#\_" in latex
    assert not re.search(r"(?<!\\)[&%$#_](?=\S)", latex.partition(r"\midrule")[2].partition(r"\bottomrule")[0])


def test_json_cannot_end_its_element():
    value = {"</script><!--": ["&", "<script>", "\u2028", "]]>"]}
    text = embedded(value)
    assert not set("<>&") & set(text) and json.loads(text) == value
    with pytest.raises(ValueError):
        embedded({"wer": float("nan")})


def test_words_are_rebuilt_from_operations():
    rng = random.Random(3)
    for _ in range(200):
        reference = [f"r{n}" for n in range(rng.randint(0, 6))]
        operations, words, expected = "", [], []
        for word in [*reference, None]:
            for _ in range(rng.randint(0, 1)):
                operations += "I"
                words.append("i")
                expected.append("i")
            if word:
                operations += (step := rng.choice("CSD"))
                words += ["s"] * (step == "S")
                expected += {"C": [word], "S": ["s"], "D": []}[step]
        assert hypothesis(reference, operations, words).split() == expected


def test_the_first_pair_gets_its_utterances_before_all_others():
    errors = np.array([[9, 0, 0, 0, 5], [0, 0, 0, 0, 0], [9, 7, 0, 1, 5]])
    assert [*ranked(errors, [(0, 1), (1, 2)])] == [0, 4, 1, 3]
    assert [*ranked(errors, [(0, 1), (1, 2)], among={1, 4})] == [4, 1]


def test_many_utterances_are_cut_to_those_that_differ(pristine, monkeypatch):
    monkeypatch.setattr(report_alignments, "TRANSCRIPTS", 300)
    viewer = report_alignments.viewer(Results(pristine))
    assert viewer["all_utterances"] == 80 and len(viewer["utterances"]) == max(10, 300 // len(viewer["points"]))


def test_ours_beside_the_papers():
    columns = [Column(key) for key in ("sys", "system", "depth", "wer", "published_wer")]
    rows = [
        {"sys": "1", "wer": (20.0, "20.00"), "published_wer": ("10.0", "10.0")},
        {"sys": "2", "wer": (18.0, "18.00"), "published_wer": ("11.0", "11.0*")},
        {"sys": "3", "wer": None, "published_wer": ("9.0", "9.0")},
    ]
    shown = beside(Table("t", "T", columns, rows, pairs=[("wer", "published_wer", "")]), "1").rows
    assert shown[1]["relative"][1] == "-10.0" and shown[1]["published_relative"][1] == "+10.0"
    assert shown[1]["relative_gap"][1] == "-20.0" and shown[1]["gap"][1] == "+7.00"
    assert [row.get("direction") for row in shown] == ["reference", "opposite", None]
    assert beside(Table("t", "T", columns, rows), "1") is None


def test_a_folder_without_logs_costs_sounds_and_claims_still_gives_a_page(folder):
    shutil.rmtree(folder / "benchmarks")
    for path in [*folder.rglob("costs.json"), *folder.rglob("provenance.json")]:
        path.unlink()
    page = Page(report(folder))
    for sentence in ("No claim was judged", "No costs were measured", "No training logs", "No benchmark files"):
        assert sentence in page.text


def test_long_logs_are_thinned_and_infinite_losses_left_out(folder):
    log = folder / "systems/f6/seed0/log.jsonl"
    rows = [{"stage": "a", "step": n, "total": 1.0 if n != 5 else float("inf")} for n in range(1, 2001)]
    log.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"stage": "b", "step": 10, "dev.total": 2.0}]))
    curve = learning_chart(Results(folder))["curves"][0]
    assert len(curve["train"]["total"]) <= LONGEST_CURVE + 1 and curve["train"]["total"][-1] == [2000, 1.0]
    assert curve["dev"] == {"total": [[2010, 2.0]]} and curve["stages"] == [["a", 0], ["b", 2000]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("systems/f6/seed0/log.jsonl", "{}\n", ("log.jsonl", "line 1")),
        ("claims.json", '{"claims": [{"id": "a"}]}', ("claims.json", "claims.0.statement")),
        ("data/made_up/test_clean.jsonl.gz", "no gzip", ("test_clean.jsonl.gz", "not a lhotse manifest")),
    ],
)
def test_a_broken_file_is_one_clear_error_and_leaves_the_earlier_report(folder, name, content, words):
    (folder / "report.html").write_text("earlier")
    (folder / name).write_text(content)
    one_clear_error(command("analysis.report", "--experiment-folder", folder), *words)
    assert (folder / "report.html").read_text() == "earlier"


def test_the_command_writes_equal_bytes_twice(tmp_path):
    folder = complete(make(tmp_path / "tiny"))
    pages = []
    for _ in range(2):
        done = command("analysis.report", "--experiment-folder", folder)
        assert done.returncode == 0, done.stderr
        pages.append((folder / "report.html").read_bytes())
    assert pages[0] == pages[1] and len(pages[0]) < 8e6


def test_it_needs_no_torch(pristine):
    code = "import sys; from pathlib import Path; from analysis.report import report; "
    code += f"report(Path({str(pristine)!r})); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_that_is_evidence_carries_no_warning(folder):
    content = json.loads((folder / "experiment.json").read_text()) | {"evidence": True}
    write_json(folder / "experiment.json", content)
    write_json(folder / "claims.json", CLAIMS | {"evidence": True})
    page = Page(report(folder))
    assert "Not evidence." not in page.text and "Plumbing" not in page.text
