"""Folders of trained systems, written by the code that training uses; the weights are random."""

from pathlib import Path

import numpy as np
import torch

from asr.backbones import Backbone, BackboneFactory
from asr.features import Normaliser, Statistics, make_extractor
from asr.settings import FeatureSettings
from asr.tokenizer import Letters, Tokenizer
from common.files import read_json, sha256, write_json
from methods.contract import make_method
from tests.models import SMALL, STILL
from workflows.systems import load_system, save_system

RATE = 16000
WORDS = "zero one two three four five six seven eight nine"
SMALL_SPEECH = {
    "layers": 3,
    "width": 32,
    "heads": 2,
    "ffn": 48,
    "conv_dim": [16] * 7,
    "positional_kernel": 16,
    "positional_groups": 4,
}
FAMILIES = {
    "conformer": ({**SMALL, **STILL, "layers": 3, "branch_scale": 0.4}, {"mels": SMALL["input_dim"]}),
    "wav2vec2": (SMALL_SPEECH, {"kind": "waveform"}),
    "hubert": (SMALL_SPEECH, {"kind": "waveform"}),
}


def system_folder(
    root: Path, backbone="conformer", method="methods.unfolding", settings=None, units=None, name="f3", **changes
) -> Path:
    """`root/systems/<name>/seed0`, with the data that it was trained on in `root/data/synth` (waveforms: in a folder of
    their family). By default a foldable system of 3 layers that runs up to depth 6."""
    backbone_settings, feature_settings = FAMILIES[backbone]
    features = FeatureSettings(**feature_settings)
    data = root / "data" / "synth"
    inputs = data if features.kind == "log_mel" else data / "speech"
    write_json(data / "corpus.json", CORPUS)
    tokenizer = Letters() if features.kind == "waveform" else trained(units or "word")
    tokenizer.save(inputs / "tokenizer.json")
    if features.kind == "log_mel":
        statistics(features).save(inputs / "cmvn.json")
    factory = BackboneFactory(backbone, {**backbone_settings, **changes}, len(tokenizer))
    settings = {"depth": 6} if settings is None else settings
    made = make_method(method, settings, factory, packages=["tests.toys"])
    torch.manual_seed(0)
    module = made.build().eval()
    if isinstance(module, Backbone):
        make_talkative(module, features)
    folder = root / "systems" / name / "seed0"
    description = {"name": name, "seed": 0, "method": method, "settings": settings, "vocabulary": len(tokenizer)}
    save_system(folder, module, made, description)
    files = [path.relative_to(data) for path in inputs.iterdir() if path.name in ("tokenizer.json", "cmvn.json")]
    configuration = {
        "corpus": {"name": "synth", "settings": {}},
        "features": features.model_dump(),
        "method": method,
        "settings": settings,
        "data": {str(file): sha256(data / file) for file in files},
    }
    write_json(folder / "provenance.json", {"commit": "0123abc", "modified": False, "configuration": configuration})
    return folder


def derived_folder(source: Path, name: str, method: str, **settings) -> Path:
    """A system derived from the one in `source`, beside it, by the code that training uses; nothing is trained."""
    system, earlier = load_system(source), read_json(source / "system.json")
    settings = {"source": {"system": system.name}, **settings}
    made = make_method(method, settings, system.method.backbone)
    made.inputs = {"source": system}
    module = made.finish(made.build().eval(), iter(())).eval()
    folder = source.parents[1] / name / source.name
    description = {"name": name, "seed": 0, "method": method, "settings": settings, "vocabulary": earlier["vocabulary"]}
    save_system(folder, module, made, description)
    provenance = read_json(source / "provenance.json")
    provenance["configuration"] |= {"method": method, "settings": settings}
    write_json(folder / "provenance.json", provenance)
    return folder


def chain_folder(root: Path, backbone: str, bits: int = 4, **changes) -> Path:
    """Fold, prune, quantise: `f3`, `f3_half` and `f3_packed` in `root`; the folder of the last."""
    half = derived_folder(system_folder(root, backbone, **changes), "f3_half", "baselines.magnitude", sparsity=0.5)
    return derived_folder(half, "f3_packed", "baselines.post_training", bits=bits)


def trained(units: str) -> Tokenizer:
    return Tokenizer.train([WORDS], units, 25 if units == "bpe" else None)


CORPUS = {
    "name": "synth",
    "sampling_rate": RATE,
    "sets": {"train": {"seconds": 3600.0, "utterances": 900, "words": 5000, "speakers": 4}},
    "licence": "made here",
}


def statistics(features: FeatureSettings) -> Normaliser:
    """Those of some speech."""
    found = Statistics(features.mels)
    for waveform in speech((3.0, 2.0), seed=1):
        found.add(make_extractor(features, RATE)(torch.from_numpy(waveform)[None], [len(waveform)])[0][0].numpy())
    return found.normaliser()


@torch.no_grad()
def make_talkative(module: Backbone, features: FeatureSettings) -> None:
    """Random weights that say other words for other speech, with statistics of norms away from their neutral start."""
    generator = torch.Generator().manual_seed(1)
    for name, value in module.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.3, generator=generator)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
    head = module.model.lm_head if features.kind == "waveform" else module.ctc.ctc_lo
    head.weight.normal_(0, 1, generator=generator)
    head.bias.zero_()
    (waveform,) = speech((3.0,), seed=2)
    inputs, lengths = make_extractor(features, RATE)(torch.from_numpy(waveform)[None], [len(waveform)])
    if features.kind == "log_mel":
        inputs = statistics(features)(inputs)
    frames = module.encode(inputs, lengths, (2,) * module.layers).frames
    head.bias.copy_(-head(frames).mean((0, 1)))
    if features.kind == "waveform":
        head.bias[1:4] = -100.0  # no trained model says <s>, </s> or <unk>


def speech(seconds=(1.0,), seed=5):
    """Noise whose loudness changes, so that the words do too; float32, a list of (samples,)."""
    generator = np.random.default_rng(seed)
    rows = []
    for length in seconds:
        samples = round(length * RATE)
        loudness = np.interp(np.arange(samples), np.linspace(0, samples, 12), generator.uniform(0.001, 0.5, 12))
        rows.append((loudness * generator.normal(size=samples)).astype(np.float32))
    return rows
