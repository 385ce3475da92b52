"""Experiments that are to be run, not only read: their corpus can be prepared."""

from asr.corpora.register import module_of, read_register
from workflows.experiment import Experiment, load_experiment


def load_runnable(name: str) -> Experiment:
    """`load_experiment`, and before any work a `UserError` for a corpus that nothing prepares yet."""
    experiment = load_experiment(name)
    if experiment.corpus.name in read_register():  # a name that is not there is said with the file and the key it is in
        module_of(experiment.corpus.name)
    return experiment
