"""Print what an experiment's systems cost before anything is trained: a CSV, alone on standard output.

    python -m workflows.cost config/paper_librispeech.yaml --parameters-only
    python -m workflows.cost smoke --only table1 --memory --times

Needs no data and no network: systems are built with random weights, and hear noise.
"""

import argparse
import contextlib
import csv
import sys

from common.errors import run
from workflows.devices import take_devices
from workflows.experiment import load_experiment
from workflows.experiment.merging import experiment_file
from workflows.part import add_arguments, asked_of


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.cost", description="Print what systems cost before anything is trained, as CSV."
    )
    parser.add_argument("experiment", help="name of a file in config/, or a YAML file")
    add_arguments(parser)
    parser.add_argument("--parameters-only", action="store_true", help="count weights alone, in seconds")
    parser.add_argument("--memory", action="store_true", help="peak memory too, of recognition and of a training step")
    parser.add_argument("--times", action="store_true", help="the real-time factor too, and seconds of a training step")
    units = "how many words or characters the transcripts hold, where these are the tokenizer's units"
    parser.add_argument("--units", type=int, metavar="N", help=units)
    arguments = parser.parse_args()
    if arguments.parameters_only and (arguments.memory or arguments.times):
        parser.error("--parameters-only measures nothing: leave out --memory and --times")
    experiment = load_experiment(arguments.experiment)
    systems = [*asked_of(experiment, arguments).systems]
    if not arguments.parameters_only:
        take_devices(1, share=False)

    from workflows.steps.cost_rows import ASSUMED_UNITS, assumed, columns, cost_rows
    from workflows.steps.measure import Asked

    if arguments.units is None and (counted := assumed(experiment, systems)):
        say(f"the transcripts are not read: {ASSUMED_UNITS} {' and '.join(counted)} units are assumed (--units)")
    asked = None if arguments.parameters_only else Asked(arguments.memory, arguments.times)
    table = sys.stdout
    writer = csv.DictWriter(table, columns(asked), lineterminator="\n")
    writer.writeheader()
    table.flush()  # before children are forked, who would write it again
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints meanwhile is no row
        where = str(experiment_file(arguments.experiment))
        for row in cost_rows(experiment, where, systems, arguments.units, asked):
            writer.writerow(row)
            table.flush()
            if row["parameters"] is None or ("macs" in row and row["macs"] is None):
                of = f"{row['system']} {row['point']}"
                say(f"{of}: what it executes follows from trained weights; its cells are empty")


def say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
