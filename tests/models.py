"""Small models and batches for tests."""

import torch

from asr.backbones import BackboneFactory, Batch
from workflows.steps import contract_cases

VOCABULARY = contract_cases.VOCABULARY["conformer"]
STILL = {"dropout": 0.0, "layer_drop": 0.0, "spec_augment": None}
"""Nothing random: passes can be compared."""
SMALL = {key: value for key, value in contract_cases.SMALL["conformer"].items() if key not in STILL}
"""What methods are checked on, with the backbone's own randomness."""


def factory(**settings):
    return BackboneFactory("conformer", {**SMALL, **settings}, VOCABULARY)


def conformer(seed=0, **settings):
    torch.manual_seed(seed)
    model = factory(**settings).build()
    with torch.no_grad():  # statistics and affine maps of norms away from their neutral start
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def batch(lengths=(90, 61, 40), targets=((1, 2, 3), (4, 5), (6,)), input_dim=20, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(lengths), max(lengths), input_dim, generator=generator)
    tokens = [torch.tensor(row) for row in targets]
    padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)
    ids = tuple(f"s-{number}" for number in range(len(lengths)))
    return Batch(ids, inputs, torch.tensor(lengths), padded, torch.tensor([len(row) for row in tokens]))


SMALL_ENCODER = {
    key: value for key, value in contract_cases.WAVE.items() if not key.endswith(("dropout", "layer_drop"))
}
"""A wav2vec2 or HuBERT that a test can afford: 16 samples a frame."""


def small_encoder(name="wav2vec2", seed=0, vocabulary=32, **settings):
    torch.manual_seed(seed)
    model = BackboneFactory(name, {**SMALL_ENCODER, **settings}, vocabulary).build()
    with torch.no_grad():  # norms away from their neutral start
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def waves(lengths=(900, 500, 731), targets=((5, 6), (7,), (8, 9)), seed=1):
    """Waveforms with letters, as `batch`."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(count, generator=generator) for count in lengths]
    tokens = [torch.tensor(row) for row in targets]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = tuple(f"s-{number}" for number in range(len(lengths)))
    targets_of = pad(tokens, batch_first=True, padding_value=-1)
    return Batch(
        ids, pad(rows, batch_first=True), torch.tensor(lengths), targets_of, torch.tensor([len(r) for r in tokens])
    )
