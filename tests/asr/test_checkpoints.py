"""What training leaves on disk: after a kill between any two of its writes, and between two stages."""

import pickle
import shutil

import pytest
import torch
from torch import nn

from asr.checkpoints import Checkpoints, load_stage, save_stage
from common.errors import UserError
from common.files import write_text
from tests.asr.test_training import Quadratic, Vector, train
from tests.kills import KILLED, in_child
from workflows.steps.train import _finish_files

SHORT = {"steps": 7, "validate_every": 2, "checkpoint_every": 3, "log_every": 7}


class Better(Quadratic):
    """Every validated state is better than the last one, and drops an earlier one."""

    def losses(self, module, batch, index, micro_batch, rank, training):
        terms = super().losses(module, batch, index, micro_batch, rank, training)
        return terms if training else {**terms, "total": -terms["total"]}


class Otherwise(Quadratic):
    """As on a device that is not bit-exact, and worse: repeated steps have other gradients, and no state is better."""

    def losses(self, module, batch, index, micro_batch, rank, training):
        terms = super().losses(module, batch, index, micro_batch, rank, training)
        return {**terms, "total": 1.01 * terms["total"]}


def trained(folder, keep, objective=Better, kill_at=None):
    """Train in a process of its own, which dies before its change number `kill_at` to the folder; its status and the
    number of changes. The final weights stand in `<folder>.pt`."""

    def run():
        module, _ = train(folder, objective(), **SHORT, keep=keep)
        torch.save(module.weight.detach(), folder.with_suffix(".pt"))

    return in_child(run, folder, kill_at)


def result(folder):
    return torch.load(folder.with_suffix(".pt"), weights_only=True)


def on_disk(folder):
    """Steps of the kept states, and those that the checkpoint names."""
    named = torch.load(folder / "checkpoint.pt", weights_only=True)["kept"]
    files = [path.name for path in folder.glob("*.pt") if path.name != "checkpoint.pt"]
    assert not list(folder.glob(".*")), "half-written files are left"
    return sorted(files), sorted(f"kept-{step}.pt" for _, step in named)


@pytest.mark.parametrize("keep", ["average", pytest.param("last", marks=pytest.mark.slow)])
def test_a_kill_between_any_two_writes_leaves_a_training_that_ends(tmp_path, keep):
    """Resumed on the same machine it ends bit for bit as if nothing had been; on one that computes otherwise it ends
    with the states that its checkpoint names."""
    status, changes = trained(tmp_path / "whole", keep)
    assert status == 0 and changes > {"last": 15, "average": 30}[keep]
    whole = result(tmp_path / "whole")
    for kill_at in range(1, changes + 1):
        killed, elsewhere = tmp_path / f"killed-{kill_at}", tmp_path / f"elsewhere-{kill_at}"
        assert trained(killed, keep, kill_at=kill_at)[0] == KILLED
        if killed.exists():
            shutil.copytree(killed, elsewhere)
        assert trained(killed, keep)[0] == 0, kill_at
        assert torch.equal(result(killed), whole), kill_at
        assert trained(elsewhere, keep, Otherwise)[0] == 0, kill_at
        files, named = on_disk(elsewhere)
        assert files == named and len(named) == {"last": 0, "average": 2}[keep]
        states = [torch.load(elsewhere / name, weights_only=True)["weight"] for name in named]
        if states:
            torch.testing.assert_close(result(elsewhere), torch.stack(states).double().mean(0).float())
        for folder in (killed, elsewhere):
            shutil.rmtree(folder)


def test_the_last_state_is_loaded_bit_for_bit_and_the_best_by_its_term(tmp_path):
    """Ranked by a term of its own, not by the total, whose order is another."""
    after = {}

    class TwoTerms(Quadratic):
        def losses(self, module, batch, index, micro_batch, rank, training):
            total = super().losses(module, batch, index, micro_batch, rank, training)["total"]
            return {"total": total, "common": (index - 5) ** 2 + 0 * total}

        def after_step(self, module, index):
            after[index + 1] = module.weight.detach().clone()

        def selection_term(self, terms):
            assert set(terms) == {"total", "common"}
            return "common"

    rates = {"kind": "linear", "warmup_steps": 2, "final_ratio": 0.1}  # the last step changes something too
    every = {"steps": 12, "validate_every": 1, "schedule": rates}
    for keep, expected in (("last", 12), ("best", 6)):
        module, _ = train(tmp_path / keep, TwoTerms(), **every, keep=keep)
        assert [step for step, weight in after.items() if torch.equal(weight, module.weight.detach())] == [expected]
    module, _ = train(tmp_path / "average", TwoTerms(), **every, keep="average", keep_states=3)
    mean = torch.stack([after[step] for step in (5, 6, 7)]).double().mean(0).float()
    torch.testing.assert_close(module.weight.detach(), mean, rtol=0, atol=1e-7)
    assert sorted(path.name for path in (tmp_path / "average").glob("kept-*")) == [f"kept-{n}.pt" for n in (5, 6, 7)]


