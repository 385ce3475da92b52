"""Prepare an experiment's corpus: recordings, manifests, reference transcripts.

python -m workflows.prepare --experiment smoke --out results/smoke/data/synth
"""

import argparse
import sys
from pathlib import Path

from common.errors import run
from workflows.experiment import load_experiment


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.prepare", description="Prepare an experiment's corpus.")
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the corpus")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)

    from workflows.steps.prepare import prepare_corpus

    prepare_corpus(experiment, arguments.out)


if __name__ == "__main__":
    sys.exit(run(main))
