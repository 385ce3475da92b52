"""What a training says while it runs: `log.jsonl`, TensorBoard, the terminal, and the all-blank alarm.

On a terminal there is a bar, and below it the alarm, one line that is rewritten. Elsewhere (files, jobs) there are
plain lines, and the alarm is said when it begins and when it is over.
"""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from asr.settings import TrainingSettings
from common.errors import UserError
from common.files import appending, write_text

ALL_BLANK = 0.995
"""Share of frames whose best label is blank from which on a model says nothing."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a `log.jsonl`; without a last line of which a kill or a full disk left half."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class TrainingLog:
    """The log of one stage. Every process adds to it, the first one writes."""

    def __init__(self, fabric: Fabric, folder: Path, stage: str, settings: TrainingSettings, start: int):
        self.settings, self.stage, self.active = settings, stage, fabric.is_global_zero
        self.fabric = fabric
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.began = time.monotonic()
        self.earlier = 0.0
        self.all_blank = False
        self.display = self.board = None
        if not self.active:
            return
        self.path = folder / "log.jsonl"
        kept = [row for row in read_log(self.path) if row["stage"] != stage or row["step"] <= start]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.earlier = kept[-1]["seconds"] if start and kept else 0.0
        if settings.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            with appending(folder / "tensorboard"):
                self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
        self.display = (_Terminal if sys.stderr.isatty() else _Lines)(stage, settings.steps, start)

    def add(self, terms: dict[str, Tensor]) -> None:
        """The terms of one batch; one that sets in later counts where it is."""
        for name, value in terms.items():
            self.sums[name] += value.detach()
            self.counts[name] += 1

    def is_due(self, index: int) -> bool:
        """Whether `step` writes a row after this step."""
        return (index + 1) % self.settings.log_every == 0 or index + 1 == self.settings.steps

    def step(self, index: int, rate: float) -> None:
        """After each step. Raises `UserError` when the output is all blank and the settings say to stop."""
        if self.display:
            self.display.progress(index + 1)
        if not self.is_due(index):
            return
        means = self._means()
        self.sums, self.counts = defaultdict(float), defaultdict(int)
        self._write(index, {"learning_rate": rate, **means})
        self._watch_blanks(index, means.get("blank_fraction", 0.0))

    def _means(self) -> dict[str, float]:
        """Of each term over the batches since the last line and over all devices: every process has the same."""
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        if self.fabric.world_size == 1:
            return means
        found = self.fabric.all_reduce(torch.tensor(list(means.values()), dtype=torch.float64))
        return dict(zip(means, found.tolist(), strict=True))

    def validated(self, index: int, scores: dict[str, float]) -> None:
        self._write(index, {f"dev.{name}": value for name, value in scores.items()})

    def close(self) -> None:
        if self.display:
            self.display.close()
        if self.board:
            self.board.close()

    def _watch_blanks(self, index: int, fraction: float) -> None:
        """Past a quarter of the steps the plateau has to be over (the trials' rule of thumb)."""
        where = f"stage {self.stage}: after {index + 1} of {self.settings.steps} steps the output is"
        before, self.all_blank = self.all_blank, fraction > ALL_BLANK and index + 1 >= self.settings.steps / 4
        if self.all_blank:
            message = (
                f"{where} still all blank: the model is on the plateau of CTC training (smaller branch_scale or "
                "learning rate, or more steps)"
            )
            if self.settings.all_blank == "stop":
                raise UserError(message)
            if self.display:
                self.display.warn(f"warning: {message}")
        elif before and self.display:
            self.display.end_warning(f"{where} no longer all blank")

    def _write(self, index: int, values: dict[str, float]) -> None:
        if not self.active:
            return
        seconds = round(self.earlier + time.monotonic() - self.began, 2)
        row = {"stage": self.stage, "step": index + 1, "seconds": seconds, **values}
        with appending(self.path), self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.board:
            with appending(self.path.with_name("tensorboard")):
                for name, value in values.items():
                    self.board.add_scalar(f"{self.stage}/{name}", value, index + 1)
        shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.display.row(f"{self.stage} {index + 1}/{self.settings.steps} {shown}")


class _Lines:
    """Plain lines on standard error."""

    def __init__(self, stage: str, steps: int, done: int):
        self.warned = False

    def progress(self, step: int) -> None:
        pass

    def row(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        if not self.warned:
            self.row(text)
        self.warned = True

    def end_warning(self, text: str) -> None:
        self.row(text)
        self.warned = False

    def close(self) -> None:
        pass


class _Terminal:
    """A bar that goes when training ends; a warning below it stays."""

    def __init__(self, stage: str, steps: int, done: int):
        from rich.console import Console
        from rich.live import Live
        from rich.progress import Progress

        self.bar = Progress()
        self.task = self.bar.add_task(stage, total=steps, completed=done)
        self.live = Live(self.bar, console=Console(stderr=True), transient=True)
        self.live.start()
        self.warning = ""

    def progress(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def row(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        from rich.console import Group
        from rich.text import Text

        self.warning = text
        self.live.update(Group(self.bar, Text(text)), refresh=True)

    def end_warning(self, text: str) -> None:
        self.warning = ""
        self.live.update(self.bar, refresh=True)

    def close(self) -> None:
        self.live.stop()
        if self.warning:
            print(self.warning, file=sys.stderr, flush=True)
