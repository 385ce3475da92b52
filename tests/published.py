"""Folders of models in the layouts that the Hugging Face hub holds."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2ForPreTraining

from asr.backbones.speech_encoder import SpeechEncoder
from asr.portable.speech import base_of
from asr.tokenizer import LETTERS

OFFICIAL = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
"""Today's name -> the name in the official files, which were written before torch's parametrizations."""
PREPROCESSOR = {
    "do_normalize": True,
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}


def publish(folder: Path, backbone: SpeechEncoder, layout: str = "bin") -> Path:
    """Write `backbone` as a published model.

    safetensors: as transformers saves it today. bin: a CTC model as wav2vec2-base-100h. encoder: no CTC layer and no
    prefix, as hubert-base-ls960. pretraining: with the quantizer, as wav2vec2-base.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = backbone.model
    model.config.save_pretrained(folder)
    if layout == "safetensors":
        model.save_pretrained(folder)
    elif layout == "pretraining":
        whole = Wav2Vec2ForPreTraining(model.config)
        whole.wav2vec2.load_state_dict(model.wav2vec2.state_dict())
        torch.save(official(whole.state_dict()), folder / "pytorch_model.bin")
    else:
        kept = model if layout == "bin" else base_of(model)
        torch.save(official(kept.state_dict()), folder / "pytorch_model.bin")
    write(folder / "preprocessor_config.json", PREPROCESSOR)
    if layout in ("safetensors", "bin"):
        write(folder / "vocab.json", {letter: number for number, letter in enumerate(LETTERS)})
    return folder


def official(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict under the names of the official files."""
    renamed = {}
    for name, tensor in state.items():
        for today, then in OFFICIAL.items():
            name = name.replace(today, then)
        renamed[name] = tensor
    return renamed


def change_json(path: Path, **values: object) -> None:
    write(path, {**json.loads(path.read_text()), **values})


def change_weights(folder: Path, change: object) -> None:
    """Pass the tensors of `pytorch_model.bin` through `change`."""
    path = folder / "pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2))


def in_cache(cache: Path, source: str, revision: str, folder: Path) -> Path:
    """Link a published folder into a hub cache as the hub's client leaves it: blobs, refs, and one snapshot."""
    repository = cache / f"models--{source.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    for part in (repository / "blobs", repository / "refs", snapshot):
        part.mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    for number, path in enumerate(sorted(folder.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / blob.name)
    return snapshot


def save_as_safetensors(folder: Path) -> None:
    """Turn `pytorch_model.bin` into `model.safetensors` under the same names."""
    path = folder / "pytorch_model.bin"
    save_file(torch.load(path, weights_only=True), folder / "model.safetensors")
    path.unlink()
