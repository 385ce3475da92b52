"""Prepare what a model family reads beside the corpus: its tokenizer and the statistics of its features.

    python -m workflows.inputs --experiment smoke --data results/smoke/data/synth
    python -m workflows.inputs --experiment smoke --data results/smoke/data/synth --family w2v2

Writes `tokenizer.json` and, for log-mel features, `cmvn.json` into the corpus's folder, or into a folder of the
family's name in it.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run, unknown
from common.files import write_json
from workflows.experiment import load_experiment
from workflows.identity import Identities, identity


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.inputs", description="Prepare the tokenizer and the features of a model family."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--data", type=Path, required=True, help="folder written by workflows.prepare")
    parser.add_argument("--family", help="one of the experiment's families (default: the experiment's own)")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    if arguments.family is not None and arguments.family not in experiment.families:
        raise unknown("family", arguments.family, experiment.families, experiment.name)

    from workflows.steps.inputs import prepare_inputs

    identities = Identities(experiment, arguments.data, arguments.data)
    made_from = identity(identities.inputs_recipe(arguments.family), identities.inputs_contents(arguments.family))
    prepare_inputs(experiment, arguments.family, arguments.data)
    folder = arguments.data if arguments.family is None else arguments.data / arguments.family
    write_json(folder / "inputs.identity.json", made_from)


if __name__ == "__main__":
    sys.exit(run(main))
