"""Train one system: all stages of its method, then `finish`, then weights and provenance on disk.

    python -m workflows.train --experiment smoke --system f6 --seed 0 --data results/smoke/data/synth \
        --out results/smoke/systems/f6/seed0

Work in progress stands in `<out>/work`, which is no output of a rule, so that a killed run goes on from there.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run, unknown
from workflows.devices import take_devices
from workflows.experiment import load_experiment
from workflows.tasks import start_tasks


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.train", description="Train one system.")
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--system", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True, help="folder written by workflows.prepare")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FOLDER", help="a system this one starts from"
    )
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    if arguments.system not in experiment.systems:
        raise unknown("system", arguments.system, experiment.systems, experiment.name)
    training = experiment.training_of(arguments.system)
    start_tasks(training.devices, experiment.threads + training.workers)
    take_devices(training.devices)

    from workflows.steps.train import train_system
    from workflows.systems import name_folders

    folders = name_folders(arguments.input)
    train_system(experiment, arguments.system, arguments.seed, arguments.data, arguments.out, folders)


if __name__ == "__main__":
    sys.exit(run(main))
