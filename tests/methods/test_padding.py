"""A batch that is padded further, so that there are fewer shapes, gives the losses and gradients that it gave."""

import dataclasses

import pytest
import torch

from asr.backbones import BackboneFactory
from methods.contract import Step
from workflows.steps.contract_cases import case

CASES = [
    ("baselines.all_physical", "conformer", {}, 64),
    ("methods.unfolding", "conformer", {"depth": 8}, 64),
    ("baselines.all_physical", "wav2vec2", {}, 512),
    ("baselines.all_physical", "hubert", {}, 512),
]


def padded(batch, multiple):
    """As it is with `training.pad_to_seconds`: zeros behind all inputs, nothing else."""
    time = -(-batch.inputs.size(1) // multiple) * multiple
    inputs = batch.inputs.new_zeros(len(batch.ids), time, *batch.inputs.shape[2:])
    inputs[:, : batch.inputs.size(1)] = batch.inputs
    return dataclasses.replace(batch, inputs=inputs)


def step_of(tried, batch, **backbone):
    """Terms of a training step, and the gradients of their total. Masks of wav2vec2 and HuBERT are drawn for the padded
    shape, so they are left out; they have no batch norm."""
    factory = BackboneFactory(tried.backbone.name, {**tried.backbone.settings, **backbone}, tried.backbone.vocabulary)
    method = dataclasses.replace(tried, backbone=factory).method()
    torch.manual_seed(0)
    module = method.build().train(factory.name == "conformer")
    terms = method.losses(module, batch, Step("train", 5, 7, steps=9))
    terms["total"].backward()
    gradients = {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}
    return terms, gradients


def difference(ours, theirs):
    return max(float((ours[name] - theirs[name]).detach().abs().max()) for name in theirs)


@pytest.mark.parametrize(("name", "backbone", "settings", "multiple"), CASES)
def test_losses_and_gradients_do_not_depend_on_further_padding(name, backbone, settings, multiple):
    tried = case(name, backbone, settings)
    longer = padded(tried.batch(), multiple)
    assert longer.inputs.size(1) > tried.batch().inputs.size(1)
    terms, gradients = step_of(tried, tried.batch())
    found, theirs = step_of(tried, longer)
    assert found.keys() == terms.keys() and theirs.keys() == gradients.keys()
    assert difference(found, terms) < 1e-4 and difference(theirs, gradients) < 1e-3


def test_where_padding_is_not_masked_they_do():
    """ESPnet's way, to see that the test above can fail."""
    tried = case("baselines.all_physical", "conformer")
    terms, _ = step_of(tried, tried.batch(), mask_padding=False)
    found, _ = step_of(tried, padded(tried.batch(), 64), mask_padding=False)
    assert difference(found, terms) > 1e-3
