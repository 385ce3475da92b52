"""12 physical layers of equal bytes, which stand beside the folded systems: built and packed as in a run."""

import copy
import functools

import pytest
import torch

from asr.backbones import BackboneFactory
from asr.corpora.grammar import vocabulary
from methods.contract import TrainedSystem, make_method
from workflows.experiment import Experiment, load_experiment

UNITS = {"smoke": 14, "mini_cpu": 29}
"""Entries of the tokenizers, words or characters: decoder and CTC layer have a row for each."""
EQUAL = [
    (experiment, row)
    for experiment in UNITS
    for row in ("equal gate 65", "equal int4", "equal int4 2:4", "equal gate 65 int4")
]


@functools.cache
def experiment_of(name: str) -> Experiment:
    return load_experiment(name)


def finished(experiment: str, system: str) -> TrainedSystem:
    """A system with random weights, and all that it is derived from, without a step of training."""
    found = experiment_of(experiment)
    entry = found.systems[system]
    backbone = BackboneFactory(**found.backbone_of(system), vocabulary=UNITS[experiment], where=system)
    method = make_method(entry.method, copy.deepcopy(entry.settings), backbone)
    _, *sources = found.lineage(system)
    if sources:
        method.inputs = {"source": finished(experiment, sources[0])}
    torch.manual_seed(0)
    made = method.finish(method.build().eval(), iter(())).eval()
    return TrainedSystem(system, made, method)


def stored_bytes(experiment: str, system: str) -> int:
    made = finished(experiment, system)
    return made.method.stored_bytes(made.module, made.method.points(made.module))


@pytest.mark.parametrize("experiment", UNITS)
def test_every_way_of_holding_has_its_rival(experiment):
    rows = experiment_of(experiment).tables["combined"].rows
    assert [(experiment, name) for name in rows if name.startswith("equal ")] == [
        pair for pair in EQUAL if pair[0] == experiment
    ]


@pytest.mark.parametrize(("experiment", "row"), EQUAL)
def test_they_take_the_bytes_of_the_folded_system_held_in_the_same_way(experiment, row):
    found = experiment_of(experiment)
    rows = found.tables["combined"].rows
    check_rivals(experiment, rows[rows[row].reference].system, rows[row].system)


@pytest.mark.parametrize(("folded", "rival"), [("f6", "a12_bytes"), ("f6_int4", "a12_bytes_int4")])
def test_and_so_do_those_of_the_open_questions(folded, rival):
    check_rivals("mini_cpu", folded, rival)


def check_rivals(experiment: str, folded: str, rival: str) -> None:
    found = experiment_of(experiment)
    backbone = found.backbone_of(rival)["settings"]
    assert backbone["layers"] == 12 and backbone["width"] % backbone["heads"] == 0
    ours, theirs = ([found.systems[name] for name in found.lineage(system)] for system in (folded, rival))
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):  # the first of each chain is what is held
        same = [{key: value for key, value in each.settings.items() if key != "source"} for each in (one, other)]
        assert one.method == other.method and same[0] == same[1]
        assert one.training == other.training
    assert stored_bytes(experiment, rival) == pytest.approx(stored_bytes(experiment, folded), rel=0.03)


def test_units_are_those_of_the_grammar():
    letters = set("".join(vocabulary("sentences")))
    assert UNITS["mini_cpu"] == len(letters) + len(["<blank>", "<space>", "<sos/eos>"])
