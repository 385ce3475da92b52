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


def check_systems(experiment: Experiment, where: str) -> dict[str, dict]:
    """Make every method (no weights) with its settings; return the full settings of method and backbone by system.

    Raises `UserError` naming file and key.
    """
    full = {}
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
        full[name] = {
            "settings": config.model_dump(mode="json"),
            "backbone": {"name": backbone.name, "settings": backbone.config.model_dump(mode="json")},
        }
    return full


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
    full = check_systems(experiment, where)
    if arguments.out:
        systems = {name: {**entry, **full[name]} for name, entry in experiment.resolved["systems"].items()}
        corpus = {"name": experiment.corpus.name, "settings": corpus_settings(experiment, where)}
        everything = {"systems": systems, "corpus": corpus, "normaliser": normaliser.model_dump()}
        write_json(arguments.out, {**experiment.resolved, **everything})


def corpus_settings(experiment: Experiment, where: str) -> dict:
    """The corpus's settings with all defaults. Raises `UserError` naming file and key."""
    from asr.corpora import settings_of

    found = settings_of(experiment.corpus.name, experiment.corpus.settings, f"{where}: corpus")
    return found.model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(run(main))
