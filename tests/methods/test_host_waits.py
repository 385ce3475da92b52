"""Settings of methods that change what a step of training computes: none of them makes the host wait for a GPU.
`test_contract` asks the same of every method as it is."""

import dataclasses

import pytest

from workflows.steps.contract_cases import case
from workflows.steps.contract_checks import check_host_waits

FOLDABLE = ("methods.unfolding", {"depth": 6, "training_path": "random"})
CASES = [
    ("methods.unfolding", "conformer", {"depth": 6, "training_path": "random", "kl": {"reduction": "mean"}}),
    ("methods.unfolding", "wav2vec2", {"depth": 6, "kl": {"reduction": "sum"}, "share_prefix": True}),
    ("methods.allinone", "conformer", {"sampling": "sandwich", "heads": True, "scales": "tensor"}),
    ("methods.allinone", "wav2vec2", {"bits": [8, 2], "reconstruction": "floor"}),
    ("methods.selfpinching", "wav2vec2", {"target": 0.3}),
    ("methods.usmlite", "wav2vec2", {"bits": 4, "n": 2, "m": 4, "sr_ste": 2e-4, "group": 16, "output_bits": 8}),
    ("methods.usmlite", "wav2vec2", {"bits": 2, "n": 2, "m": 4, "masks": "once"}),
    ("baselines.magnitude", "wav2vec2", {"schedule": "gradual", "scope": "global"}),
    ("baselines.magnitude", "wav2vec2", {"schedule": "parp"}),
    ("baselines.distillation", "wav2vec2", {"foldable": {"depth": 6, "target": "both"}, "kl": {"reduction": "mean"}}),
]


@pytest.mark.parametrize(("name", "backbone", "settings"), CASES)
def test_no_step_makes_the_host_wait(name, backbone, settings, tmp_path):
    made = case(name, backbone, settings)
    if "source" in made.settings:
        made = dataclasses.replace(made, source=FOLDABLE)
    check_host_waits(made, tmp_path)
