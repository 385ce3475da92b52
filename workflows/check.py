"""Check an experiment before any work: every method is imported and its settings are validated. Writes
`experiment.json`.

python -m workflows.check --experiment smoke --out results/smoke/experiment.json
"""

import argparse
import sys
from pathlib import Path

from common.errors import UserError, run
from common.files import write_json
from workflows.experiment import Experiment, experiment_file, load_experiment
from workflows.normaliser import chosen_normaliser


def check_systems(experiment: Experiment, where: str) -> None:
    """Build every method (no weights) with its settings. Raises `UserError` naming file and key."""
    from asr.backbones import BackboneFactory
    from common.settings import parse
    from methods.contract import load_method, make_method

    for name, entry in experiment.systems.items():
        key = f"{where}: systems.{name}"
        # The vocabulary is known after data preparation; no check depends on it.
        backbone = BackboneFactory(experiment.backbone.name, experiment.backbone_of(name), 3, f"{key}.backbone")
        inputs = getattr(backbone.config, "input_dim", experiment.features.mels)
        if inputs != experiment.features.mels:
            raise UserError(
                f"{key}.backbone: input_dim is {inputs}, but features.mels gives {experiment.features.mels} features"
            )
        config = parse(load_method(entry.method, key).Config, entry.settings, f"{key}.settings")
        method = make_method(entry.method, entry.settings, backbone, where=key)
        needed = set(method.needs(config).values())
        if not needed <= set(experiment.needs(name)):
            missing = ", ".join(sorted(needed - set(experiment.needs(name))))
            raise UserError(f"{key}.settings: the method needs {missing}; name it as {{system: {missing}}}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.check", description="Check an experiment before any work."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--out", type=Path, help="write the experiment with all defaults here")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    where = str(experiment_file(arguments.experiment))
    normaliser = chosen_normaliser(experiment, where)
    check_systems(experiment, where)
    if arguments.out:
        write_json(arguments.out, {**experiment.resolved, "normaliser": normaliser.model_dump()})


if __name__ == "__main__":
    sys.exit(run(main))
