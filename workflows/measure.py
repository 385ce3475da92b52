"""Measure what the points of trained systems cost: parameters, bytes, MACs, real-time factor, peak memory.

    python -m workflows.measure --experiment smoke --data results/smoke/data/synth --systems
    results/smoke/systems/*/seed0

A process for each system, one after the other, so that nothing runs beside a time. On CPUs then a process for the
memory of each point and of each training, some at a time, for memory does not depend on what runs beside. Writes
`<system>/measured/costs.json`.
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

    # results/<experiment>/systems/<system>/seed<k>
    identities = Identities(experiment, arguments.systems[0].resolve().parents[2], arguments.data)
    made_from = identity(identities.costs_recipe(), identities.costs_contents())
    measure_systems(experiment, arguments.data, arguments.systems)
    for folder in arguments.systems:
        write_json(folder / "measured" / "identity.json", made_from)


if __name__ == "__main__":
    sys.exit(run(main))
