"""Layers through torch's compiler: one graph for all of them, and the losses of a training that compiles nothing."""

import contextlib
import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from asr.backbones import LayerDrop, compilation
from asr.backbones.conformer_block import run_block
from asr.backbones.speech_encoder import _run
from asr.settings import TrainingSettings
from asr.training import compile_layers
from common.errors import UserError
from methods.shared.views import with_weights
from tests.models import STILL, batch, conformer, small_encoder, waves

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def graphs(function, calls):
    """How many graphs `function` becomes over `calls`; torch raises where one would be broken."""
    torch._dynamo.reset()
    counter = CompileCounter()
    whole = torch.compile(function, backend=counter, fullgraph=True)
    for call in calls:
        call(whole)
    return counter.frame_count


def conformer_calls(scales=(0.5, 1.0, 1 / 0.7)):
    model = conformer(dropout=0.1, spec_augment=None).train()
    state = model.front_end(batch().inputs, batch().input_lengths)
    given = state.x.detach(), state.positions.detach(), state.valid
    for layer in range(3):
        for scale in scales:
            yield lambda run, layer=layer, scale=scale: run(
                model.layer_module(layer), *given, torch.tensor(scale), True
            )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_block_is_one_graph_for_all_layers_and_draws(precision):
    with torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext():
        assert graphs(run_block, conformer_calls()) == 1


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_layer_of_wav2vec2_is_one_graph(pre_norm):
    model = small_encoder(pre_norm=pre_norm).train()
    state = model.front_end(waves().inputs, waves().input_lengths)
    given = state.x.detach(), state.attention_mask
    assert graphs(_run, [lambda run, layer=layer: run(model.layer_module(layer), *given) for layer in range(3)]) == 1


def losses(model, steps, compiles, path=(1, 2)):
    """Of a few training steps along a path, layers dropped and scaled, with weights seen through views."""
    model = copy.deepcopy(model).train()
    model.compiles_layers = compiles
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    found = []
    for step in range(steps):
        drop = LayerDrop.draw(0.4, sum(path), torch.Generator().manual_seed(step))
        data = batch(seed=step)

        def loss(module, data=data, drop=drop):
            state = module.run_path(path, module.front_end(data.inputs, data.input_lengths), drop)
            return module.loss(module.outputs(module.finish(state), data), data)["total"]

        rounded = {
            name: parameter + 0.01 * parameter.detach().sign()
            for name, parameter in model.named_parameters()
            if name.endswith("feed_forward.w_1.weight")
        }
        total = with_weights(model, rounded, loss)
        total.backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(float(total.detach()))
    return found


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_losses_are_those_of_a_training_that_compiles_nothing(monkeypatch, backend):
    """torch's `aot_eager` has the same graphs, forward and backward, and runs them as they are: no C++ is compiled."""
    if backend == "inductor":
        try:
            compilation.check_compiler(CPU)
        except UserError as error:
            pytest.skip(str(error))
    monkeypatch.setattr(compilation, "BACKEND", backend)
    torch._dynamo.reset()
    compilation.compiled.cache_clear()
    model = conformer(**STILL, layers=2)
    expected, found = (losses(model, 4, compiles) for compiles in (False, True))
    assert found == pytest.approx(expected, rel=1e-5) and expected[0] != expected[-1]
    assert compilation.compiled.cache_info().hits > 0
    compilation.compiled.cache_clear()


def test_the_setting_is_for_training_steps_alone():
    model = small_encoder()
    for kind, compiles in (("blocks", True), ("none", False)):
        compile_layers(torch.nn.ModuleDict({"backbone": model}), TrainingSettings(steps=1, compile=kind), CUDA)
        assert model.train().compiles_now is compiles and not model.eval().compiles_now
        with torch.no_grad():
            assert not model.train().compiles_now


def test_without_a_compiler_it_is_said(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="C\\+\\+ compiler on CPUs, and there is no no-such-compiler"):
        compilation.check_compiler(CPU)
    compilation.check_compiler(CUDA)
