"""The training loop itself on a pretended GPU: from one step to the next the host waits for nothing."""

import dataclasses
import sys

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy

from asr.batches import StageData
from asr.settings import TrainingSettings
from asr.training import run_stage
from tests.models import batch, factory
from workflows.steps.contract_cases import case
from workflows.steps.host_waits import DEVICE, HostWaits
from workflows.steps.train import _AtStage

RANDOM = {"dropout": 0.1, "attention_dropout": 0.1, "layer_drop": 0.3}
SPEC_AUGMENT = {"time_warp_window": 3, "frequency_width": 4, "time_width": 6}
FOLDED = {"depth": 8, "last": 2, "training_path": "random"}
LOGGED_AFTER = 3


class Pretended(CPUAccelerator):
    """torch's CPU, under another name."""

    def setup_device(self, device):
        pass


@dataclasses.dataclass
class Noting(_AtStage):
    """Notes the waits since the step before."""

    host: HostWaits
    found: list[list[str]] = dataclasses.field(default_factory=list)

    def after_step(self, module, index):
        super().after_step(module, index)
        self.found.append(list(self.host.waits))
        self.host.waits.clear()
        if index == LOGGED_AFTER + 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "settings"), [("baselines.all_physical", {}), ("methods.unfolding", FOLDED)])
def test_no_step_waits_for_the_device(tmp_path, monkeypatch, name, settings):
    """Warps, masks, dropout, dropped layers, batch norm, clipping, AdamW, the flag of finiteness: all but the log."""
    optimisers = sys.modules[torch.optim.Optimizer.__module__]
    monkeypatch.setattr(optimisers, "_get_fused_kernels_supported_devices", lambda: [DEVICE.type])
    schedule = {"kind": "linear", "warmup_steps": 2}
    training = TrainingSettings(steps=99, accumulate=2, log_every=LOGGED_AFTER, tensorboard=False, schedule=schedule)
    with HostWaits() as host:
        backbone = factory(**RANDOM, spec_augment=SPEC_AUGMENT)
        method = dataclasses.replace(case(name, "conformer", settings), backbone=backbone).method()
        torch.manual_seed(0)
        module = method.build()
        (stage,) = method.stages(training)
        fabric = Fabric(strategy=SingleDeviceStrategy(DEVICE, Pretended()))
        data = StageData(
            lambda start, rank, world: (batch(seed=number).to(DEVICE) for number in range(start, 99)),
            lambda: iter([batch(seed=100).to(DEVICE)]),
        )
        objective = Noting(method, stage, 0, host)
        with pytest.raises(KeyboardInterrupt):
            run_stage(fabric, module, objective, data, training, 0, tmp_path, {}, stage.name)
    assert len(objective.found) == LOGGED_AFTER + 2
    while_logging = objective.found.pop(LOGGED_AFTER)
    assert objective.found[1:] == [[]] * LOGGED_AFTER
    read = {wait.rpartition(":")[0].rpartition(" ")[2] for wait in while_logging}
    assert read == {"asr/training_log.py", "asr/finiteness.py"}
