"""Print what an experiment's systems cost before anything is trained: a CSV, alone on standard output.

    python -m workflows.cost config/paper_librispeech.yaml --parameters-only
    python -m workflows.cost smoke --only table1 --memory --times

Needs no data and no network.
"""

import argparse
import csv
import sys

from common.errors import run
from workflows.experiment import load_experiment
from workflows.experiment.merging import experiment_file
from workflows.part import add_arguments, chosen_part


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.cost", description="Print what systems cost before anything is trained, as CSV."
    )
    parser.add_argument("experiment", help="name of a file in config/, or a YAML file")
    add_arguments(parser)
    parser.add_argument("--parameters-only", action="store_true", help="count weights only: seconds, whatever the size")
    parser.add_argument("--units", type=int, metavar="N", help="words or characters in the transcripts")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    systems = chosen_part(experiment, arguments.only, arguments.systems).systems

    from workflows.steps.cost_rows import COLUMNS, PUBLISHED, parameter_rows

    writer = csv.DictWriter(sys.stdout, [*COLUMNS, *PUBLISHED], lineterminator="\n")
    writer.writeheader()
    where = str(experiment_file(arguments.experiment))
    for row in parameter_rows(experiment, where, systems, arguments.units):
        writer.writerow(row)


if __name__ == "__main__":
    sys.exit(run(main))
