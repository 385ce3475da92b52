"""Prepare an experiment's corpus: recordings, manifests, reference transcripts.

python -m workflows.prepare --experiment smoke --out results/smoke/data/synth
"""

import argparse
import sys
from pathlib import Path

from common.errors import run
from common.files import write_json
from workflows.experiment import load_experiment
from workflows.identity import Identities, identity


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.prepare", description="Prepare an experiment's corpus.")
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the corpus")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)

    from workflows.steps.prepare import prepare_corpus

    made_from = identity(Identities(experiment, arguments.out, arguments.out).data_recipe(), {})
    prepare_corpus(experiment, arguments.out)
    write_json(arguments.out / "data.identity.json", made_from)


if __name__ == "__main__":
    sys.exit(run(main))
