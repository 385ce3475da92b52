"""The training loop step by step: learning rates, what is validated when, logged means, seconds over a resumption."""

import json
import math

import pytest
import torch

from asr.batches import StageData
from asr.schedules import factor_at
from asr.seeds import seed_step
from asr.settings import ScheduleSettings
from asr.training import make_fabric, run_stage, validate
from tests.asr.test_training import Quadratic, Vector, data, log, numbered, settings, train


def schedule(steps, rate=1.0, **kind):
    return factor_at(ScheduleSettings(**kind), steps, rate)


@pytest.mark.parametrize("rate", [1.0, 2e-3])
def test_noam_is_its_formula_whatever_the_learning_rate(rate):
    factor = schedule(10**6, rate, kind="noam", warmup_steps=100, noam_factor=2, noam_width=64)
    for step in (0, 1, 50, 98, 99, 100, 101, 399):
        n = step + 1
        assert rate * factor(step) == pytest.approx(2 * 64**-0.5 * min(n**-0.5, n * 100**-1.5))
    at_once = schedule(10**6, rate, kind="noam", warmup_steps=0, noam_factor=2, noam_width=64)
    assert [rate * at_once(step) for step in (0, 3, 99)] == pytest.approx([0.25, 0.125, 0.025])


@pytest.mark.parametrize(("kind", "quarter"), [("cosine", 0.5 + 0.5 * math.cos(math.pi / 4)), ("linear", 0.75)])
@pytest.mark.parametrize("final", [0.0, 0.2])
def test_decays_warm_up_and_end_at_their_ratio(kind, quarter, final):
    factor = schedule(51, kind=kind, warmup_steps=10, final_ratio=final)
    assert [factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    shape = [1.0, quarter, 0.5, 1 - quarter, 0.0, 0.0]
    expected = [final + (1 - final) * value for value in shape]
    assert [factor(step) for step in (10, 20, 30, 40, 50, 70)] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_shortest_trainings(kind):
    assert schedule(1, kind=kind, warmup_steps=0)(0) == 1.0
    assert [schedule(2, kind=kind, warmup_steps=1, final_ratio=0.3)(step) for step in (0, 1)] == [1.0, 1.0]
    assert [schedule(3, kind=kind, warmup_steps=1, final_ratio=0.3)(step) for step in (1, 2)] == [1.0, 0.3]


def test_every_step_has_the_learning_rate_of_its_schedule_and_group(tmp_path):
    seen = []

    class Grouped(Quadratic):
        def parameter_groups(self, module):
            return [{"params": [module.weight]}, {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.01}]

    train(tmp_path, Grouped(), log_every=1)
    factor = factor_at(settings().schedule, 12, 0.1)
    seen = [row["learning_rate"] for row in log(tmp_path) if "learning_rate" in row]
    assert seen == pytest.approx([0.1 * factor(step) for step in range(12)])


def test_the_last_step_is_validated_too_and_none_twice(tmp_path):
    train(tmp_path / "odd", steps=8)
    assert [row["step"] for row in log(tmp_path / "odd") if "dev.total" in row] == [3, 6, 8]
    train(tmp_path / "even", steps=6)
    assert [row["step"] for row in log(tmp_path / "even") if "dev.total" in row] == [3, 6]


def test_logged_terms_are_means_since_the_last_row(tmp_path):
    losses = []

    class Known(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            terms = super().losses(module, batch, index, micro_batch, rank, training)
            losses.append(float(terms["total"].detach()) if training else None)
            return terms

    train(tmp_path, Known(), steps=5, log_every=2, accumulate=3, validate_every=5)
    trained = [loss for loss in losses if loss is not None]
    rows = {row["step"]: row["total"] for row in log(tmp_path) if "total" in row}
    expected = {2: sum(trained[:6]) / 6, 4: sum(trained[6:12]) / 6, 5: sum(trained[12:]) / 3}
    assert rows == {step: pytest.approx(mean, rel=1e-5) for step, mean in expected.items()}
    assert len(trained) == 15


def test_devices_exchange_gradients_once_a_step_with_the_last_batch(tmp_path):
    """Of three accumulated batches the first two hold back what they would send."""
    chosen, held_back = settings(steps=3, accumulate=3), []
    fabric = make_fabric(chosen)
    without_exchange = fabric.no_backward_sync

    def watched(module, enabled=True):
        held_back.append(enabled)
        return without_exchange(module, enabled)

    fabric.no_backward_sync = watched
    run_stage(fabric, Vector(), Quadratic(), data(), chosen, 0, tmp_path, {}, "train")
    assert held_back == [True, True, False] * 3


def test_accumulated_batches_go_on_where_the_checkpoint_left_them(tmp_path):
    whole, _ = train(tmp_path / "whole", accumulate=3)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", batches=data(stop_at=22), accumulate=3)
    resumed, objective = train(tmp_path / "cut", accumulate=3)
    assert objective.steps[0] == 6
    assert torch.equal(whole.weight, resumed.weight)


def test_validation_is_the_mean_over_utterances():
    class Sizes(torch.nn.Module):
        def forward(self, batch, index, micro_batch):
            return {"total": torch.tensor(float(index + len(batch.ids)))}

    batches = [numbered(0), numbered(1), numbered(2)]
    batches[1] = type(batches[1])(("a", "b", "c", "d", "e", "f"), batches[1].inputs, batches[1].input_lengths)
    assert validate(Sizes(), iter(batches), 10, 0, "train") == {"total": pytest.approx((2 * 12 + 6 * 16 + 2 * 12) / 10)}


def test_validation_runs_in_evaluation_mode_and_training_in_training_mode(tmp_path):
    modes = []

    class Modes(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            modes.append((index, training, module.training, torch.is_grad_enabled()))
            return super().losses(module, batch, index, micro_batch, rank, training)

    train(tmp_path, Modes(), steps=4, validate_every=2)
    assert modes == [(i, on, on, on) for i, on in [(0, 1), (1, 1), (1, 0), (1, 0), (2, 1), (3, 1), (3, 0), (3, 0)]]


def test_seconds_go_on_over_a_resumption(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, batches=data(stop_at=7))
    rows = log(tmp_path)
    assert all(0 <= row["seconds"] < 60 for row in rows)
    (tmp_path / "log.jsonl").write_text(
        "".join(json.dumps({**row, "seconds": 1000 + row["step"]}) + "\n" for row in rows)
    )
    train(tmp_path)
    resumed = {row["step"]: row["seconds"] for row in log(tmp_path)}
    assert resumed[6] == 1006 and all(1006 <= seconds < 1066 for step, seconds in resumed.items() if step > 6)


def test_a_stage_that_begins_keeps_the_rows_of_other_stages_and_none_of_its_own(tmp_path):
    row = {"stage": "earlier", "step": 50, "seconds": 500.0, "total": 1.0}
    (tmp_path / "log.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps({**row, "stage": "train", "step": 1}) + "\n"
    )
    train(tmp_path)
    found = log(tmp_path)
    assert found[0] == row and {entry["stage"] for entry in found[1:]} == {"train"}
    assert [entry["step"] for entry in found if "total" in entry and entry["stage"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert all(entry["seconds"] < 60 for entry in found[1:]), "a stage of its own begins at 0 seconds"


@pytest.mark.parametrize(("blank", "said"), [(0.996, True), (0.994, False), (0.0, False)])
def test_blank_output_is_said_from_a_quarter_on_and_above_its_share(tmp_path, capsys, blank, said):
    train(tmp_path, Quadratic(blank=blank), steps=8)
    assert ("after 2 of 8 steps" in capsys.readouterr().err) == said


def test_seed_stage_step_and_device_each_give_other_draws():
    draws = set()
    for seed, stage, index, rank in [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]:
        seed_step(seed, stage, index, rank)
        draws.add(float(torch.rand((), dtype=torch.float64)))
    assert len(draws) == 5


def test_a_loss_that_is_not_finite_on_the_dev_set_stops(tmp_path):
    class Breaks(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            terms = super().losses(module, batch, index, micro_batch, rank, training)
            return {**terms, "total": terms["total"] * (1 if training else math.inf)}

    with pytest.raises(Exception, match=r"not finite at step 3 .*dev.total"):
        train(tmp_path, Breaks())


def test_every_batch_of_a_step_is_read_once_and_in_order(tmp_path):
    read = []

    class Reads(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            if training:
                read.append((index, batch.ids[0]))
            return super().losses(module, batch, index, micro_batch, rank, training)

    ranked = StageData(lambda start, rank, world: (numbered(n) for n in range(start, 99)), data().dev)
    train(tmp_path, Reads(), ranked, steps=3, accumulate=2, validate_every=3)
    assert read == [(n // 2, f"u{n}") for n in range(6)]
