"""Reads and checks experiments."""

from common.errors import UserError
from common.settings import parse
from workflows.experiment.checks import check_names
from workflows.experiment.merging import experiment_file, merged_file, with_models_of_sources
from workflows.experiment.schema import Experiment


def load_experiment(name: str) -> Experiment:
    """Read and check an experiment, given by its name or its file. Raises `UserError` naming file and key."""
    path = experiment_file(name)
    experiment = parse(Experiment, {"name": path.stem, **with_models_of_sources(merged_file(path))}, str(path))
    try:
        check_names(experiment)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return experiment
