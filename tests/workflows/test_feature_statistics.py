"""Feature statistics: of all speakers, with digits on which processors agree, the same with and without a store."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from asr.corpora import Utterance, write_cuts
from asr.features import FeatureExtractor, Normaliser, perturb_speed
from asr.settings import FeatureSettings
from common.files import read_json
from tests.workflows.commands import ROOT
from workflows.steps import inputs
from workflows.steps.inputs import prepare_features

SPEEDS = [0.9, 1.0]
SPEAKERS = 6


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    """Eight utterances a speaker, one speaker after the other, each speaker with a level of its own."""
    folder = tmp_path_factory.mktemp("audio")
    generator = np.random.default_rng(0)
    rows = []
    for speaker in range(SPEAKERS):
        for number in range(8):
            samples = generator.integers(6000, 10000)
            loudness = np.interp(np.arange(samples), np.linspace(0, samples, 9), generator.uniform(0.0005, 0.2, 9))
            path = folder / f"{speaker}-{number}.wav"
            soundfile.write(path, generator.standard_normal(samples) * loudness * 2.0**-speaker, 8000)
            rows.append(Utterance(f"s{speaker}-{number}", path, 8000, samples / 8000, f"s{speaker}", "x"))
    return rows


def prepared(utterances, folder, **settings):
    folder.mkdir(exist_ok=True)
    features = FeatureSettings(mels=20, speed_factors=SPEEDS, **settings)
    sets = {"train": utterances, "dev": utterances[:2]}
    prepare_features(features, sets, {"train": "a", "dev": "b"}, 8000, folder)
    return Normaliser.load(folder / "cmvn.json")


def frames_of(utterances):
    extractor = FeatureExtractor(FeatureSettings(mels=20), 8000)
    found = []
    for utterance in utterances:
        for speed in SPEEDS:
            samples = perturb_speed(soundfile.read(utterance.audio, dtype="float32")[0], 8000, speed)
            found.append(extractor(torch.from_numpy(samples)[None], [len(samples)])[0][0].double().numpy())
    return np.concatenate(found)


def test_all_speakers_are_heard_where_not_all_speech_is(utterances, tmp_path, monkeypatch):
    """A quarter of the speech, which its first speakers would fill: mean and deviation are near those of everybody."""
    seconds = sum(utterance.seconds * (1 / 0.9 + 1) for utterance in utterances)
    monkeypatch.setattr(inputs, "STATISTICS_HOURS", seconds / 4 / 3600)
    found = prepared(utterances, tmp_path / "part")
    everybody, first = frames_of(utterances), frames_of(utterances[: len(utterances) // 4])
    assert np.abs(found.mean - everybody.mean(0)).max() < 0.5 < np.abs(first.mean(0) - everybody.mean(0)).min()
    assert np.abs(found.deviation / everybody.std(0) - 1).max() < 0.1


def test_a_store_changes_no_statistics(utterances, tmp_path, monkeypatch):
    """It holds everything; they are still of so much speech."""
    monkeypatch.setattr(inputs, "STATISTICS_HOURS", 20 / 3600)
    for store in (True, False):
        prepared(utterances, tmp_path / str(store), store=store)
    assert (tmp_path / "True/cmvn.json").read_bytes() == (tmp_path / "False/cmvn.json").read_bytes()
    assert len(read_json(tmp_path / "True/features_train.json")["utterances"]) == len(utterances) * len(SPEEDS)
    assert np.load(tmp_path / "True/features_train.npy").dtype == np.float32
    assert not (tmp_path / "False/features_train.npy").exists()


def test_six_digits_are_written_and_lose_nothing(utterances, tmp_path):
    found = prepared(utterances, tmp_path)
    written = read_json(tmp_path / "cmvn.json")
    for name, exact in (("mean", frames_of(utterances).mean(0)), ("deviation", frames_of(utterances).std(0))):
        assert written[name] == [float(f"{value:.6g}") for value in written[name]]
        np.testing.assert_allclose(written[name], exact, rtol=2e-5)
    found.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "cmvn.json").read_bytes()


PREPARE = """
import sys
from pathlib import Path
from asr.corpora import read_cuts
from asr.settings import FeatureSettings
from workflows.steps.inputs import prepare_features
features = FeatureSettings(mels=20, speed_factors=[0.9, 1.0], store=True)
prepare_features(features, {"train": read_cuts(sys.argv[1])}, {"train": "a"}, 8000, Path(sys.argv[2]))
"""


def test_processors_with_other_vector_units_give_the_same_bytes(utterances, tmp_path):
    """As if this one had none: torch and its matrix library take other code, and in float32 gave other numbers."""
    write_cuts(tmp_path / "train.jsonl.gz", utterances)
    plain = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    prepared(utterances, tmp_path / "usual", store=True)
    (tmp_path / "plain").mkdir()
    words = [sys.executable, "-c", PREPARE, str(tmp_path / "train.jsonl.gz"), str(tmp_path / "plain")]
    subprocess.run(words, cwd=ROOT, check=True, timeout=120, env={**os.environ, **plain})
    for file in ("cmvn.json", "features_train.json"):
        assert (tmp_path / "usual" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes(), file
    usual, other = (np.load(tmp_path / name / "features_train.npy") for name in ("usual", "plain"))
    assert (usual != other).sum() <= 2, "a float64 at the border of two float32 is rare"
