"""What a training leaves on disk to go on from: checkpoint, kept states, finished stages.

A kill between any two writes leaves a folder from which the training goes on and ends, also on a device on which the
repeated steps come out a little differently. The order gives this: first a kept state, then the checkpoint that names
it, then everything is removed that neither the checkpoint on disk nor the list in memory names.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import UserError
from common.files import replacing


class Checkpoints:
    """The states of one stage in its folder. Only the first of several processes calls `clean`, `offer` and `save`.

    `keep` and `count` say what the stage ends with: the `last` state, the `best`, or the `average` of the best `count`.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], keep: Literal["last", "best", "average"], count: int):
        self.folder = folder
        self.fingerprint = fingerprint
        self.count = {"last": 0, "best": 1, "average": count}[keep]
        self.kept: list[tuple[float, int]] = []
        """(loss, step) of the best states, best first; of equals the earlier."""
        self.named_on_disk: list[tuple[float, int]] = []

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def kept_path(self, step: int) -> Path:
        return self.folder / f"kept-{step}.pt"

    def resume(self, module: nn.Module, optimiser: Optimizer) -> int:
        """Load the checkpoint if there is one; return the number of steps that are done.

        Raises `UserError` when it belongs to another configuration.
        """
        if not self.path.exists():
            return 0
        state = self._load()
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        self.kept = [(loss, step) for loss, step in state["kept"]]
        self.named_on_disk = self.kept
        return state["step"]

    def clean(self) -> None:
        """Remove what a killed process left: half-written files, and states that no checkpoint names."""
        for path in self.folder.glob(".*"):
            path.unlink()
        self._remove_unnamed()

    def offer(self, loss: float, step: int, module: nn.Module) -> None:
        """Keep the state if it is among the best; the checkpoint does not name it before `save`."""
        kept = sorted([*self.kept, (loss, step)])[: self.count]
        if (loss, step) in kept:
            save_state(self.kept_path(step), module.state_dict())
        self.kept = kept
        self._remove_unnamed()

    def save(self, step: int, module: nn.Module, optimiser: Optimizer) -> None:
        """Write the checkpoint after `step` steps."""
        state = {
            "step": step,
            "module": module.state_dict(),
            "optimiser": optimiser.state_dict(),
            "kept": self.kept,
            "fingerprint": json.dumps(self.fingerprint, sort_keys=True),
        }
        save_state(self.path, state)
        self.named_on_disk = self.kept
        self._remove_unnamed()

    def final(self, device: torch.device) -> dict[str, Tensor]:
        """The state that training ends with, once the last checkpoint is written.

        An average is taken in float64 over the floating-point tensors; others are the best state's (ESPnet's rule).
        """
        state = self._load()
        if not self.count:
            return state["module"]
        paths = [self.kept_path(step) for _, step in state["kept"]]
        best = torch.load(paths[0], map_location=device, weights_only=True)
        if len(paths) == 1:
            return best
        sums = {name: value.double() for name, value in best.items() if value.is_floating_point()}
        for path in paths[1:]:
            for name, value in torch.load(path, map_location=device, weights_only=True).items():
                if name in sums:
                    sums[name] += value
        return best | {name: (total / len(paths)).to(best[name].dtype) for name, total in sums.items()}

    def _load(self) -> dict[str, Any]:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        check_fingerprint(json.loads(state["fingerprint"]), self.fingerprint, self.path)
        return state

    def _remove_unnamed(self) -> None:
        named = {self.kept_path(step) for _, step in [*self.kept, *self.named_on_disk]}
        for path in self.folder.glob("kept-*.pt"):
            if path not in named:
                path.unlink()


def save_stage(path: Path, module: nn.Module, architecture: dict[str, Any], fingerprint: dict[str, Any]) -> None:
    """Write the module that a finished stage leaves, with what its weights alone do not say: which parameters are
    trained, and the numbers that parameters and buffers are made of."""
    tensors = dict(_tensors(module))
    state = {
        "module": module.state_dict(),
        "architecture": architecture,
        "requires_grad": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "dtypes": {name: tensor.dtype for name, tensor in tensors.items()},
        "fingerprint": fingerprint,
    }
    save_state(path, state)


def load_stage(path: Path, rebuild: Callable[[dict[str, Any]], nn.Module], fingerprint: dict[str, Any]) -> nn.Module:
    """The module as `save_stage` was given it, on the CPU; `rebuild` makes one of an architecture.

    Raises `UserError` when the file belongs to another configuration.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_fingerprint(state["fingerprint"], fingerprint, path)
    module = rebuild(state["architecture"]).requires_grad_(False)  # integers cannot have gradients
    for name, tensor in _tensors(module):
        tensor.data = tensor.data.to(state["dtypes"].get(name, tensor.dtype))
    module.load_state_dict(state["module"])
    for name, tensor in _tensors(module):
        tensor.requires_grad_(state["requires_grad"].get(name, False))
    return module


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, those that are not saved among them."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """`torch.save`, whole or not at all; through a file of Python's, whose errors say so when the disk is full."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def check_fingerprint(found: dict[str, Any], expected: dict[str, Any], path: Path) -> None:
    """Raise `UserError` naming the keys in which a saved configuration differs from today's."""
    expected = json.loads(json.dumps(expected))
    keys = sorted(set(_flatten(found).items()) ^ set(_flatten(expected).items()))
    if keys:
        names = ", ".join(sorted({key for key, _ in keys}))
        raise UserError(
            f"{path}: this checkpoint belongs to another configuration (different: {names}); "
            f"undo the change to resume it, or delete {path.parent} to train anew"
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        flat: dict[str, str] = {}
        for key, inner in value.items():
            flat |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: json.dumps(value)}
