"""`RESULTS.md`: everything an experiment found, for people who read on a terminal or a code host.

In the order of the report: the answer, the pictures, the tables, the verdicts, how it was run. No table is wider than
`formats.ROOM` columns; what is left out stands in the files that are linked below it.
"""

from analysis.inputs.made import not_made
from analysis.inputs.results import Results
from analysis.inputs.schemas import Experiment
from analysis.tables.cost_figure import CAPTION
from analysis.tables.figures import figure_caption, figure_title
from analysis.tables.formats import Table, escape_markdown, markdown_body
from analysis.tables.headline import Headline
from analysis.tables.runs import provenance_table, rule_times

NOT_EVIDENCE = (
    "> The numbers below come from a small run that shows the machinery at work. "
    "They are **not evidence** for or against anything the papers say."
)
LINKS = {"CSV": "csv", "HTML": "html", "LaTeX": "tex"}
COSTS = "cost_against_wer"
"""The name of the figure of costs."""


def results_md(
    results: Results, headlines: list[Headline], tables: list[Table], claims: list[str], costs_drawn: bool
) -> str:
    """The whole file. `claims` is the section of verdicts; `costs_drawn` says whether there is a figure of costs."""
    experiment = results.experiment
    parts = [f"# {escape_markdown(experiment.title or experiment.name)}"]
    parts += [] if experiment.evidence else [NOT_EVIDENCE]
    lacking = not_made(results.whole, results.made)
    parts += [escape_markdown(lacking)] if lacking else []
    parts += _headline_section(headlines, experiment.evidence, bool(lacking))
    for name in experiment.figures:
        parts += _figure_section(results, name)
    parts += _cost_section(experiment) if costs_drawn else []
    for table in tables:
        parts += _table_section(table)
    return "\n\n".join(part.rstrip() for part in [*parts, *claims, *_run_section(results)]) + "\n"


def _headline_section(headlines: list[Headline], evidence: bool, part: bool) -> list[str]:
    of = "the systems made so far" if part else "this experiment's systems"
    answers = "\n".join(f"- {escape_markdown(headline.sentence)}" for headline in headlines)
    section = ["## Is deeper better?", answers or f"None of {of} runs at several depths."]
    if headlines and not evidence:
        section.append("Small models, little data: the sign of such a difference is worth a look, its size is not.")
    return section


def _figure_section(results: Results, name: str) -> list[str]:
    return [
        f"## {figure_title(results.whole, name)}",
        f"![{escape_markdown(figure_title(results.whole, name))}](figures/{name}.svg)",
        f"{escape_markdown(figure_caption(results, name))} Also as [PDF](figures/{name}.pdf) and "
        f"[PNG](figures/{name}.png).",
    ]


def _cost_section(experiment: Experiment) -> list[str]:
    return [
        f"## Cost against {experiment.rate}",
        f"![{experiment.rate} against stored size and multiply-accumulates, by family](figures/{COSTS}.svg)",
        f"{experiment.named(CAPTION)} Also as [PDF](figures/{COSTS}.pdf); the numbers as [CSV](tables/costs.csv).",
    ]


def _table_section(table: Table) -> list[str]:
    csv, html, latex = (f"[{kind}](tables/{table.name}.{suffix})" for kind, suffix in LINKS.items())
    cut = len(table.shown(wide=False)) < len(table.shown(wide=True))
    links = (
        f"All columns: {csv}, {html}; those above: {latex}." if cut else f"The same as files: {csv}, {html}, {latex}."
    )
    return [f"## {escape_markdown(table.title)}", markdown_body(table), links]


def _run_section(results: Results) -> list[str]:
    experiment, times, provenance = results.experiment, rule_times(results), provenance_table(results)
    families = experiment.family_notes(experiment.systems)
    parts = ["## How it was run", *([escape_markdown(experiment.note)] if experiment.note else [])]
    parts += ["\n".join(f"- {escape_markdown(note)}" for note in families)] if families else []
    parts += ["### Time and memory of each rule", markdown_body(times) if times else "No benchmark files were found."]
    return [*parts, "### Provenance", markdown_body(provenance) if provenance else "No provenance files were found."]
