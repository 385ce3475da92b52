"""`RESULTS.md`: everything an experiment found, for people who read on a terminal or a code host."""

from analysis.inputs.made import not_made
from analysis.inputs.results import Results
from analysis.tables.figures import figure_caption, figure_title
from analysis.tables.formats import Table, escape_markdown, markdown_body
from analysis.tables.headline import Headline
from analysis.tables.runs import provenance_table, rule_times

NOT_EVIDENCE = (
    "> The numbers below come from a small run that shows the machinery at work. "
    "They are **not evidence** for or against anything the papers say."
)
LINKS = {"CSV": "csv", "HTML": "html", "LaTeX": "tex"}


def results_md(results: Results, headlines: list[Headline], tables: list[Table], claims: list[str]) -> str:
    """The whole file: the headline, the section on claims, the figures, the tables, times, provenance."""
    experiment = results.experiment
    parts = [f"# {escape_markdown(experiment.title or experiment.name)}"]
    parts += [] if experiment.evidence else [NOT_EVIDENCE]
    parts += [escape_markdown(experiment.note)] if experiment.note else []
    lacking = not_made(results.whole, results.made)
    parts += [escape_markdown(lacking)] if lacking else []
    families = experiment.family_notes(experiment.systems)
    parts += ["\n".join(f"- {escape_markdown(note)}" for note in families)] if families else []
    parts += [*_headline_section(headlines, experiment.evidence), *claims]
    for name in experiment.figures:
        parts += _figure_section(results, name)
    for table in tables:
        parts += _table_section(table)
    times, provenance = rule_times(results), provenance_table(results)
    parts += ["## Time and memory of each rule", markdown_body(times) if times else "No benchmark files were found."]
    parts += ["## Provenance", markdown_body(provenance) if provenance else "No provenance files were found."]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _headline_section(headlines: list[Headline], evidence: bool) -> list[str]:
    answers = "\n".join(f"- {escape_markdown(headline.sentence)}" for headline in headlines)
    section = ["## Is deeper better?", answers or "No system of this experiment runs at several depths."]
    if headlines and not evidence:
        section.append("Small models, little data: the sign of such a difference is worth a look, its size is not.")
    return section


def _figure_section(results: Results, name: str) -> list[str]:
    return [
        f"## {figure_title(results.whole, name)}",
        f"![WER against executed depth, measured and published](figures/{name}.svg)",
        f"{escape_markdown(figure_caption(results, name))} Also as [PDF](figures/{name}.pdf) and "
        f"[PNG](figures/{name}.png).",
    ]


def _table_section(table: Table) -> list[str]:
    links = ", ".join(f"[{kind}](tables/{table.name}.{suffix})" for kind, suffix in LINKS.items())
    return [f"## {escape_markdown(table.title)}", markdown_body(table), f"The same as files: {links}."]
