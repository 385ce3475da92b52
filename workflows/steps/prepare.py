"""Data preparation: the corpus, which every system of an experiment reads."""

from pathlib import Path
from typing import Any

from analysis.scoring.speakers import speakers_file, write_speakers
from analysis.scoring.trn import write_trn
from asr.corpora import prepare, read_cuts
from common.errors import UserError, unknown
from workflows.experiment import Experiment


def prepare_corpus(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Write recordings, manifests, reference transcripts and who speaks them under `folder`; what `corpus.json` holds.

    Raises `UserError`.
    """
    corpus = prepare(experiment.corpus.name, experiment.corpus.settings, folder)
    places = {
        "corpus": ["train"],
        "dev_set": [experiment.dev_set],
        "test_sets": experiment.test_sets,
        "further_sets": experiment.further_sets,
    }
    for place, names in places.items():
        for name in names:
            if name not in corpus["sets"]:
                where = f"{experiment.name}: {place}: corpus {experiment.corpus.name} has other sets"
                raise unknown("set", name, corpus["sets"], where)
    if not read_cuts(folder / "train.jsonl.gz"):
        raise UserError(f"{experiment.name}: the training set is empty")
    for name in experiment.decoded_sets:
        utterances, reference = read_cuts(folder / f"{name}.jsonl.gz"), folder / f"{name}.trn"
        named = {utterance.id: utterance.speaker for utterance in utterances if utterance.speaker}
        write_speakers(speakers_file(reference), named)
        write_trn(reference, [(utterance.id, utterance.text) for utterance in utterances])
    return corpus
