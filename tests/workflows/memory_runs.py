"""Peaks of small systems, measured in forks of this process, as JSON.

A command of its own: the memory of a process that runs tests is not for measuring, and after training it must not fork.
"""

import json
import pickle
import sys
from pathlib import Path

import torch

import asr.backbones.conformer
import asr.backbones.wav2vec2  # noqa: F401
from asr.backbones import Batch
from asr.settings import TrainingSettings
from common.files import read_json, write_json
from methods.contract import Stage
from tests.models import batch
from tests.systems import system_folder
from workflows.experiment import load_experiment
from workflows.steps.children import in_child
from workflows.steps.measure import peak_of_point, peak_of_training

SECONDS = 20
EXPERIMENT = """
title: small
corpus: {name: synth}
test_sets: [test]
tokenizer: {units: word}
features: {mels: 20}
backbone: {name: conformer, settings: {input_dim: 20}}
families:
  speech: {title: small, backbone: {name: wav2vec2}, tokenizer: {units: letter}, features: {kind: waveform}}
training: {steps: 10}
decodes: {greedy: {kind: greedy}}
measure: {audio_seconds: 20}
systems:
  conformer: {method: methods.unfolding}
  wav2vec2: {family: speech, method: methods.unfolding}
"""


def speech() -> Batch:
    """Four waveforms of some seconds, with letters."""
    lengths = torch.tensor([80_000, 70_000, 60_000, 50_000])
    targets = torch.arange(5, 25).repeat(4, 1)
    return Batch(tuple("abcd"), torch.randn(4, 80_000), lengths, targets, torch.full((4,), 20))


def main(root: Path) -> None:
    (root / "small.yaml").write_text(EXPERIMENT)
    experiment = load_experiment(str(root / "small.yaml"))
    batches = {"conformer": batch(lengths=(2000, 1800), targets=((1, 2, 3), (4, 5))), "wav2vec2": speech()}

    def folder(name: str, backbone: str, **changes) -> Path:
        """Made in a child: this process keeps nothing of it."""
        return in_child(name, lambda: system_folder(root, backbone, name=name, **changes))

    def point(backbone: str, name: str) -> int:
        return in_child(name, peak_of_point, experiment, root / "data/synth", systems[backbone], name)

    def training(name: str, at: Path, **settings) -> int:
        stage = Stage("train", TrainingSettings(steps=10, **settings))
        return in_child(name, peak_of_training, 1, (), at, stage, pickle.dumps(batches[name]))

    systems = {name: folder(name, name) for name in batches}
    dropped = folder("dropped", "conformer", layer_drop=0.9)
    frozen = folder("frozen", "wav2vec2")
    write_json(frozen / "system.json", {**read_json(frozen / "system.json"), "frozen": encoder_weights(frozen)})
    found = {
        "points": {
            name: {each: [point(name, each) for _ in range(2)] for each in ("d03_00", "d06_00")} for name in systems
        },
        "training": {name: [training(name, at) for _ in range(2)] for name, at in systems.items()},
        "dropped": training("conformer", dropped),
        "accumulated": training("wav2vec2", systems["wav2vec2"], accumulate=4),
        "frozen": training("wav2vec2", frozen),
        "weights": {name: (at / "model.safetensors").stat().st_size for name, at in systems.items()},
    }
    print(json.dumps(found))


def encoder_weights(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return [name for name in file.keys() if "encoder.layers" in name]  # noqa: SIM118


if __name__ == "__main__":
    main(Path(sys.argv[1]))
