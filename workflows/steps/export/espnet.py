"""A checkpoint that ESPnet loads. ESPnet has no paths: it holds one layer for each execution of the chosen path.

`config.yaml` and `model.pth` are what `ASRTask.build_model_from_file` takes. Two things differ from the system. The
branch scale, which ESPnet does not have, is multiplied into the output projections. And the token list gets the
`<unk>` that ESPnet's inference asks for: an entry without weights whose bias leaves it no probability. Packed weights
are written as the float32 values that they stand for.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from asr.backbones.conformer import Conformer, decoder_settings, encoder_settings, folded_encoder_state
from asr.tokenizer import BytePairs, Tokenizer
from common.errors import UserError
from common.files import replacing, write_text
from methods.paths import Path as Counts
from workflows.steps.export.system import ExportedSystem

UNKNOWN = "<unk>"
NEVER = -1e4
"""A logit that softmax in float32 makes zero beside any other."""
OF_TOKENS = ("ctc.ctc_lo.weight", "ctc.ctc_lo.bias", "decoder.output_layer.weight", "decoder.output_layer.bias")
STATISTICS = "feats_stats.npz"


def write_espnet(system: ExportedSystem, path: Counts, out: Path) -> None:
    """Write `config.yaml`, `model.pth`, feature statistics and, for byte-pair units, their model. Raises `UserError`
    for systems that are no Conformer."""
    if not isinstance(system.module, Conformer):
        raise UserError(
            f"--espnet: '{system.name}' is no Conformer; ESPnet loads wav2vec2 and HuBERT from transformers"
        )
    out.mkdir()
    mean, deviation = (values.astype(np.float64) for values in (system.normaliser.mean, system.normaliser.deviation))
    with replacing(out / STATISTICS) as temporary:
        np.savez(temporary, count=1, sum=mean, sum_square=np.square(deviation) + np.square(mean))
    state = {
        **unfolded_state(system.dense, path),
        "normalize.mean": torch.from_numpy(system.normaliser.mean),
        "normalize.std": torch.from_numpy(system.normaliser.deviation),
    }
    if UNKNOWN not in system.tokenizer.tokens:
        state = with_unknown(state)
    with replacing(out / "model.pth") as temporary:
        torch.save(state, temporary)
    if isinstance(system.tokenizer, BytePairs):
        with replacing(out / "bpe.model") as temporary:
            temporary.write_bytes(system.tokenizer.model)
    text = yaml.safe_dump(configuration(system, path), allow_unicode=True, sort_keys=False)
    write_text(out / "config.yaml", text)


def configuration(system: ExportedSystem, path: Counts) -> dict[str, Any]:
    """What ESPnet's ASR task reads. Paths in it are relative to the folder of the file."""
    config = system.module.config
    return {
        "token_list": espnet_tokens(system.tokenizer),
        "token_type": system.tokenizer.units,
        "bpemodel": "bpe.model" if isinstance(system.tokenizer, BytePairs) else None,
        "input_size": config.input_dim,
        "frontend": None,
        "frontend_conf": {},
        "specaug": None,
        "specaug_conf": {},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": STATISTICS},
        "preencoder": None,
        "preencoder_conf": {},
        "encoder": "conformer",
        "encoder_conf": {**encoder_settings(config), "num_blocks": sum(path)},
        "postencoder": None,
        "postencoder_conf": {},
        "decoder": "transformer",
        "decoder_conf": decoder_settings(config),
        "ctc_conf": {},
        "model": "espnet",
        "model_conf": {"ctc_weight": config.ctc_weight, "lsm_weight": config.label_smoothing},
        "init": None,
    }


def espnet_tokens(tokenizer: Tokenizer) -> list[str]:
    """The token list, `<unk>` before `<sos/eos>`."""
    *tokens, last = tokenizer.tokens
    return tokenizer.tokens if UNKNOWN in tokens else [*tokens, UNKNOWN, last]


def unfolded_state(model: Conformer, path: Counts) -> dict[str, Tensor]:
    """State dict of ESPnet's model with a layer for each execution; executions of one layer share their tensors, and a
    file written by `torch.save` holds each once."""
    encoder = folded_encoder_state(model)
    state = {f"encoder.{name}": value for name, value in encoder.items() if not name.startswith("encoders.")}
    executions = [layer for layer, count in enumerate(path) for _ in range(count)]
    for execution, layer in enumerate(executions):
        prefix = f"encoders.{layer}."
        for name, value in encoder.items():
            if name.startswith(prefix):
                state[f"encoder.encoders.{execution}.{name.removeprefix(prefix)}"] = value
    for part in ("decoder", "ctc"):
        state |= {f"{part}.{name}": value for name, value in getattr(model, part).state_dict().items()}
    return state


def with_unknown(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same model with one more token before the last."""
    added = {name: 0.0 for name in ("decoder.embed.0.weight", *OF_TOKENS)}
    added |= {name: NEVER for name in OF_TOKENS if name.endswith("bias")}
    state = dict(state)
    for name, value in added.items():
        row = torch.full_like(state[name][:1], value)
        state[name] = torch.cat([state[name][:-1], row, state[name][-1:]])
    return state
