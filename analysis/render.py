"""Turn what an experiment left on disk into tables, figures and RESULTS.md.

    python -m analysis.render --experiment-folder results/smoke

Everything is computed first and written last, so an error leaves the earlier outputs as they were.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from common.errors import run
from common.files import replacing


def render(folder: Path, claims: Path | None = None) -> tuple[dict[Path, bytes], list[str]]:
    """The content of every output file, and the lines that answer whether deeper is better. Writes nothing.

    `claims` is a claims file in place of the papers'.
    """
    from analysis.inputs.results import Results
    from analysis.tables.beam_check import decode_table
    from analysis.tables.cost_figure import cost_figure
    from analysis.tables.costs import cost_table
    from analysis.tables.figures import draw_figure
    from analysis.tables.formats import files, to_csv
    from analysis.tables.headline import headlines
    from analysis.tables.html import page
    from analysis.tables.markdown import COSTS, results_md
    from analysis.tables.papers import build_table
    from analysis.tables.points import point_table
    from analysis.tables.sensitivity import sensitivity_table
    from analysis.tables.weight_errors import weight_error_table
    from analysis.verdicts.judge import claims_files, judge_claims, section

    results = Results(folder)
    experiment = results.experiment
    points = point_table(results)
    tables = [build_table(results, name, spec) for name, spec in experiment.tables.items()]
    tables += [table for table in (cost_table(results), decode_table(results)) if table.rows]
    tables = [replace(table, notes=[*table.notes, results.normaliser.note]) for table in tables or [points]]
    tables += [table for table in (sensitivity_table(results), weight_error_table(results)) if table.rows]
    if experiment.score == "characters":
        tables, points = [table.of_characters() for table in tables], points.of_characters()
    contents = {folder / "tables" / "points.csv": to_csv(points).encode()}
    for table in tables:
        contents |= {path: text.encode() for path, text in files(table, folder / "tables").items()}
    for name in experiment.figures:
        for kind, content in draw_figure(results, name).items():
            contents[folder / "figures" / f"{name}.{kind}"] = content
    drawn = cost_figure(results)
    contents |= {folder / "figures" / f"{COSTS}.{kind}": content for kind, content in drawn.items()}
    answers, verdicts = headlines(results), judge_claims(results, claims)
    contents |= claims_files(verdicts, folder)
    text = results_md(results, answers, tables, section(verdicts), costs_drawn=bool(drawn))
    contents[folder / "results.html"] = page(text, experiment.title or experiment.name, contents, folder)
    contents[folder / "RESULTS.md"] = text.encode()
    return contents, [answer.sentence for answer in answers]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.render", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    parser.add_argument("--claims", type=Path, help="a claims file in place of the papers'")
    arguments = parser.parse_args()

    contents, answers = render(arguments.experiment_folder, arguments.claims)
    for path, content in contents.items():
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    print("\n".join(answers))
    print(os.path.join(arguments.experiment_folder, "RESULTS.md"))


if __name__ == "__main__":
    sys.exit(run(main))
