"""How much each layer of a trained system matters: its WER with one layer left out at a time, and the order in which
layers are dropped.

    python -m workflows.sensitivity --experiment smoke --system w12 --data results/smoke/data/synth \\
        --model results/smoke/systems/w12/seed0 --out results/smoke/systems/w12/seed0/sensitivity.json

Measured by greedy decoding of the dev set. The transcripts stand beside the file, in `sensitivity/`.
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
        prog="python -m workflows.sensitivity", description="WER with each layer left out, and the drop order."
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

    from workflows.steps.sensitivity import measure_sensitivity

    identities = Identities(experiment, arguments.model, arguments.data)
    contents = identities.evaluation_contents(arguments.system, arguments.model, [experiment.dev_set])
    made_from = identity(identities.sensitivity_recipe(arguments.system), contents)
    measure_sensitivity(experiment, arguments.system, arguments.data, arguments.model, arguments.out)
    write_json(arguments.out.with_suffix("") / "identity.json", made_from)


if __name__ == "__main__":
    sys.exit(run(main))
