"""Published wav2vec2 and HuBERT models: from the Hugging Face hub at a pinned revision, or from a folder in the same
layout.

A model is `config.json`, the weights (`model.safetensors`, or the official `pytorch_model.bin`), and, where it has
them, `preprocessor_config.json` and `vocab.json`. Nothing that comes with a model is executed: weights are read as
tensors or refused, and its own code is not looked at. transformers maps the names of older weight files to its own.

Whatever differs from what was configured is an error: a model whose shape, activation or sampling rate is not the
backbone's would load and be wrong.
"""

import contextlib
import copy
import pickle
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name
from transformers import PretrainedConfig
from transformers.utils import logging

from asr.backbones.speech_encoder import BLANK, SHAPE, SpeechEncoder
from asr.tokenizer import LETTERS
from common.errors import UserError
from common.files import read_json

CONFIG, PREPROCESSOR, VOCABULARY = "config.json", "preprocessor_config.json", "vocab.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference."""
REACHABLE_SECONDS = 10.0
"""So long is the hub waited for when it is only asked."""
COMMIT = re.compile(r"[0-9a-f]{40}")
FIXED = (
    "hidden_act",
    "feat_extract_activation",
    "layer_norm_eps",
    "add_adapter",
    "adapter_attn_dim",
    "feat_proj_layer_norm",
    "conv_pos_batch_norm",
)
"""What decides what a model computes and is no setting of ours: it must be as transformers has it by default."""
HEAD = {"lm_head.weight", "lm_head.bias"}
UNUSED = ("quantizer.", "project_q.", "project_hid.")
"""Weights of wav2vec2's pre-training objective that no recogniser needs."""


def find(source: str, revision: str | None) -> Path | None:
    """The folder of a model as far as it is on this machine: `source` itself, or, with a revision, the hub's cache.

    None when the hub has to be asked. Raises `UserError` when a folder is no such folder.
    """
    folder = Path(source)
    if revision is None:
        if not folder.is_dir():
            raise UserError(
                f"settings.source: there is no folder '{source}'; a model of the Hugging Face hub needs "
                "settings.revision too, the 40 digits of a commit"
            )
        return folder
    if folder.is_dir():
        raise UserError(f"settings.revision: '{source}' is a local folder, and folders have no revision")
    if not any(_cached(source, revision, name) for name in WEIGHTS):
        return None
    config = _cached(source, revision, CONFIG)
    return config and config.parent


def fetch(source: str, revision: str | None) -> Path:
    """The folder of a model, downloaded into the hub's cache where it is not on this machine (see `find`).

    Raises `UserError` that says which files to put where when the hub cannot be reached or does not have them.
    """
    found = find(source, revision)
    if found is not None:
        return found
    with _calm(huggingface_hub.utils.logging):
        try:
            folder = Path(huggingface_hub.hf_hub_download(source, CONFIG, revision=revision)).parent
            # The weights come last: once they are in the cache, everything is.
            for name in (PREPROCESSOR, VOCABULARY):
                _download_if_there(source, name, revision)
            if any(_download_if_there(source, name, revision) for name in WEIGHTS):
                return folder
        except Exception as error:  # whatever the hub's client raises, the remedy is the same
            raise UserError(_put_files(source, revision, error)) from None
    raise UserError(_no_weights(source, revision))


def check_reachable(source: str, revision: str) -> int:
    """Bytes of a model's weights on the hub, which is asked and nothing fetched.

    Raises `UserError` as `fetch` does where the hub cannot be reached, or may not be (HF_HUB_OFFLINE).
    """
    error = None
    for name in WEIGHTS:
        try:
            address = huggingface_hub.hf_hub_url(source, name, revision=revision)
            return huggingface_hub.get_hf_file_metadata(address, timeout=REACHABLE_SECONDS).size
        except RemoteEntryNotFoundError:
            continue
        except Exception as found:  # whatever the hub's client raises, the remedy is the same
            error = found
            break
    if error is not None:
        raise UserError(_put_files(source, revision, error))
    raise UserError(_no_weights(source, revision))