def test_a_term_that_was_not_measured_ranks_nothing(tmp_path):
    class Wrong(Quadratic):
        def selection_term(self, terms):
            return "ctc"

    with pytest.raises(ValueError, match="ranked by 'ctc', which is none of the losses: total, blank_fraction"):
        train(tmp_path, Wrong())


def test_integers_are_not_averaged(tmp_path):
    class Counts(Vector):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.tensor(0))

    module, optimiser = Counts(), torch.optim.SGD(Vector().parameters())
    states = Checkpoints(tmp_path, {}, "average", 2)
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
        module.count.fill_(step)
        module.weight.data.fill_(step)
        states.offer(loss, step, module)
    states.save(3, module, optimiser)
    final = states.final(torch.device("cpu"))
    assert final["count"] == 2 and final["weight"].tolist() == [1.5] * 3


class Parts(nn.Module):
    """Something of everything: frozen, in half precision, integers, buffers that are saved and that are not."""

    def __init__(self):
        super().__init__()
        self.frozen, self.trained = nn.Linear(3, 3), nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.codes = nn.Parameter(torch.zeros(3))
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("window", torch.linspace(0, 1, 3), persistent=False)


def test_between_two_stages_nothing_is_forgotten(tmp_path):
    """Which parameters are trained, and every dtype, as the first stage left them."""
    module = Parts()
    module.frozen.half().requires_grad_(False)
    module.codes = nn.Parameter(torch.tensor([1, -2, 3], dtype=torch.int8), requires_grad=False)
    module.scale, module.window = module.scale.double(), module.window.bfloat16()
    module.norm.running_mean.fill_(2)
    save_stage(tmp_path / "stage0.pt", module, {"a": 1}, {"seed": 0})
    given = []
    loaded = load_stage(tmp_path / "stage0.pt", lambda architecture: given.append(architecture) or Parts(), {"seed": 0})
    assert given == [{"a": 1}]
    for kind in ("named_parameters", "named_buffers"):
        before, after = dict(getattr(module, kind)()), dict(getattr(loaded, kind)())
        assert list(before) == list(after)
        for name, tensor in before.items():
            assert (after[name].dtype, after[name].requires_grad) == (tensor.dtype, tensor.requires_grad), name
            if name != "window":  # made anew, in its dtype
                assert torch.equal(after[name], tensor), name
    assert type(loaded.codes) is nn.Parameter
    with pytest.raises(UserError, match="another configuration .different: seed"):
        load_stage(tmp_path / "stage0.pt", lambda _: Parts(), {"seed": 1})


def test_a_kill_while_checkpoints_are_removed_leaves_all_or_none(tmp_path):
    """Half of them would be gone on from, and end in a file that is missing."""
    work = tmp_path / "out" / "work"

    def finish():
        _finish_files(tmp_path / "out", work, {"seed": 0})

    def fill():
        for name in ("stage0.pt", "stage0/checkpoint.pt", "stage0/kept-1.pt"):
            write_text(work / name, "weights")
        write_text(work / "stage0/log.jsonl", "{}\n")
        return contents()

    def contents():
        return {path.relative_to(work) for path in work.rglob("*")}

    whole = fill()
    status, changes = in_child(finish, tmp_path)
    assert status == 0 and changes > 10
    for kill_at in range(1, changes + 1):
        fill()
        assert in_child(finish, tmp_path, kill_at)[0] == KILLED
        assert contents() in (whole, set())
        if not work.exists():
            continue
        finish()
        assert (tmp_path / "out/log.jsonl").read_text() == "{}\n" and (tmp_path / "out/provenance.json").exists()
        assert not work.exists() and not list((tmp_path / "out").glob(".work*"))


def test_a_stage_that_holds_more_than_tensors_is_not_read(tmp_path):
    """Unpickling anything else would run it."""
    torch.save({"fingerprint": {}, "module": tmp_path}, tmp_path / "stage0.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_stage(tmp_path / "stage0.pt", None, {})
