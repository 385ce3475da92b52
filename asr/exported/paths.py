"""Depth as an argument: what the configurations and models of exported systems have in common.

A path says how often each physical layer runs, in order (`1 1 2 2`); its sum is the depth. `config.json` lists the
paths that a system may be run at and which of them stands for each depth; the model holds each layer once.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from asr.paths import Path, format_path, parse_path
from common.errors import UserError


class PathsConfig:
    """Mixin of configurations.

    `paths` lists the allowed paths of each depth, `chosen` the one that stands for it. `depth` is what a loaded model
    runs at, or `path` where one is named; both can be given to `from_pretrained`.
    """

    def __post_init__(
        self,
        paths: dict[str, list[str]] | None = None,
        chosen: dict[str, str] | None = None,
        depth: int | None = None,
        path: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.paths = paths or {}
        self.chosen = chosen or {}
        self.depth = depth
        self.path = path
        super().__post_init__(**kwargs)

    def path_at(self, depth: int) -> Path:
        """The path that stands for a depth. Raises `UserError` naming the possible depths."""
        if str(depth) not in self.chosen:
            raise UserError(f"depth {depth} is not possible; this system runs at depths {in_order(self.chosen)}")
        return parse_path(self.chosen[str(depth)])

    def check_path(self, path: str | Path) -> Path:
        """The path as counts. Raises `UserError` naming the allowed paths of its depth, or the possible depths."""
        counts = parse_path(path)
        text = format_path(counts)
        allowed = self.paths.get(str(sum(counts)))
        if allowed is None:
            raise UserError(f"path '{text}' has depth {sum(counts)}; this system runs at depths {in_order(self.paths)}")
        if text not in allowed:
            raise UserError(
                f"path '{text}' is not allowed; paths of depth {sum(counts)}: {', '.join(map(repr, allowed))}"
            )
        return counts


class Foldable:
    """Mixin of models: `depth` and `path` can be read and set at any time."""

    @property
    def path(self) -> Path:
        """How often each physical layer runs."""
        return self._path

    @path.setter
    def path(self, path: str | Path) -> None:
        self._path = self.config.check_path(path)
        self.config.path = format_path(self._path)
        self.config.depth = sum(self._path)

    @property
    def depth(self) -> int:
        """Layer executions."""
        return sum(self._path)

    @depth.setter
    def depth(self, depth: int) -> None:
        self._path = self.config.path_at(depth)
        self.config.path, self.config.depth = None, self.depth

    def start(self) -> None:
        """Take up the depth or the path that the configuration asks for."""
        if self.config.path is not None:
            self.path = self.config.path
        else:
            self.depth = self.config.depth


def in_order(depths: Iterable[str]) -> str:
    """Depths as `6, 8, 10`: a configuration read from its file has its keys in the order of the alphabet."""
    return ", ".join(sorted(depths, key=int))


def blank_behind_the_end(logits: Tensor, valid: Tensor, blank: int = 0) -> Tensor:
    """Logits (batch, frames, vocabulary) that say blank in every frame that is not `valid` (batch, frames).

    Whoever decodes all frames of a padded batch, as transformers' pipeline does, then reads what the utterance alone
    gives.
    """
    silence = torch.full_like(logits[0, 0], -torch.inf)
    silence[blank] = 0.0
    return torch.where(valid[:, :, None], logits, silence)