def _no_weights(source: str, revision: str) -> str:
    return f"'{source}' has neither {' nor '.join(WEIGHTS)} at revision {revision}; name another revision"


def _cached(source: str, revision: str, name: str) -> Path | None:
    try:
        found = huggingface_hub.try_to_load_from_cache(source, name, revision=revision)
    except ValueError as error:
        raise UserError(f"settings.source: {' '.join(str(error).split())}") from None
    return Path(found) if isinstance(found, str) else None


def _download_if_there(source: str, name: str, revision: str) -> bool:
    try:
        huggingface_hub.hf_hub_download(source, name, revision=revision)
        return True
    except RemoteEntryNotFoundError:
        return False


def _put_files(source: str, revision: str, error: Exception) -> str:
    constants = huggingface_hub.constants
    repository = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source, repo_type="model")
    reason = " ".join(str(error.__cause__ or error).split())[:200]
    return (
        f"'{source}' at revision {revision} is not in the cache and cannot be fetched ({reason}); put {CONFIG}, "
        f"{' or '.join(WEIGHTS)}, and, where there are, {PREPROCESSOR} and {VOCABULARY} of "
        f"{constants.ENDPOINT}/{source}/tree/{revision} into {repository / 'snapshots' / revision}, or into any folder "
        "and name that as settings.source, without a revision"
    )


def check_model(folder: Path, expected: PretrainedConfig, sampling_rate: int) -> None:
    """Check that the model in `folder` is the one that `expected`, our backbone in transformers' terms, describes.

    Reads no weights. Raises `UserError` naming the file, the fields, and both values.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: not a wav2vec2 or HuBERT model: there is no {CONFIG}")
    weights_of(folder)
    data = read_json(path)
    kind = data.get("model_type") if isinstance(data, dict) else None
    if kind != expected.model_type:
        raise UserError(f"{path}: this is a model of type {kind}, not {expected.model_type} as the backbone")
    try:
        found = type(expected).from_dict(data)
    except Exception as error:  # transformers checks values in ways of its own
        raise UserError(f"{path}: not a {kind} configuration: {' '.join(str(error).split())[:200]}") from None
    _check_layers(path, found.num_hidden_layers, expected.num_hidden_layers)
    ours = {theirs: name for name, theirs in SHAPE.items()}
    wrong = []
    for name in (*SHAPE.values(), *FIXED):
        here, there = _plain(getattr(expected, name, None)), _plain(getattr(found, name, None))
        if here != there:
            known = f"backbone.{ours[name]}" if name in ours else f"the backbone's {name}"
            wrong.append(f"{name} is {there}, {known} is {here}")
    if wrong:
        raise UserError(f"{path}: not the backbone that is configured: {'; '.join(wrong)}")
    _check_preprocessor(folder / PREPROCESSOR, sampling_rate)


def _check_layers(path: Path, found: int, expected: int) -> None:
    if expected > found:
        raise UserError(f"{path}: backbone.layers: {expected} physical layers are asked for; this model has {found}")
    if expected < found:
        raise UserError(
            f"{path}: backbone.layers: this model has {found}, and all are loaded, not {expected}; drop layers in "
            "another system that starts from this one (settings.start: {system: ..., layers: sensitivity})"
        )


def _check_preprocessor(path: Path, sampling_rate: int) -> None:
    if not path.exists():
        return
    settings = read_json(path)
    rate = settings.get("sampling_rate", sampling_rate)
    if rate != sampling_rate:
        raise UserError(f"{path}: this model hears {rate} samples a second, the backbone {sampling_rate}")
    if settings.get("do_normalize", True) is not True:
        raise UserError(f"{path}: this model was trained on waveforms as they are; here they are normalised")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def weights_of(folder: Path) -> Path:
    """The weight file that is read. Raises `UserError` when there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: not a wav2vec2 or HuBERT model: there is neither {' nor '.join(WEIGHTS)}")


