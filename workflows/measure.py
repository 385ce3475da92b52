"""Measure what the points of trained systems cost: parameters, bytes, MACs, real-time factor, peak memory.

    python -m workflows.measure --experiment smoke --data results/smoke/data/synth --systems
    results/smoke/systems/*/seed0

One process after the other, so that nothing runs beside a measurement: one for each system and, on CPUs, one for the
memory of each point and one for that of training. Writes `<system>/measured/costs.json`.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run
from common.files import write_json
from workflows.experiment import load_experiment
from workflows.identity import Identities, identity


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.measure", description="Measure the costs of systems.")
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--data", type=Path, required=True, help="folder written by workflows.prepare")
    parser.add_argument("--systems", type=Path, nargs="+", required=True, help="folders written by workflows.train")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)

    from workflows.steps.measure import measure_systems

    made_from = identity(Identities(experiment, arguments.data, arguments.data).costs_recipe(), {})
    measure_systems(experiment, arguments.data, arguments.systems)
    for folder in arguments.systems:
        write_json(folder / "measured" / "identity.json", made_from)


if __name__ == "__main__":
    sys.exit(run(main))
