"""What one model family reads beside the manifests: its tokenizer and the statistics of its features."""

from pathlib import Path

import numpy as np
import torch

from asr.batches import enough, round_the_speakers
from asr.corpora import Utterance, read_audio, read_cuts
from asr.corpora.content import check_audio, set_content
from asr.features import FeatureExtractor, Statistics, perturb_speed, perturbed_samples
from asr.settings import FeatureSettings
from asr.tokenizer import Tokenizer
from common.files import read_json, replacing, sha256, write_json
from workflows.experiment import Experiment

STATISTICS_HOURS = 20.0
"""So much training speech, speeds counted, of all speakers in turn: mean and deviation of the features settle long
before, and more is only time."""


def prepare_inputs(experiment: Experiment, name: str | None, data: Path) -> None:
    """Write what the family `name` (None: the experiment's own) reads, below the prepared corpus `data`.

    Raises `UserError` for a transcript of the training or dev set that its tokenizer cannot write.
    """
    family = experiment.family(name)
    folder = data if name is None else data / name
    check_audio(data, ["train", *experiment.decoded_sets])
    sets = {each: read_cuts(data / f"{each}.jsonl.gz") for each in ("train", *experiment.decoded_sets)}
    tokenizer = Tokenizer.make(family.tokenizer, [utterance.text for utterance in sets["train"]])
    tokenizer.check(sets["train"] + sets[experiment.dev_set])
    tokenizer.save(folder / "tokenizer.json")
    if family.features.kind == "log_mel":
        torch.set_num_threads(experiment.threads)
        contents = {name: set_content(data, name) for name in sets}
        prepare_features(family.features, sets, contents, read_json(data / "corpus.json")["sampling_rate"], folder)


def prepare_features(
    settings: FeatureSettings,
    sets: dict[str, list[Utterance]],
    contents: dict[str, str],
    sampling_rate: int,
    folder: Path,
) -> None:
    """Feature statistics over the training set, and the feature store where the experiment asks for it. Both are
    computed in float64 and rounded, so that they do not depend on the processor. `contents` says what the sets hold:
    a store belongs to that, and to nothing else."""
    extractor = FeatureExtractor(settings, sampling_rate, torch.float64)
    statistics = Statistics(settings.mels)
    counted = _counted(settings, sets["train"], extractor)
    for name, utterances in sets.items():
        speeds = settings.speed_factors if name == "train" else [1.0]
        blocks: list[np.ndarray] = []
        places: list[tuple[str, float, int, int]] = []
        total = 0
        for number, utterance in enumerate(utterances):
            is_counted = name == "train" and number in counted
            if not settings.store and not is_counted:
                continue
            for speed in speeds:
                frames = _frames(extractor, utterance, speed)
                if is_counted:
                    statistics.add(frames)
                if settings.store:
                    blocks.append(frames.astype(np.float32))
                    places.append((utterance.id, speed, total, len(frames)))
                    total += len(frames)
        if settings.store:
            path = folder / f"features_{name}.npy"
            with replacing(path) as temporary:
                np.save(temporary, np.concatenate(blocks) if blocks else np.zeros((0, settings.mels), np.float32))
            about = {"content": contents[name], "features": sha256(path)}
            write_json(path.with_suffix(".json"), {**about, "utterances": places})
    statistics.normaliser().save(folder / "cmvn.json")


def _counted(settings: FeatureSettings, utterances: list[Utterance], extractor: FeatureExtractor) -> set[int]:
    """Which utterances the statistics are taken over, at all speeds."""
    frames = [
        sum(
            extractor.frames(perturbed_samples(utterance.samples, utterance.sampling_rate, speed))
            for speed in settings.speed_factors
        )
        for utterance in utterances
    ]
    wanted = STATISTICS_HOURS * 3600 * extractor.frames_per_second
    return set(enough(round_the_speakers(utterances), frames, wanted))


def _frames(extractor: FeatureExtractor, utterance: Utterance, speed: float) -> np.ndarray:
    """(frames, mels) of one utterance, in float64."""
    samples = torch.from_numpy(perturb_speed(read_audio(utterance), utterance.sampling_rate, speed))
    features, lengths = extractor(samples[None], [len(samples)])
    return features[0, : int(lengths[0])].numpy()