def load_weights(backbone: SpeechEncoder, folder: Path) -> bool:
    """Fill `backbone` with the weights in `folder`, and say whether they hold a CTC layer, one for our letters.

    Without one the backbone keeps its own. Raises `UserError` naming file and weights when anything else is missing,
    not known, or of another shape, and when the file would have to be unpickled in full.
    """
    model = backbone.model
    check_model(folder, model.config, backbone.config.sampling_rate)
    path = weights_of(folder)
    try:
        with _calm(logging), _no_progress_bar():
            loaded, report = type(model).from_pretrained(
                folder,
                config=copy.deepcopy(model.config),
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, so that all are named at once
                local_files_only=True,
                dtype=torch.float32,
            )
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{path}: refused: it holds more than tensors ({named[1] if named else 'not a plain weight file'}), and "
            "full unpickling can run any code; use model.safetensors or the official file"
        ) from None
    except Exception as error:  # a broken file fails in as many ways as there are formats
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: the weights cannot be read ({reason}); fetch the file again") from None
    head = _check_report(path, report, model.config.vocab_size)
    if head:
        _check_letters(folder / VOCABULARY, folder / CONFIG)
    state = loaded.state_dict()
    kept = state if head else {name: tensor for name, tensor in state.items() if name not in HEAD}
    model.load_state_dict(kept, strict=head)
    return head


def _check_report(path: Path, report: dict[str, Any], vocabulary: int) -> bool:
    """Whether there is a CTC layer, from what transformers says about the names in the file."""
    missing = set(report["missing_keys"])
    head = not missing >= HEAD
    if not head:
        missing -= HEAD
    unexpected = {name for name in report["unexpected_keys"] if not name.startswith(UNUSED)}
    shapes = {name: (list(there), list(here)) for name, there, here in report["mismatched_keys"]}
    entries = shapes.get("lm_head.weight")
    if entries:
        raise UserError(f"{path}: its CTC layer has {entries[0][0]} entries, the tokenizer {vocabulary}")
    problems = [f"{name} is {there}, not {here}" for name, (there, here) in sorted(shapes.items())]
    problems += [f"{len(missing)} weights are missing: {_some(missing)}"] if missing else []
    problems += [f"{len(unexpected)} weights are not known: {_some(unexpected)}"] if unexpected else []
    if problems or report["error_msgs"]:
        raise UserError(f"{path}: not the weights of this model: {'; '.join([*problems, *report['error_msgs']])}")
    return head


def _check_letters(path: Path, config: Path) -> None:
    """A CTC layer says nothing without the list that its entries stand for, and ours must be the same."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; the model has a CTC layer, and this says what its entries stand for")
    listed = read_json(path)
    if not isinstance(listed, dict):
        raise UserError(f"{path}: not a list of letters")
    absent = [letter for letter in LETTERS if letter not in listed]
    if absent:
        raise UserError(f"{path}: letters that the tokenizer needs are missing: {' '.join(absent)}")
    order = [(letter, listed[letter], number) for number, letter in enumerate(LETTERS)]
    moved = [f"'{letter}' is {there}, not {here}" for letter, there, here in order if there != here]
    further = sorted(set(listed) - set(LETTERS))
    if moved or further:
        problems = moved[:3] + [f"'{letter}' is not a letter of the tokenizer" for letter in further[:3]]
        raise UserError(f"{path}: another list than that of the tokenizer: {'; '.join(problems)}")
    blank = read_json(config).get("pad_token_id", BLANK)
    if blank != BLANK:
        raise UserError(f"{config}: pad_token_id: entry {blank} is CTC's blank in this model, not {BLANK}")


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


@contextlib.contextmanager
def _calm(log: Any) -> Iterator[None]:
    """Errors only: what is wrong is said once, by us."""
    before = log.get_verbosity()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(before)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
