"""12 physical layers of equal bytes, which `smoke` has beside its folded systems: built and packed as in a run."""

import copy

import pytest
import torch

from asr.backbones import BackboneFactory
from methods.contract import TrainedSystem, make_method
from workflows.experiment import load_experiment

WORDS = 14
"""Entries of the tokenizer of `smoke`, decoder and CTC layer have a row for each."""
EXPERIMENT = load_experiment("smoke")
ROWS = EXPERIMENT.tables["combined"].rows
EQUAL = [name for name in ROWS if name.startswith("equal ")]


def finished(system: str) -> TrainedSystem:
    """A system with random weights, and all that it is derived from, without a step of training."""
    entry = EXPERIMENT.systems[system]
    backbone = BackboneFactory(**EXPERIMENT.backbone_of(system), vocabulary=WORDS, where=system)
    method = make_method(entry.method, copy.deepcopy(entry.settings), backbone)
    _, *sources = EXPERIMENT.lineage(system)
    if sources:
        method.inputs = {"source": finished(sources[0])}
    torch.manual_seed(0)
    made = method.finish(method.build().eval(), iter(())).eval()
    return TrainedSystem(system, made, method)


def stored_bytes(system: str) -> int:
    made = finished(system)
    return made.method.stored_bytes(made.module, made.method.points(made.module))


def test_every_way_of_holding_has_its_rival():
    assert EQUAL == ["equal gate 65", "equal int4", "equal int4 2:4", "equal gate 65 int4"]


@pytest.mark.parametrize("row", EQUAL)
def test_they_take_the_bytes_of_the_folded_system_held_in_the_same_way(row):
    rival = ROWS[row].system
    folded = ROWS[ROWS[row].reference].system
    backbone = EXPERIMENT.backbone_of(rival)["settings"]
    assert backbone["layers"] == 12 and backbone["width"] % backbone["heads"] == 0
    ours, theirs = ([EXPERIMENT.systems[name] for name in EXPERIMENT.lineage(system)] for system in (folded, rival))
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):  # the first of each chain is what is held
        same = [{key: value for key, value in each.settings.items() if key != "source"} for each in (one, other)]
        assert one.method == other.method and same[0] == same[1]
        assert one.training == other.training
    assert stored_bytes(rival) == pytest.approx(stored_bytes(folded), rel=0.03)
