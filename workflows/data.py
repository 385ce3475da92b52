"""The prepared data of an experiment as training and evaluation read it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asr.batches import SpeechSet, enough
from asr.corpora import Utterance, iterate_cuts, read_cuts
from asr.corpora.content import set_content
from asr.examples import Example
from asr.features import Normaliser, as_they_are, make_extractor, perturbed_samples
from asr.settings import FeatureSettings, TrainingSettings
from asr.tokenizer import Tokenizer
from common.errors import UserError
from common.files import read_json
from workflows.experiment import Experiment
from workflows.experiment.shares import in_steps


def open_data(experiment: Experiment, system: str, folder: Path) -> "PreparedData":
    """The prepared data as a system of the experiment reads it."""
    return PreparedData(folder, experiment.family_of(system).features, experiment.systems[system].family)


def training_on(experiment: Experiment, system: str, data: "PreparedData") -> TrainingSettings:
    """The training settings of a system, with the number of steps that passes over this training set take."""
    return in_steps(experiment.training_of(system), data.corpus["sets"]["train"]["seconds"])


class PreparedData:
    """A folder written by `workflows.prepare` and `workflows.inputs`, with the tokenizer and features of one model
    family (None: the experiment's own)."""

    def __init__(self, folder: Path, features: FeatureSettings, family: str | None = None):
        self.folder = folder
        self.features = features
        self.inputs = folder if family is None else folder / family
        self.corpus: dict[str, Any] = read_json(folder / "corpus.json")
        self.tokenizer = Tokenizer.load(self.inputs / "tokenizer.json")
        self.extractor = make_extractor(features, self.corpus["sampling_rate"])
        # Waveforms are normalised one by one, by the extractor.
        self.normaliser = Normaliser.load(self.inputs / "cmvn.json") if features.kind == "log_mel" else as_they_are

    def utterances(self, name: str) -> list[Utterance]:
        """The utterances of a set, in the order of its file."""
        return read_cuts(self.folder / f"{name}.jsonl.gz")

    def speech_set(
        self, name: str, labelled: bool, speeds: tuple[float, ...] = (1.0,), pad_to_seconds: float = 0.0
    ) -> SpeechSet:
        """A set at the given speeds, its batches padded to a multiple of `pad_to_seconds`. `labelled` sets carry token
        ids."""
        # The store holds the training set at its own speeds, of which 1 need not be one.
        stored = self.features.store and (name != "train" or set(speeds) <= set(self.features.speed_factors))
        store = self._store(name) if stored else None
        examples = self._examples(name, labelled, speeds)
        return SpeechSet(examples, self.extractor, self.normaliser, store, pad_to_seconds)

    def _examples(self, name: str, labelled: bool, speeds: tuple[float, ...]) -> Iterator[Example]:
        for utterance in iterate_cuts(self.folder / f"{name}.jsonl.gz"):
            tokens = self._tokens(name, utterance) if labelled else None
            for speed in speeds:
                samples = perturbed_samples(utterance.samples, utterance.sampling_rate, speed)
                yield Example(utterance, speed, self.extractor.frames(samples), tokens)

    def _store(self, name: str) -> Path:
        """Raises `UserError` for features of other recordings than the set holds now."""
        store = self.inputs / f"features_{name}"
        if read_json(store.with_suffix(".json")).get("content") != set_content(self.folder, name):
            raise UserError(
                f"{store}.json: these features are of other recordings than set '{name}' holds now; prepare the inputs "
                "again"
            )
        return store

    def _tokens(self, name: str, utterance: Utterance) -> tuple[int, ...]:
        """Raises `UserError` for a transcript that is empty or cannot be written in the tokenizer's units."""
        where = f"{self.folder / name}.jsonl.gz: utterance {utterance.id}"
        if not utterance.words:
            raise UserError(f"{where}: the transcript is empty; give its words or leave the utterance out")
        try:
            return tuple(self.tokenizer.encode(utterance.text))
        except UserError as error:
            raise UserError(f"{where}: {error}; correct the transcript, or prepare the corpus again") from None


def leave_out_too_long(
    speech: SpeechSet, output_lengths: Callable[[list[int]], list[int]], name: str, say: bool = True
) -> None:
    """Drop examples whose transcript needs more frames than subsampling leaves; say how many, unless that was said."""
    lengths = output_lengths(speech.examples.frames.tolist())
    fits = np.asarray(lengths) >= speech.examples.needed
    dropped = len(fits) - int(fits.sum())
    if dropped and say:
        print(
            f"note: {dropped} of {len(fits)} utterances of '{name}' have a transcript longer than the "
            "frames left after subsampling; they are left out of training",
            file=sys.stderr,
            flush=True,
        )
    speech.keep(fits)


def keep_for_validation(dev: SpeechSet, seconds: float) -> None:
    """Keep so much of the dev set, of all its speakers in turn; all of it where it has no more."""
    frames = dev.examples.frames.tolist()
    dev.keep(enough(dev.round_the_speakers(), frames, seconds * dev.extractor.frames_per_second))
