"""An experiment: one YAML file as typed systems, tables and figures. Never imports torch: the Snakefile reads it at
every start.

The size of a run lives in that file and nowhere else.
"""

from workflows.experiment.loading import load_experiment
from workflows.experiment.schema import Experiment

__all__ = ["Experiment", "load_experiment"]
