"""Measure what the points of a trained system cost: parameters, bytes, MACs, real-time factor, peak memory.

    python -m workflows.measure --experiment smoke --system f6 --data results/smoke/data/synth \\
        --model results/smoke/systems/f6/seed0 --out results/smoke/systems/f6/seed0/measured/costs.json

A process for what is counted and timed, so that nothing runs beside a time. On CPUs then a process for the memory of
each point and of training, some at a time, for memory does not depend on what runs beside. That is of a system's first
seed; of further ones, which take the same time and memory, parameters, bytes and MACs alone are counted.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run, unknown
from common.files import read_json, write_json
from workflows.devices import take_devices
from workflows.experiment import load_experiment
from workflows.identity import Identities, identity
from workflows.provenance import processor


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.measure", description="Measure the costs of a system.")
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--system", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder written by workflows.prepare")
    parser.add_argument("--model", type=Path, required=True, help="folder written by workflows.train")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    if arguments.system not in experiment.systems:
        raise unknown("system", arguments.system, experiment.systems, experiment.name)
    timed = experiment.is_timed(arguments.system, read_json(arguments.model / "system.json")["seed"])
    take_devices(1, share=not timed)

    from workflows.steps.measure import COUNTS, EVERYTHING, measure_system

    identities = Identities(experiment, arguments.model, arguments.data)
    contents = identities.costs_contents(arguments.system, arguments.model)
    made_from = identity(identities.costs_recipe(arguments.system, timed), contents)
    asked = EVERYTHING if timed else COUNTS
    measured = measure_system(experiment, arguments.system, arguments.data, arguments.model, asked)
    write_json(arguments.out, {**measured, "processor": processor()})
    write_json(arguments.out.parent / "identity.json", made_from)


if __name__ == "__main__":
    sys.exit(run(main))
