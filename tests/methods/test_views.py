"""Weights of one call: what a module runs with, and what it has afterwards."""

import dataclasses

import numpy as np
import pytest
import torch

from asr.backbones import BackboneFactory
from methods.contract import Step
from methods.shared.views import with_weights
from workflows.steps.contract_cases import SMALL, VOCABULARY, case

METHODS = {
    "methods.usmlite": {"bits": 4, "n": 2, "m": 4},
    "methods.selfpinching": {"target": 0.5},
    "methods.allinone": {"widths": [1, 0.5], "bits": [32, 4]},
}


def test_the_weights_are_there_for_one_call_and_gradients_reach_what_they_are_made_of():
    module = torch.nn.Linear(3, 2)
    own, x = module.weight, torch.randn(4, 3)
    out = with_weights(module, {"weight": 2 * own[:1], "bias": module.bias[:1]}, lambda part, given: part(given), x)
    assert module.weight is own
    assert torch.allclose(out, 2 * x @ own[:1].T + module.bias[:1])
    out.sum().backward()
    assert torch.allclose(own.grad[0], 2 * x.sum(0)) and torch.all(own.grad[1] == 0)


def test_own_weights_are_in_place_again_after_an_error():
    module = torch.nn.Linear(3, 2)
    own = module.weight

    def fail(part):
        assert part.weight is not own
        raise KeyError("x")

    with pytest.raises(KeyError):
        with_weights(module, {"weight": torch.zeros(2, 3)}, fail)
    assert module.weight is own


@pytest.mark.parametrize("name", METHODS)
def test_layers_that_are_computed_again_run_with_the_weights_of_the_forward_pass(name):
    gradients = []
    for checkpoint_layers in (False, True):
        tried = case(name, "wav2vec2", METHODS[name])
        settings = {**SMALL["wav2vec2"], "checkpoint_layers": checkpoint_layers}
        factory = BackboneFactory("wav2vec2", settings, VOCABULARY["wav2vec2"])
        tried = dataclasses.replace(tried, backbone=factory)
        torch.manual_seed(0)
        np.random.seed(0)  # transformers draws masked spans from it
        method = tried.method(tried.sources())
        module = method.build().train()
        method.losses(module, tried.batch(), Step("train", 0, 7, steps=4))["total"].backward()
        gradients.append({key: each.grad for key, each in module.named_parameters() if each.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > SMALL["wav2vec2"]["layers"] * 10
    for key, plain in gradients[0].items():
        torch.testing.assert_close(plain, gradients[1][key], atol=1e-6, rtol=1e-4, msg=key)
