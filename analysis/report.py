"""Write `report.html`: everything an experiment found as one page that opens offline, in the order a reader asks.

    python -m analysis.report --experiment-folder results/smoke

The page holds its own style, scripts, data, tables for download and a few sounds; it fetches nothing, and its content
security policy lets it fetch nothing. Titles, labels and transcripts are untrusted: the template escapes them, scripts
get them as JSON and write them as text.
"""

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from common.errors import run
from common.files import write_text

TEMPLATES = Path(__file__).parent / "page" / "templates"
SCRIPTS = ("report_charts.js", "report_plots.js", "report_viewer.js", "report_filter.js")


def report(folder: Path) -> str:
    """The page of one experiment. Writes nothing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from analysis.inputs.results import Results

    scripts = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        scripts=scripts,
        scripts_hash=base64.b64encode(hashlib.sha256(f"\n{scripts}\n".encode()).digest()).decode(),
        **content(Results(folder)),
    )


def content(results) -> dict[str, Any]:
    """Everything the template shows."""
    from analysis.inputs.made import not_made
    from analysis.page.alignments import example_table, viewer
    from analysis.page.charts import cost_chart, depth_chart, depth_table, learning_chart
    from analysis.page.claims import HEIGHT, WIDTH, claims, claims_table
    from analysis.page.drawings import drawing
    from analysis.page.run import facts, job_table, set_table, system_table
    from analysis.page.tables import beside, view
    from analysis.tables.beam_check import decode_table
    from analysis.tables.costs import cost_table
    from analysis.tables.headline import headlines
    from analysis.tables.papers import build_table
    from analysis.tables.runs import provenance_table, rule_times
    from analysis.tables.sensitivity import sensitivity_table
    from analysis.tables.weight_errors import weight_error_table

    experiment = results.experiment
    tables = [build_table(results, name, spec) for name, spec in experiment.tables.items()]
    verdicts = claims(results)
    figures = [depth_chart(results, name) for name in experiment.depth_figures]
    costs, alignments = cost_table(results), viewer(results)
    charts = {"cost": cost_chart(results), "learning": learning_chart(results), "figures": figures}

    def shown(table, counted=True):
        """`counted`: what it says of errors and words is of this experiment's transcripts."""
        if table is None or not table.rows:
            return None
        by_characters = counted and experiment.score == "characters"
        return view(table.of_characters() if by_characters else table, experiment.name)

    def both(table, spec):
        families = experiment.family_notes(row.system for row in spec.rows.values())
        return shown(table), shown(beside(table, spec.reference, families))

    return {
        "experiment": experiment,
        "seeds": results.numbers_of_seeds() or [0],
        "not_made": not_made(results.whole, results.made),
        "headlines": headlines(results),
        "figures": [(chart, shown(depth_table(chart, experiment.name))) for chart in figures],
        "sensitivity": shown(sensitivity_table(results)),
        "drawings": [drawing(results, name) for name in experiment.figures if name not in experiment.depth_figures],
        "weight_errors": shown(weight_error_table(results)),
        "costs": shown(costs) if charts["cost"] else None,
        "costs_by_family": bool(charts["cost"]) and len(charts["cost"]["families"]) > 1,
        "tables": [both(*pair) for pair in zip(tables, experiment.tables.values(), strict=True)],
        "further": shown(decode_table(results)),
        "claims": verdicts,
        "claims_view": shown(claims_table(verdicts, experiment.name), counted=False) if verdicts else None,
        "drawing": (WIDTH, HEIGHT),
        "viewer": alignments,
        "examples": shown(example_table(alignments, experiment.name)) if alignments else None,
        "facts": facts(results),
        "corpus": shown(set_table(results), counted=False),
        "systems": shown(system_table(results)),
        "learning": charts["learning"],
        "rules": shown(rule_times(results)),
        "jobs": shown(job_table(results)),
        "provenance": shown(provenance_table(results)),
        "data": embedded(
            {
                **charts,
                "viewer": alignments,
                "rate": experiment.rate,
                "score": experiment.score,
                "resampled": experiment.resampled,
            }
        ),
    }


def embedded(value: Any) -> str:
    """`value` as JSON that can stand inside a `<script>` element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    folder = parser.parse_args().experiment_folder

    page = report(folder)
    write_text(folder / "report.html", page)
    print(f"{folder / 'report.html'} ({len(page.encode()) / 1e6:.1f} MB)")


if __name__ == "__main__":
    sys.exit(run(main))
