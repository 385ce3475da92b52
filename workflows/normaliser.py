"""Which normaliser an experiment is scored with: its own, or its corpus's."""

from analysis.scoring.normalise import IDENTITY, load_normaliser
from asr.corpora.register import REGISTER, read_register
from workflows.experiment import Experiment
from workflows.experiment.entries import NormaliserEntry


def chosen_normaliser(experiment: Experiment, where: str) -> NormaliserEntry:
    """The normaliser of an experiment; words as they stand for a corpus outside the register.

    Raises `UserError` for an unknown name, with the closest one, and for a GLM that cannot be read. `where` names the
    experiment's file.
    """
    chosen, key = experiment.normaliser, f"{where}: normaliser"
    if chosen is None:
        entry = read_register().get(experiment.corpus.name)
        key = f"{REGISTER}: {experiment.corpus.name}.normaliser"
        chosen = NormaliserEntry(name=entry.normaliser, glm=entry.glm) if entry else NormaliserEntry(name=IDENTITY)
    load_normaliser(chosen.name, chosen.glm, key, experiment.score)
    return chosen
