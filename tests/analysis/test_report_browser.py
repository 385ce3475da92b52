"""The report in a real browser: silent, fetching nothing, of use by mouse, by keyboard and on a phone."""

import csv
import json
import shutil

import pytest

from analysis.report import report
from tests.analysis.browser import CHROMIUM, Browser
from tests.analysis.report_folder import HOSTILE, complete, hostile_folder
from tests.analysis.results_folder import make

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is NOT installed (Debian: apt-get install chromium)")
TIP = "[...document.querySelectorAll('[data-chart=depth] .tip')].map(tip => tip.hidden ? '' : tip.innerText).join()"
# Contrast of the text of an element with what is behind it, as WCAG defines it.
CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [.2126, .7152, .0722][n], 0);
  const behind = (e) => { while (e && parts(getComputedStyle(e).backgroundColor)[3] === 0) e = e.parentElement;
                          return getComputedStyle(e).backgroundColor; };
  const ratio = (e) => { const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort();
                         return (b + .05) / (a + .05); };
  return [...document.querySelectorAll('h1,h2,h3,p,dt,dd,th,td,a,caption,summary,button,select,.op,.badge,.quiet')]
    .map(e => [ratio(e), e.outerHTML.slice(0, 90)]).filter(([r]) => r < 4.5).slice(0, 3); })()"""


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(pristine, tmp_path_factory):
    folder = complete(shutil.copytree(pristine, tmp_path_factory.mktemp("browser") / "tiny"))
    path = folder / "report.html"
    path.write_text(report(folder), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def halves(with_family, tmp_path_factory):
    """The report of an experiment with two families."""
    path = tmp_path_factory.mktemp("halves") / "report.html"
    path.write_text(report(with_family), encoding="utf-8")
    return path


def outside(browser: Browser, page) -> list[str]:
    """The requests for anything but the page itself and what it holds."""
    return [url for url in browser.requests if url != page.resolve().as_uri() and not url.startswith("data:")]


def test_it_loads_in_silence_and_fetches_nothing(browser, page):
    browser.open(page)
    assert browser.messages == []
    assert outside(browser, page) == [] and page.resolve().as_uri() in browser.requests
    assert browser.run("document.querySelectorAll('svg.plot[role=application]').length") == 4
    assert browser.run("document.querySelectorAll('.utterance').length") == 10


def test_a_page_with_two_halves_loads_in_silence_too(browser, halves):
    browser.open(halves, width=390)
    assert browser.messages == [] and outside(browser, halves) == []
    boxes = "[...document.querySelectorAll('[data-chart=published]')]"
    charts = f"{boxes}.map(box => box.querySelectorAll('svg[role] .point').length)"
    # Of Figure 2; then of test-clean and test-other: four depths of each seed, three baselines.
    assert browser.run(charts) == [12 + 5, 8 + 3, 8 + 3]
    bars = "[...document.querySelectorAll('#depth .bar rect')].map(bar => Number(bar.getAttribute('width')))"
    widths = browser.run(bars)
    assert len(widths) == 12 and max(widths) == widths[11] == 160 and widths[6] == 32
    browser.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= 390


FILTER = "[...document.querySelectorAll('.filter button')]"
SHOWN = "[...document.querySelectorAll('#verdicts [data-verdict]:not(button)')].filter(e => e.offsetParent)"


def test_verdicts_are_filtered_by_button_and_by_keyboard(browser, page):
    browser.open(page)
    counts = browser.run(f"{FILTER}.map(button => [button.dataset.verdict, Number(button.lastElementChild.innerText)])")
    assert counts == [["reproduced", 1], ["contradicted", 1], ["inconclusive", 3], ["not tested here", 1]]
    assert browser.run(f"{SHOWN}.length") == 6
    browser.run(f"{FILTER}[1].click()")
    assert browser.run(f"{SHOWN}.map(claim => claim.dataset.verdict)") == ["contradicted"]
    headings = "[...document.querySelectorAll('#verdicts .paper h3')].filter(e => e.offsetParent).map(e => e.innerText)"
    assert browser.run(headings) == ["arXiv 1: A paper"]
    browser.run(f"{FILTER}[1].focus()")
    browser.key("Tab")
    browser.key(" ")
    assert browser.run(f"{FILTER}.map(button => button.ariaPressed)") == ["false", "true", "true", "false"]
    assert browser.run(f"{SHOWN}.length") == 4 and browser.run(
        "document.querySelector('#verdicts [role=status]').innerText"
    ) == ("4 of 6 claims shown.")
    browser.run(f"{FILTER}.slice(1, 3).forEach(button => button.click())")
    assert browser.run(f"{SHOWN}.length") == 6 and browser.messages == []


def test_without_scripts_everything_is_shown_and_no_button_is_dead(browser, page):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run(f"{SHOWN}.length") == 6
    assert browser.run(f"{FILTER}.filter(button => button.offsetParent).length") == 0
    assert "Scripts are off" in browser.run("document.body.innerText")


def test_each_family_has_a_cost_chart_with_scales_of_its_own(browser, halves):
    browser.open(halves)
    figures = "[...document.querySelectorAll('[data-chart=cost] figure')]"
    legends = (
        f"{figures}.map(figure => [...figure.querySelectorAll('.legend li')].map(entry => entry.innerText.trim()))"
    )
    own, w2v2 = browser.run(legends)
    assert "f6" in own and "fw6" in w2v2 and not {*own} & {*w2v2}
    assert browser.run(f"{figures}[1].querySelector('figcaption').innerText").startswith(
        "w2v2: narrow models <pre-trained>"
    )


def test_a_cost_that_one_system_lacks_is_shown_of_the_others_and_the_system_named(browser, pristine, tmp_path):
    folder = complete(shutil.copytree(pristine, tmp_path / "tiny"))
    for path in folder.glob("systems/f8/seed*/measured/costs.json"):
        content = json.loads(path.read_text())
        for costs in content["points"].values():
            costs["peak_memory_bytes"] = None
        path.write_text(json.dumps(content))
    page = tmp_path / "report.html"
    page.write_text(report(folder), encoding="utf-8")
    browser.open(page)
    names = "[...document.querySelectorAll('[data-chart=cost] .legend li')].map(entry => entry.innerText.trim())"
    select = "[...document.querySelectorAll('label')].find(e => e.innerText.startsWith('Cost')).querySelector('select')"
    named = "document.querySelector('[data-chart=cost] .hint[aria-live]').innerText"
    everything = browser.run(names)
    assert "f8" in everything and "Not measured" not in browser.run(named)
    browser.run(
        f"(() => {{ const s = {select}; s.value = 'peak_memory_bytes'; s.dispatchEvent(new Event('change')); }})()"
    )
    assert sorted([*browser.run(names), "f8"]) == sorted(everything)
    assert browser.run(named).endswith("Not measured, and not shown: f8.") and browser.messages == []


def test_hover_shows_path_counts_and_interval(browser, page):
    browser.open(page)
    assert browser.run(TIP) == ""
    point = "[data-chart=depth] .point:not(.small)[aria-label^='f6, depth 7']"
    browser.hover(point)
    shown = browser.run(TIP)
    assert browser.run(f"document.querySelector({json.dumps(point)}).ariaLabel").startswith("f6, depth 7: the reported")
    for words in ("path 1 1 1 ", "95 % interval", "substitutions", "deletions", "insertions", "6 paths"):
        assert words in shown
    browser.hover("h1")
    assert browser.run(TIP) == ""


def test_the_keyboard_reaches_every_point_and_escape_closes(browser, page):
    browser.open(page)
    browser.run("[...document.querySelectorAll('[data-chart=depth] .legend button')].at(-1).focus()")
    browser.key("Tab")
    first = browser.run("document.activeElement.getAttribute('aria-label')")
    assert first.startswith("f8, depth 8") and "path 1 1 1 1 1 1 1 1" in browser.run(TIP)
    browser.key("ArrowRight")
    assert "f8, depth 9" in browser.run(TIP)
    browser.key("ArrowDown")
    assert "f6, depth 9" in browser.run(TIP)
    browser.key("Escape")
    assert browser.run(TIP) == ""
    browser.key("Tab")
    assert not browser.run("document.activeElement.closest('svg.plot')"), "one stop for a chart, however many points"


def test_the_skip_link_is_the_first_stop_and_focus_can_be_seen(browser, page):
    browser.open(page)
    browser.key("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("document.activeElement.getBoundingClientRect().x") >= 0
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.key("Enter")
    assert browser.run("document.activeElement.id") == "main"


def test_tables_are_saved_as_csv_and_latex(browser, page, tmp_path):
    browser.open(page)
    csv = browser.download("a[download='tiny_table1.csv']", tmp_path)
    assert csv.name == "tiny_table1.csv" and csv.read_text().startswith("sys,system,")
    tex = browser.download("a[download='tiny_table1.tex']", tmp_path)
    assert tex.name == "tiny_table1.tex" and r"\begin{tabular}" in tex.read_text()
    assert outside(browser, page) == []


def test_saved_csv_holds_no_formula(browser, tmp_path):
    folder = complete(make(tmp_path / "tiny", word="=w{}"))
    path = folder / "report.html"
    path.write_text(report(folder), encoding="utf-8")
    browser.open(path)
    with browser.download("a[download='tiny_examples.csv']", tmp_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["reference"].startswith("'=w") for row in rows)
    assert "'=w" not in browser.run("document.body.innerText")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(browser, page, width):
    browser.open(page, width=width)
    browser.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_its_background(browser, page, dark):
    browser.open(page, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)"
    )
    assert browser.run(CONTRAST) == []


def test_cost_and_learning_charts_follow_their_choices(browser, page):
    browser.open(page)
    for chart, choice in (("cost", "parameters_stored"), ("learning", "ctc")):
        box = f"document.querySelector('[data-chart={chart}]')"
        before = browser.run(f"{box}.querySelector('svg[role]').getAttribute('aria-label')")
        browser.run(
            f"(select => {{ select.value = '{choice}'; select.dispatchEvent(new Event('change')); }})"
            f"({box}.previousElementSibling.querySelector('select'))"
        )
        assert browser.run(f"{box}.querySelector('svg[role]').getAttribute('aria-label')") != before
    legend = "document.querySelector('[data-chart=learning] .legend button')"
    count = "document.querySelectorAll('[data-chart=learning] .point').length"
    before = browser.run(count)
    browser.run(f"{legend}.click()")
    assert browser.run(count) < before and browser.run(f"{legend}.getAttribute('aria-pressed')") == "false"
    assert browser.messages == []


def test_two_chosen_systems_are_aligned_and_their_sound_plays(browser, page):
    browser.open(page)
    browser.run(
        "(select => { select.value = 0; select.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#viewer select'))"
    )
    label = browser.run("document.querySelector('#viewer .utterance table caption').textContent")
    assert "A (a12 at depth 12" in label and "B (a4 at depth 4" in label
    gaps = browser.run(
        "[...document.querySelectorAll('#viewer .utterance')].map(view => [...view.querySelectorAll('th')].slice(1)"
        ".map(head => Number(head.textContent.match(/: (\\d+)/)[1]))).map(([a, b]) => Math.abs(a - b))"
    )
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0
    play = "(audio => audio.play().then(() => audio.duration))(document.querySelector('#viewer audio'))"
    played = browser.send("Runtime.evaluate", expression=play, awaitPromise=True, userGesture=True)
    assert played["result"]["value"] == 0.5
    assert browser.messages == [] and outside(browser, page) == []


def test_hostile_words_are_shown_and_not_obeyed(browser, tmp_path):
    folder = hostile_folder(tmp_path / "tiny")
    path = folder / "report.html"
    # Without the policy the page has to hold by its escapes alone.
    path.write_text(report(folder).replace("Content-Security-Policy", "x-none"), encoding="utf-8")
    browser.open(path)
    assert browser.messages == [] and outside(browser, path) == []
    assert browser.run("document.scripts.length") == 2 and browser.run("document.images.length") == 0
    cells = browser.run("[...document.querySelectorAll('#viewer td .word')].map(word => word.textContent)")
    assert {HOSTILE.format(n) for n in range(20)} & set(cells)
    assert "{{ 7*7 }}" in browser.run("document.title") and json.dumps(browser.run("document.title")).count("<img") == 1
