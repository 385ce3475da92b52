"""Data preparation: the corpus, which every system of an experiment reads."""

from pathlib import Path

from analysis.trn import write_trn
from asr.corpora import prepare, read_cuts
from common.errors import UserError, unknown
from workflows.experiment import Experiment


def prepare_corpus(experiment: Experiment, folder: Path) -> None:
    """Write recordings, manifests and reference transcripts under `folder`. Raises `UserError`."""
    corpus = prepare(experiment.corpus.name, experiment.corpus.settings, folder)
    for name in ("train", *experiment.decoded_sets):
        if name not in corpus["sets"]:
            raise unknown("set", name, corpus["sets"], f"{experiment.name}: corpus {experiment.corpus.name}")
    if not read_cuts(folder / "train.jsonl.gz"):
        raise UserError(f"{experiment.name}: the training set is empty")
    for name in experiment.decoded_sets:
        utterances = read_cuts(folder / f"{name}.jsonl.gz")
        write_trn(folder / f"{name}.trn", [(utterance.id, utterance.text) for utterance in utterances])
