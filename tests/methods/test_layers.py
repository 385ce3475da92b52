"""What a file holds from which only some layers run."""

import pytest
import torch

from methods.contract import make_method
from workflows.steps.contract_cases import case


@pytest.mark.parametrize("name", ["baselines.layer_drop", "baselines.intermediate_ctc"])
@pytest.mark.parametrize("backbone", ["conformer", "wav2vec2"])
def test_layers_that_no_point_runs_are_not_shipped(name, backbone):
    tried = case(name, backbone)
    method = tried.method()
    torch.manual_seed(0)
    module = method.build()
    points = {point.depth: point for point in method.points(module)}
    whole = sum(tensor.nbytes for tensor in module.state_dict().values())
    layers = [
        sum(tensor.nbytes for tensor in module.layer_module(layer).state_dict().values())
        for layer in range(module.layers)
    ]
    for point in points.values():
        idle = sum(size for size, count in zip(layers, point.path, strict=True) if count == 0)
        assert method.stored_bytes(module, [point]) == whole - idle
    assert method.stored_bytes(module, list(points.values())) == whole
    smallest, largest = min(points), max(points)
    assert smallest < largest and method.stored_bytes(module, [points[smallest]]) < whole


def test_a_point_that_is_no_path_may_run_all():
    method = make_method(
        "baselines.intermediate_ctc", {"thresholds": [0.5]}, case("methods.unfolding", "wav2vec2").backbone
    )
    module = method.build()
    early = next(point for point in method.points(module) if point.path is None)
    assert method.stored_bytes(module, [early]) == sum(tensor.nbytes for tensor in module.state_dict().values())
