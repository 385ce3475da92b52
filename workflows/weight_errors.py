"""What errors in the weights of a trained system do to its output: noise, and rounding to few bits.

    python -m workflows.weight_errors --experiment smoke --system f6 --data results/smoke/data/synth \\
        --model results/smoke/systems/f6/seed0 --out results/smoke/systems/f6/seed0/weight_errors.json

Measured on the dev set, at the paths that were trained.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run, unknown
from common.files import write_json
from workflows.devices import take_devices
from workflows.experiment import load_experiment
from workflows.identity import Identities, identity


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.weight_errors", description="What errors in the weights do to a system's output."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--system", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder written by workflows.prepare")
    parser.add_argument("--model", type=Path, required=True, help="folder written by workflows.train")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    if arguments.system not in experiment.systems:
        raise unknown("system", arguments.system, experiment.systems, experiment.name)
    take_devices(1)

    from workflows.steps.weight_errors import measure_weight_errors

    identities = Identities(experiment, arguments.model, arguments.data)
    contents = identities.evaluation_contents(arguments.system, arguments.model, [experiment.dev_set])
    made_from = identity(identities.weight_errors_recipe(arguments.system), contents)
    measure_weight_errors(experiment, arguments.system, arguments.data, arguments.model, arguments.out)
    write_json(arguments.out.with_suffix(".identity.json"), made_from)


if __name__ == "__main__":
    sys.exit(run(main))
