"""What a run needs beside what is there, before hours are spent: packages, data, published weights, disk, devices,
and from a step of each system with random weights and noise, memory and time.

    python -m workflows.preflight --experiment paper_librispeech --quick
    python -m workflows.preflight --experiment smoke --only table1

Prints a table. Exit status 1, and a line for each thing, when something is missing. Nothing is fetched or written.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError, run
from workflows.devices import take_devices
from workflows.experiment import load_experiment
from workflows.experiment.merging import experiment_file
from workflows.part import add_arguments, asked_of

if TYPE_CHECKING:
    from workflows.steps.preflight import Finding


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.preflight", description="Compare what a run needs with what is there."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where results go")
    parser.add_argument("--quick", action="store_true", help="seconds: take no step, and say nothing about time")
    add_arguments(parser)
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    asked = asked_of(experiment, arguments)

    if not arguments.quick:
        take_devices(1, share=False)

    from workflows.steps.preflight import look, step

    where, folder = str(experiment_file(arguments.experiment)), arguments.results / experiment.name
    findings = list(look(experiment, where, asked, folder))
    if not arguments.quick:
        findings += step(experiment, where, asked, folder / "data" / experiment.corpus.name)
    print("\n".join(table(findings)), flush=True)
    missing = [finding for finding in findings if finding.missing]
    for finding in missing:
        print(f"missing: {finding.missing}", file=sys.stderr)
    if missing:
        raise UserError(f"{experiment.name} lacks {', '.join(dict.fromkeys(each.what for each in missing))}: see above")


def table(findings: "list[Finding]") -> list[str]:
    """A line for each finding, in columns."""
    rows = [("what", "needed", "found", "")]
    rows += [(each.what, each.needed, each.found, "MISSING" if each.missing else "ok") for each in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    ]


if __name__ == "__main__":
    sys.exit(run(main))
