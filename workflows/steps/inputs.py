"""What one model family reads beside the manifests: its tokenizer and the statistics of its features."""

from pathlib import Path

import numpy as np
import torch

from asr.corpora import Utterance, read_audio, read_cuts
from asr.features import FeatureExtractor, Statistics, perturb_speed
from asr.settings import FeatureSettings
from asr.tokenizer import Tokenizer
from common.files import read_json, replacing, write_json
from workflows.experiment import Experiment

STATISTICS_HOURS = 20.0
"""Mean and deviation of the features settle long before; more is only time."""


def prepare_inputs(experiment: Experiment, name: str | None, data: Path) -> None:
    """Write what the family `name` (None: the experiment's own) reads, below the prepared corpus `data`.

    Raises `UserError` for a transcript of the training or dev set that its tokenizer cannot write.
    """
    family = experiment.family(name)
    folder = data if name is None else data / name
    sets = {each: read_cuts(data / f"{each}.jsonl.gz") for each in ("train", *experiment.decoded_sets)}
    tokenizer = Tokenizer.make(family.tokenizer, [utterance.text for utterance in sets["train"]])
    tokenizer.check(sets["train"] + sets[experiment.dev_set])
    tokenizer.save(folder / "tokenizer.json")
    if family.features.kind == "log_mel":
        torch.set_num_threads(experiment.threads)
        prepare_features(family.features, sets, read_json(data / "corpus.json")["sampling_rate"], folder)


def prepare_features(
    settings: FeatureSettings, sets: dict[str, list[Utterance]], sampling_rate: int, folder: Path
) -> None:
    """Feature statistics over the training set, and the feature store where the experiment asks for it."""
    extractor = FeatureExtractor(settings, sampling_rate)
    statistics = Statistics(settings.mels)
    enough = STATISTICS_HOURS * 3600 * extractor.frames_per_second
    for name, utterances in sets.items():
        speeds = settings.speed_factors if name == "train" else [1.0]
        blocks: list[np.ndarray] = []
        places: list[tuple[str, float, int, int]] = []
        total = 0
        for utterance in utterances:
            if not settings.store and (name != "train" or statistics.count > enough):
                break
            for speed in speeds:
                frames = _frames(extractor, utterance, speed)
                if name == "train":
                    statistics.add(frames)
                if settings.store:
                    blocks.append(frames)
                    places.append((utterance.id, speed, total, len(frames)))
                    total += len(frames)
        if settings.store:
            with replacing(folder / f"features_{name}.npy") as temporary:
                np.save(temporary, np.concatenate(blocks) if blocks else np.zeros((0, settings.mels), np.float32))
            write_json(folder / f"features_{name}.json", {"utterances": places})
    statistics.normaliser().save(folder / "cmvn.json")


def _frames(extractor: FeatureExtractor, utterance: Utterance, speed: float) -> np.ndarray:
    """(frames, mels) of one utterance."""
    samples = torch.from_numpy(perturb_speed(read_audio(utterance), utterance.sampling_rate, speed))
    features, lengths = extractor(samples[None], [len(samples)])
    return features[0, : int(lengths[0])].numpy()
