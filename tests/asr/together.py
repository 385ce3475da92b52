"""Trainings whose batches are split between processes: run by one process or by two, they are to give the same.

    python -m tests.asr.together FOLDER 2

Batch number n has five utterances of different lengths. A process that trains alone has all of them, of two processes
the first has one or two, the other the rest. Nothing is drawn at random.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.nn.utils.rnn import pad_sequence

from asr.backbones import BackboneFactory, Batch
from asr.batches import StageData
from asr.processes import ended_together
from asr.seeds import seed_step
from asr.settings import TrainingSettings
from asr.training import make_fabric, run_stage
from common.errors import UserError, run
from workflows.steps import contract_cases
from workflows.steps.train import _AtStage

UTTERANCES = 5
WITHOUT_GRADIENT = ("k_proj.bias", "linear_k.bias", "depthwise_conv.bias")
"""What attention adds to all keys alike falls out of its softmax, what is added before batch norm out of the norm. Of
the rounding errors of a gradient that is 0 AdamW makes steps: these biases stay as they are."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A training of four steps: a method with its settings, changes of a small backbone, further training settings."""

    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    backbone: str = "wav2vec2"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def joint(reduction: str) -> Case:
    """Deep and seed pass far enough from each other for the KL term to be a part of the loss."""
    settings = {"alpha_kl": 0.5, "depth": 6, "training_path": "2 2 2", "kl": {"reduction": reduction}}
    return Case("methods.unfolding", settings, changes={"initial_deviation": 0.2})


def one_batch_norm(method: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> Case:
    """A Conformer whose batch norm is that of all processes. Some gradients of what attention makes of positions are
    little more than rounding errors, of which AdamW makes steps too: its rate is low."""
    optimiser = {"learning_rate": 5e-5, "clip_norm": 1.0}
    return Case(method, settings or {}, "conformer", changes, {"batch_norm": "global", "optimiser": optimiser})


NESTED = {"widths": [1.0, 0.5], "bits": [32, 4], "depths": [4], "sampling": "sandwich"}
TAUGHT = {"teacher": {"system": "source"}}
CASES = {
    "sums": Case("baselines.all_physical", training={"accumulate": 2}),
    "means": Case("baselines.all_physical", changes={"ctc_reduction": "mean"}),
    **{f"kl_{reduction}": joint(reduction) for reduction in ("batch", "sum", "mean")},
    "gates": Case("methods.selfpinching"),
    "weights_alone": Case("methods.usmlite", {"n": 2, "m": 4, "sr_ste": 0.1}),
    "hidden_states": Case("baselines.distillation", TAUGHT),
    "masked": Case("baselines.masked_prediction", {"masked_share": 1.0, "span": 1, "clusters": 4}),
    # Layers, paths and sub-nets that are drawn are the same in all processes.
    "layer_drop": one_batch_norm("baselines.all_physical", layer_drop=0.5),
    "random_path": one_batch_norm("methods.unfolding", {"depth": 6, "training_path": "random"}),
    "sub_nets": one_batch_norm("methods.allinone", NESTED),
}


def settings(devices: int, **changes: Any) -> TrainingSettings:
    base = {
        "steps": 4,
        "validate_every": 4,
        "log_every": 1,
        "keep": "last",
        "checkpoint_every": 2,
        "tensorboard": False,
        "devices": devices,
    }
    base |= {"optimiser": {"learning_rate": 3e-4, "clip_norm": 1.0}, "schedule": {"kind": "linear", "warmup_steps": 1}}
    return TrainingSettings.model_validate({**base, **changes})


def train_all(folder: Path, devices: int) -> None:
    """Train every case in a folder of its name, with the log and, as `final.pt`, the state that it ends with; the first
    one once more, interrupted and resumed. Of two processes the second one fails in the end."""
    fabric = make_fabric(settings(devices))
    for name, case in CASES.items():
        train(fabric, folder / name, case, devices)
    if devices == 2:
        with contextlib.suppress(KeyboardInterrupt):
            train(fabric, folder / "resumed", CASES["sums"], devices, interrupt_at=6)
        train(fabric, folder / "resumed", CASES["sums"], devices)
        train(fabric, folder / "fails", CASES["sums"], devices, fail_at=5)


def train(
    fabric: Fabric,
    folder: Path,
    case: Case,
    devices: int,
    interrupt_at: int | None = None,
    fail_at: int | None = None,
) -> None:
    training = settings(devices, **case.training)
    made = contract_cases.case(case.method, case.backbone, case.settings)
    backbone = BackboneFactory(case.backbone, {**made.backbone.settings, **case.changes}, made.backbone.vocabulary)
    made = dataclasses.replace(made, backbone=backbone)
    method = made.method(made.sources())
    stage = method.stages(training)[0]
    seed_step(0, "build", 0, 0)
    module = method.begin_stage(method.build(), stage, made.batches(stage.labelled))
    for parameter_name, parameter in module.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not parameter_name.endswith(WITHOUT_GRADIENT))
    if stage.labelled and case.backbone == "wav2vec2":
        module.model.config.apply_spec_augment = False  # no setting does: its masks are drawn

    def batches(start, rank, world):
        while start != interrupt_at:
            if start == fail_at and rank:
                raise UserError("the second process fails")
            yield numbered(start, case.backbone, stage.labelled, rank, world)
            start += 1
        raise KeyboardInterrupt

    data = StageData(batches, lambda: iter([numbered(99, case.backbone, stage.labelled)]))
    run_stage(fabric, module, _AtStage(method, stage, 0), data, training, 0, folder, {}, stage.name)
    if fabric.is_global_zero:
        torch.save(module.state_dict(), folder / "final.pt")


def numbered(number: int, backbone: str, labelled: bool, rank: int = 0, world: int = 1) -> Batch:
    """The part of batch `number` that this process has."""
    generator = torch.Generator().manual_seed(number)
    unit, shape = (1, (20,)) if backbone == "conformer" else (10, ())
    rows, tokens = [], []
    for place in range(UTTERANCES):
        length = unit * int(torch.randint(40, 90, (), generator=generator))
        rows.append(torch.randn(length, *shape, generator=generator))
        tokens.append(torch.randint(4, 11, (1 + place % 3,), generator=generator))
    first = 1 + number % 2
    mine = slice(None) if world == 1 else slice(first) if rank == 0 else slice(first, None)
    ids = tuple(f"u{number}-{place}" for place in range(UTTERANCES))[mine]
    inputs, lengths = pad_sequence(rows[mine], True), torch.tensor([len(row) for row in rows[mine]])
    if not labelled:
        return Batch(ids, inputs, lengths)
    target_lengths = torch.tensor([len(row) for row in tokens[mine]])
    return Batch(ids, inputs, lengths, pad_sequence(tokens[mine], True, -1), target_lengths)


if __name__ == "__main__":
    sys.exit(run(ended_together()(lambda: train_all(Path(sys.argv[1]), int(sys.argv[2])))))
