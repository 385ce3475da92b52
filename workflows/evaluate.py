"""Decode all operating points of a system on the dev set and all test sets, in one process.

    python -m workflows.evaluate --experiment smoke --system f6 --data results/smoke/data/synth \\
        --model results/smoke/systems/f6/seed0 --out results/smoke/systems/f6/seed0/eval

Writes `<decode>/<set>/<point>.trn` and, last, `points.json`.
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
    parser = argparse.ArgumentParser(prog="python -m workflows.evaluate", description="Decode all points of a system.")
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--system", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder written by workflows.prepare")
    parser.add_argument("--model", type=Path, required=True, help="folder written by workflows.train")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    if arguments.system not in experiment.systems:
        raise unknown("system", arguments.system, experiment.systems, experiment.name)
    take_devices(1)

    from workflows.steps.evaluate import evaluate_system

    identities = Identities(experiment, arguments.model, arguments.data)
    contents = identities.evaluation_contents(arguments.system, arguments.model)
    made_from = identity(identities.evaluation_recipe(arguments.system), contents)
    evaluate_system(experiment, arguments.system, arguments.data, arguments.model, arguments.out)
    write_json(arguments.out / "identity.json", made_from)


if __name__ == "__main__":
    sys.exit(run(main))
