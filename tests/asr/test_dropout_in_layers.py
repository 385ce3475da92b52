"""Every backbone knows whether its layers draw anything at random: two passes share layer executions only when not."""

import pytest
import torch

from tests.models import STILL, batch, conformer, small_encoder, waves


def states(model, data):
    """A layer's output, computed twice from the same input in training mode."""
    model.train()
    state = model.front_end(data.inputs, data.input_lengths)
    return [model.run_layer(0, state).x for _ in range(2)]


CONFORMER = [name for name in type(conformer().config).model_fields if "dropout" in name]
ENCODER = [name for name in type(small_encoder().config).model_fields if "dropout" in name]


@pytest.mark.parametrize(
    ("backbone", "name"),
    [("conformer", name) for name in ["none", *CONFORMER]]
    + [(backbone, name) for backbone in ("wav2vec2", "hubert") for name in ["none", *ENCODER]],
)
def test_dropout_in_layers_is_what_layers_do(backbone, name):
    """With each kind of dropout alone; those of the front end and the CTC layer are not the layers'."""
    if backbone == "conformer":
        model, data = conformer(**{**STILL, name: 0.3} if name != "none" else STILL), batch()
    else:
        settings = {**dict.fromkeys(ENCODER, 0.0), **({} if name == "none" else {name: 0.3})}
        model, data = small_encoder(backbone, **settings), waves()
    first, second = states(model, data)
    assert model.dropout_in_layers == (not torch.equal(first, second))
