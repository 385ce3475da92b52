"""The training loop on a model small enough for its mathematics to be checked."""

import contextlib
import fcntl
import json
import math
import os
import pty
import random
import re
import struct
import sys
import termios
import traceback

import numpy as np
import pytest
import torch
from torch import nn

from asr.backbones import Batch
from asr.batches import BatchOrder, StageData
from asr.schedules import factor_at
from asr.seeds import seed_step
from asr.settings import ScheduleSettings, TrainingSettings
from asr.training import make_fabric, run_stage
from common.errors import UserError


class Quadratic:
    """The loss is the squared distance of a weight vector from each batch's mean."""

    def __init__(self, blank=0.0):
        self.blank = blank
        self.steps = []

    def losses(self, module, batch, index, micro_batch, rank, training):
        total = ((module.weight - batch.inputs.mean((0, 1))) ** 2).sum()
        return {"total": total, "blank_fraction": torch.tensor(self.blank)}

    def after_step(self, module, index):
        self.steps.append(index)

    def parameter_groups(self, module):
        return [{"params": list(module.parameters())}]

    def selection_term(self, terms):
        return "total"


class Vector(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


def numbered(number):
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(2, 5, 3, generator=generator)
    return Batch((f"u{number}", f"v{number}"), inputs, torch.tensor([5, 5]))


def data(stop_at=None):
    def train(start, rank, world):
        number = start
        while True:
            if number == stop_at:
                raise KeyboardInterrupt
            yield numbered(number)
            number += 1

    return StageData(train, lambda: iter([numbered(1000), numbered(1001)]))


def settings(**changes):
    base = {
        "steps": 12,
        "validate_every": 3,
        "checkpoint_every": 2,
        "log_every": 2,
        "keep": "average",
        "keep_states": 2,
        "tensorboard": False,
        "optimiser": {"learning_rate": 0.1},
        "schedule": {"kind": "linear", "warmup_steps": 2},
    }
    return TrainingSettings.model_validate({**base, **changes})


def train(folder, objective=None, batches=None, fingerprint=None, **changes):
    torch.manual_seed(0)
    module, chosen = Vector(), settings(**changes)
    objective = objective or Quadratic()
    fingerprint = fingerprint or {"a": 1}
    run_stage(make_fabric(chosen), module, objective, batches or data(), chosen, 0, folder, fingerprint, "train")
    return module, objective


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_interrupted_equals_uninterrupted(tmp_path):
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", batches=data(stop_at=7))
    resumed, objective = train(tmp_path / "cut")
    assert objective.steps[0] == 6  # the checkpoint after 6 steps
    assert torch.equal(whole.weight, resumed.weight)

    def untimed(rows):
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    assert untimed(log(tmp_path / "whole")) == untimed(log(tmp_path / "cut"))


def test_accumulation_is_the_mean_of_the_batches_gradients(tmp_path):
    """Two batches a step: AdamW's first step has the size of the learning rate and the sign of the mean gradient."""
    module, _ = train(tmp_path, steps=1, accumulate=2, validate_every=1, schedule={"kind": "linear", "warmup_steps": 0})
    gradient = -(numbered(0).inputs.mean((0, 1)) + numbered(1).inputs.mean((0, 1)))
    torch.testing.assert_close(module.weight.detach(), -0.1 * gradient.sign(), atol=1e-4, rtol=0)


def test_best_states_are_averaged(tmp_path):
    module, _ = train(tmp_path)
    scores = [(row["dev.total"], row["step"]) for row in log(tmp_path) if "dev.total" in row]
    best = sorted(scores)[:2]
    states = [torch.load(tmp_path / f"kept-{step}.pt", weights_only=True)["weight"] for _, step in best]
    torch.testing.assert_close(module.weight.detach(), torch.stack(states).mean(0))
    assert len(list(tmp_path.glob("kept-*.pt"))) == 2


def test_a_loss_that_is_not_finite_stops_and_leaves_what_is_needed(tmp_path):
    class Breaks(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            terms = super().losses(module, batch, index, micro_batch, rank, training)
            return {**terms, "total": terms["total"] * (math.nan if training and index == 4 else 1)}

    with pytest.raises(UserError, match="not finite at step 5 .*u4") as error:
        train(tmp_path, Breaks())
    saved = torch.load(tmp_path / "not_finite.pt", weights_only=True)
    assert str(tmp_path / "not_finite.pt") in str(error.value)
    assert saved["batch"]["ids"] == ("u4", "v4") and "weight" in saved["module"] and saved["step"] == 4


@pytest.mark.parametrize("breaks", ["loss", "gradient"])
def test_nothing_changes_from_a_step_that_is_not_finite_on(tmp_path, breaks):
    """It is noticed when the log is written: then weights and checkpoint are those before it."""

    class Breaks(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            terms = super().losses(module, batch, index, micro_batch, rank, training)
            nothing = (module.weight * (0.0 if index == 3 else 1.0)).abs().sum()
            added = nothing / nothing.detach() if breaks == "loss" else nothing.sqrt()  # 0 / 0; a slope of infinity
            return {**terms, "total": terms["total"] + added} if index >= 3 else terms

        def after_step(self, module, index):
            weights.append(module.weight.detach().clone())

    weights = []
    with pytest.raises(UserError, match="not finite at step 4 .*u3") as error:
        train(tmp_path, Breaks(), log_every=8, validate_every=8)
    assert ("gradient_norm" in str(error.value)) == (breaks == "gradient")
    assert len(weights) == 4 and not torch.equal(weights[1], weights[2])
    assert torch.equal(weights[2], weights[3])
    assert torch.equal(torch.load(tmp_path / "not_finite.pt", weights_only=True)["module"]["weight"], weights[2])
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2


class Blank(Quadratic):
    """All blank until a step."""

    def __init__(self, until):
        super().__init__(1.0)
        self.until = until

    def losses(self, module, batch, index, micro_batch, rank, training):
        self.blank = float(index < self.until)
        return super().losses(module, batch, index, micro_batch, rank, training)


def test_all_blank_output_is_said_when_it_begins_and_when_it_is_over(tmp_path, capsys):
    train(tmp_path, Blank(until=8))
    said = [line for line in capsys.readouterr().err.splitlines() if "all blank" in line]
    assert len(said) == 2, "one line each, whatever is logged in between"
    assert said[0].startswith("warning: stage train: after 4 of 12 steps the output is still all blank: ")
    assert said[1] == "stage train: after 10 of 12 steps the output is no longer all blank"
    with pytest.raises(UserError, match="all blank"):
        train(tmp_path / "stop", Blank(until=8), all_blank="stop")


@pytest.mark.parametrize(("until", "left"), [(8, []), (12, ["after 12 of 12 steps"])])
def test_on_a_terminal_the_warning_is_one_line_that_is_rewritten(tmp_path, until, left):
    """While it lasts it stands below the bar; a training that ends with it leaves it there."""
    written = on_a_terminal(lambda: train(tmp_path, Blank(until)))
    assert "after 4 of 12 steps the output is still all blank" in written
    assert "after 6 of 12 steps the output is still all blank" in written
    shown = [line for line in screen(written) if "all blank" in line]
    assert len(shown) == len(left) and all(a in b for a, b in zip(left, shown, strict=True))


def on_a_terminal(function):
    """What `function` writes to a terminal, run in a process of its own."""
    child, master = pty.fork()
    if not child:
        try:
            fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
            os.environ["TERM"] = "xterm"
            sys.stderr = os.fdopen(2, "w", closefd=False)
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    written = b""
    with contextlib.suppress(OSError):  # the terminal is closed at its end
        while part := os.read(master, 65536):
            written += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, written.decode()
    return written.decode()


def screen(written):
    """The lines that are left: after line feeds, returns, lines erased, and the cursor moved up."""
    lines, row, column = [""], 0, 0
    for command in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x1b]", written):
        if command == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif command == "\r":
            column = 0
        elif command == "\x1b[2K":
            lines[row] = ""
        elif up := re.fullmatch(r"\x1b\[(\d+)A", command):
            row -= int(up[1])
        elif len(command) == 1:
            lines[row] = lines[row][:column].ljust(column) + command + lines[row][column + 1 :]
            column += 1
    return lines


def test_a_log_whose_last_line_is_half_is_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, batches=data(stop_at=7))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"stage": "train", "st')
    train(tmp_path)
    assert [row["step"] for row in log(tmp_path)] == [2, 3, 4, 6, 6, 8, 9, 10, 12, 12]


def test_validations_draw_the_same_and_micro_batches_never(tmp_path):
    """Of torch's generator; what methods draw by themselves follows from what they are told, which is noted."""
    drawn, told = {True: [], False: []}, {True: [], False: []}

    class Draws(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            drawn[training].append(float(torch.rand(())))
            told[training].append((index, micro_batch, rank))
            return super().losses(module, batch, index, micro_batch, rank, training)

    train(tmp_path, Draws(), steps=4, accumulate=3, validate_every=1)
    assert len(set(drawn[True])) == 12
    assert told[True] == [(index, part, 0) for index in range(4) for part in range(3)]
    first = drawn[False][:2]
    assert first[0] != first[1] and drawn[False] == first * 4
    assert told[False] == [(index, part, 0) for index in range(4) for part in range(2)]


def test_checkpoint_of_another_configuration(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, batches=data(stop_at=7))
    with pytest.raises(UserError, match=r"another configuration \(different: a\)"):
        train(tmp_path, fingerprint={"a": 2})


def test_tensorboard_and_log(tmp_path):
    train(tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard").glob("events*"))
    rows = log(tmp_path)
    assert rows[0]["step"] == 2 and {"total", "learning_rate", "seconds"} <= set(rows[0])


def test_schedules_against_their_formulas():
    noam = factor_at(ScheduleSettings(kind="noam", warmup_steps=25000, noam_factor=5, noam_width=256), 10**6, 1.0)
    assert noam(24999) == pytest.approx(1.98e-3, rel=2e-3)  # the recipe's peak
    assert noam(99999) == pytest.approx(noam(24999) / 2, rel=1e-6)
    cosine = factor_at(ScheduleSettings(kind="cosine", warmup_steps=10, final_ratio=0.02), 111, 1.0)
    assert [cosine(0), cosine(9), cosine(10), cosine(60), cosine(110)] == pytest.approx([0.1, 1.0, 1.0, 0.51, 0.02])
    linear = factor_at(ScheduleSettings(kind="linear", warmup_steps=0), 11, 1.0)
    assert [linear(0), linear(5), linear(10)] == pytest.approx([1.0, 0.5, 0.0])


def test_batches_keep_to_their_size_and_hold_everything_once():
    frames = [(7 * n) % 90 + 10 for n in range(200)]
    order = BatchOrder(frames, 400, 5, seed=3)
    for epoch in range(3):
        batches = order.epoch(epoch)
        assert sorted(index for batch in batches for index in batch) == list(range(200))
        assert all(len(batch) * max(frames[index] for index in batch) <= 400 for batch in batches)
    assert order.epoch(0) != order.epoch(1)
    assert BatchOrder(frames, 400, 5, seed=3).epoch(1) == order.epoch(1)
    assert BatchOrder(frames, 400, 5, seed=4).epoch(1) != order.epoch(1)


def test_batches_of_a_number_of_utterances():
    frames = [(7 * n) % 90 + 10 for n in range(203)]
    order = BatchOrder(frames, 1.0, 5, seed=3, batch_utterances=8)
    batches = order.epoch(1)
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert max(map(len, batches)) == 8 and sum(len(batch) < 8 for batch in batches) <= 5  # one rest in each bucket
    in_order = order.in_order()
    assert [len(batch) for batch in in_order] == [8] * 25 + [3]
    assert order.largest() == in_order[-2]


def test_the_largest_batch_is_no_rest():
    order = BatchOrder([10] * 9 + [30], 40, 1, seed=0)
    assert [len(batch) for batch in order.in_order()] == [4, 4, 1, 1]
    assert order.largest() == order.in_order()[1]


def test_every_random_generator_is_seeded_for_a_step():
    draws = []
    for index in (3, 4, 3):
        seed_step(0, "train", index, 0)
        draws.append((float(torch.rand(())), float(np.random.rand()), random.random()))
    assert draws[0] == draws[2] and not set(draws[0]) & set(draws[1])


def test_batches_start_anywhere_and_are_shared_among_devices():
    order = BatchOrder([20] * 30, 100, 2, seed=0)
    stream = order.endless()
    first = [next(stream) for _ in range(20)]
    later = order.endless(start=7)
    assert [next(later) for _ in range(13)] == first[7:]
    ranks = [order.endless(rank=rank, world=2) for rank in range(2)]
    one_epoch = [next(ranks[number % 2]) for number in range(6)]
    assert sorted(map(tuple, one_epoch)) == sorted(map(tuple, order.epoch(0)))


class SetsIn(Quadratic):
    """A term more from the third step on: the number of its step."""

    def losses(self, module, batch, index, micro_batch, rank, training):
        terms = super().losses(module, batch, index, micro_batch, rank, training)
        return {**terms, "late": torch.tensor(float(index))} if index >= 2 else terms


def test_a_term_that_sets_in_later_is_averaged_over_the_steps_that_have_it(tmp_path):
    train(tmp_path, SetsIn(), steps=8, log_every=4)
    rows = [row for row in log(tmp_path) if "late" in row]
    assert [(row["step"], row["late"]) for row in rows] == [(4, 2.5), (8, 5.5)]
