"""A system on disk: `system.json` says how to rebuild the module, `model.safetensors` holds its weights, physical
layers once. Beside them stand the batch-norm statistics that training left, where there is batch norm."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asr.backbones import BackboneFactory
from common.errors import UserError
from common.files import read_json, replacing, sha256, write_json
from methods.contract import Method, TrainedSystem, make_method

SCHEMA = 1
RUNNING = "running_statistics.safetensors"


def save_system(
    folder: Path,
    module: nn.Module,
    method: Method,
    description: dict[str, Any],
    running_statistics: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, then `system.json`, which holds digests of them: it is by this file that later steps know a
    system. `description` holds name, seed, method, settings and vocabulary; `running_statistics` are those of batch
    norm as training left them, if there are any."""
    files = {"model.safetensors": {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}}
    files |= {RUNNING: dict(running_statistics)} if running_statistics else {}
    with contextlib.ExitStack() as together:  # all are written before one of them takes its place
        for name, tensors in files.items():
            temporary = together.enter_context(replacing(folder / name))
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
    if not running_statistics:
        (folder / RUNNING).unlink(missing_ok=True)
    backbone = {"name": method.backbone.name, "settings": method.backbone.config.model_dump(mode="json")}
    about = {"backbone": backbone, "architecture": method.architecture(module), **description}
    digests = {"weights": sha256(folder / "model.safetensors")}
    if running_statistics:
        digests["running_statistics"] = sha256(folder / RUNNING)
    write_json(folder / "system.json", {"schema": SCHEMA, **digests, **about})


def load_system(folder: Path, device: torch.device | str = "cpu", packages: Sequence[str] = ()) -> TrainedSystem:
    """Rebuild a finished system in evaluation mode. Raises `UserError` when weights and description do not belong
    together, or when the method is none of this project or of `packages`: naming one imports it."""
    system = _rebuild(folder, packages)
    system.module.to(device).eval().requires_grad_(False)
    return system


def load_trainable(folder: Path, device: torch.device | str = "cpu", packages: Sequence[str] = ()) -> TrainedSystem:
    """Rebuild a finished system as it was trained: in the form that was, and parameters that the module was built with
    frozen, or that the last stage froze, have no gradient. Raises `UserError` as `load_system` does."""
    system = _rebuild(folder, packages)
    system = dataclasses.replace(system, module=system.method.as_trained(system.module))
    frozen = set(read_json(folder / "system.json").get("frozen", ()))
    for name, parameter in system.module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    system.module.to(device)
    return system


def _rebuild(folder: Path, packages: Sequence[str]) -> TrainedSystem:
    description = read_json(folder / "system.json")
    where = str(folder / "system.json")
    if description.get("schema") != SCHEMA:
        raise UserError(f"{where}: schema {description.get('schema')} is not {SCHEMA}; train the system again")
    missing = {"name", "method", "settings", "backbone", "architecture", "vocabulary"} - set(description)
    if missing:
        raise UserError(f"{where}: {', '.join(map(repr, sorted(missing)))} is missing; train the system again")
    backbone = BackboneFactory(
        description["backbone"]["name"], description["backbone"]["settings"], description["vocabulary"], where
    )
    method = make_method(description["method"], description["settings"], backbone, where=where, packages=packages)
    module = method.rebuild(description["architecture"])
    weights = folder / "model.safetensors"
    try:
        module.load_state_dict(_load_tensors(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{weights}: this checkpoint belongs to another configuration than {where} ({reason})"
        ) from None
    running = _load_tensors(folder / RUNNING) if (folder / RUNNING).exists() else {}
    steps = description.get("steps", 0)
    return TrainedSystem(description["name"], module, method, running_statistics=running, steps=steps)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; train the system again") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); train the system again") from None


def load_description(model: Path) -> dict[str, Any]:
    """Name, seed and physical layers of a system, for the files that analysis reads."""
    description = read_json(model / "system.json")
    layers = description["backbone"]["settings"].get("layers")
    return {"system": description["name"], "seed": description["seed"], "physical_layers": layers}


def load_inputs(
    needs: dict[str, str], folders: dict[str, Path], device: torch.device | str, packages: Sequence[str] = ()
) -> dict[str, TrainedSystem]:
    """The trained systems that a method starts from, by role, with their drop orders where these were measured.
    `folders` maps system names to their folders."""
    for role, name in needs.items():
        if name not in folders:
            raise UserError(
                f"settings.{role}: system '{name}' is needed but its folder was not given (--input {name}=FOLDER)"
            )
    systems = {role: load_system(folders[name], device, packages) for role, name in needs.items()}
    for system in systems.values():
        _give_teachers(system.method, folders, device, packages)
    return {
        role: dataclasses.replace(system, drop_order=load_drop_order(folders[needs[role]]))
        for role, system in systems.items()
    }


def _give_teachers(
    method: Method, folders: dict[str, Path], device: torch.device | str, packages: Sequence[str]
) -> None:
    """Load what the losses of a loaded system read, as far as folders are given, for whatever trains with them."""
    first = method.first
    read = {role: first.needs(first.config)[role] for role in first.needs_in_training(first.config)}
    first.inputs |= load_inputs(
        {role: name for role, name in read.items() if name in folders}, folders, device, packages
    )


def load_drop_order(folder: Path) -> tuple[int, ...] | None:
    """The order in which a system's layers, numbered from 1, are dropped; None where it was not measured."""
    path = folder / "sensitivity.json"
    if not path.exists():
        return None
    order = read_json(path).get("drop_order")
    if not isinstance(order, list) or sorted(order) != list(range(1, len(order) + 1)):
        raise UserError(f"{path}: 'drop_order' does not name every layer once; measure the sensitivity again")
    return tuple(order)


def name_folders(pairs: Iterable[str]) -> dict[str, Path]:
    """Read `name=folder` arguments."""
    folders = {}
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator:
            raise UserError(f"--input {pair}: write NAME=FOLDER")
        folders[name] = Path(folder)
    return folders
