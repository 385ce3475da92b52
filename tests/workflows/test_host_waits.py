"""What `workflows.steps.host_waits` finds, operation by operation; a pretended device gives the numbers of the CPU."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional as F

from asr.seeds import seed_step
from methods.contract import Step
from workflows.steps.contract_cases import case
from workflows.steps.host_waits import DEVICE, HostWaits

WAITING = {
    "a number": lambda x: float(x.sum()),
    "a condition": lambda x: 1 if (x > 0).any() else 0,
    "a list": lambda x: x.tolist(),
    "a slice up to a tensor": lambda x: x[: x[0, 0].long().clamp(1, 1)],
    "a copy to the host": lambda x: x.cpu(),
    "a copy into a tensor of the host": lambda x: torch.zeros(3, 2).copy_(x),
    "places": lambda x: (x > 0).nonzero(),
    "chosen numbers": lambda x: x.masked_select(x > 0),
    "a boolean index": lambda x: x[x > 0],
    "an assignment by a boolean index": lambda x: x.index_put((x > 0,), x.new_zeros(())),
    "what is there": lambda x: x.unique(),
    "equality": lambda x: torch.equal(x, x),
    "a tensor of numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "a blocking copy to the device": lambda x: torch.ones(2).to(x.device),
    "an index on the host": lambda x: x[torch.tensor([0, 2])],
    "lengths on the device": lambda x: F.ctc_loss(
        x.log_softmax(-1)[:, None], x.new_ones(1, 1).long(), *[x.new_ones(1).long()] * 2, reduction="none"
    ),
}
GOES_ON = {
    "sums": lambda x: (x @ x.T).sum(),
    "a mask of lengths on the host": lambda x: torch.where(
        torch.arange(3, device=x.device)[:, None] < torch.tensor([2, 1]).to(x.device, non_blocking=True), x, 0.0
    ),
    "a number of the host": lambda x: x * torch.tensor(3.0),
    "numbers read on the host": lambda x: x[: int(torch.tensor([2]).max())],
    "a draw on the device": lambda x: F.dropout(x),
    "lengths on the host": lambda x: F.ctc_loss(
        x.log_softmax(-1)[:, None], x.new_ones(1, 1).long(), torch.tensor([3]), torch.tensor([1]), reduction="none"
    ),
}


def waits_of(computation) -> list[str]:
    with HostWaits() as host:
        x = torch.tensor([[1.0, -2.0], [3.0, 4.0], [-5.0, 6.0]]).to(DEVICE)
        host.waits.clear()
        computation(x)
        return host.waits


@pytest.mark.parametrize("what", WAITING)
def test_a_wait_is_found_with_its_place(what):
    (found,) = waits_of(WAITING[what])
    assert "at tests/workflows/test_host_waits.py:" in found


@pytest.mark.parametrize("what", GOES_ON)
def test_what_needs_no_wait_is_none(what):
    assert waits_of(GOES_ON[what]) == []


def test_waits_of_the_backward_pass_are_found():
    def masked_scatter(x):
        x = x.clone().requires_grad_()
        torch.zeros_like(x).masked_scatter(x.detach() > 0, x).sum().backward()

    (found,) = waits_of(masked_scatter)
    assert found == "masked_scatter_backward in the backward pass (MaskedScatterBackward0)"


def test_tensors_of_both_places_are_refused():
    with pytest.raises(RuntimeError, match="a tensor of the host and one of the device"):
        waits_of(lambda x: x + torch.ones(3, 2))


def test_a_generator_of_the_host_draws_for_the_host():
    with pytest.raises(RuntimeError, match="a generator of the host"):
        waits_of(lambda x: torch.rand(3, device=x.device, generator=torch.Generator()))


@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
def test_a_pretended_device_gives_the_numbers_of_the_cpu(backbone):
    small = case("baselines.all_physical", backbone)
    torch.manual_seed(0)
    module, batch, method = small.backbone.build().train(), small.batch(), small.method()
    with HostWaits():
        far = copy.deepcopy(module).to(DEVICE)
        moved = {key: value.to(DEVICE) for key, value in vars(batch).items() if isinstance(value, torch.Tensor)}
        losses = []
        for which, given in ((module, batch), (far, dataclasses.replace(batch, **moved))):
            seed_step(1, "train", 0, 0)
            losses.append(method.losses(which, given, Step("train", 0, 0))["total"])
            losses[-1].backward()
        torch.testing.assert_close(losses[0].detach(), losses[1].detach().cpu())
        for own, other in zip(module.parameters(), far.parameters(), strict=True):
            assert (own.grad is None) == (other.grad is None)
            if own.grad is not None:
                torch.testing.assert_close(own.grad, other.grad.cpu(), rtol=1e-3, atol=1e-4)
