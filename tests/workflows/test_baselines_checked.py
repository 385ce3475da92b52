"""Baselines in an experiment: what cannot work is refused by the check, and their edges and offers are seen by it."""

import pytest
import torch

from asr.backbones import BackboneFactory
from methods.contract import TrainedSystem, make_method
from tests.workflows.test_experiment import changed, put, refused_by_check
from workflows.check import check_systems
from workflows.experiment import load_experiment
from workflows.steps.training_step import measurable_stages


def system(method, **entry):
    return put("systems", "new", {"method": f"baselines.{method}", **entry})


def both(*changes):
    def change(values):
        for each in changes:
            each(values)

    return change


TEACHER = {"teacher": {"system": "a4"}}
REFUSED = [
    (
        system("distillation", settings=TEACHER, backbone={"width": 64}),
        "systems.new: settings.hidden_weight: layers of width 64",
    ),
    (
        system("distillation", settings={**TEACHER, "foldable": {"depth": 3}}),
        "systems.new: settings.foldable.depth: 3 is below the 4 physical layers",
    ),
    (
        system("distillation", settings={"teacher": {"system": "heard"}}, family="speech"),
        "systems.new: settings.teacher: 'heard' recognises nothing before it is fine-tuned",
    ),
    (
        system("distillation", settings={"teacher": {"system": "widths"}}),
        "systems.new: settings.teacher: 'widths' does not run along paths alone",
    ),
    (
        system("low_rank", settings={"source": {"system": "f2_half_int4"}}),
        "systems.new: settings.source: the weights of 'f2_half_int4' are packed",
    ),
    (
        system("low_rank", settings={"source": {"system": "f2"}, "keep": 1.5}),
        "systems.new.settings: keep: Input should be less than or equal to 1",
    ),
    (system("layer_drop", settings={"depths": [5]}), "systems.new: settings.depths: [5] are not different numbers"),
    (system("intermediate_ctc", settings={"exits": [2, 4]}), "systems.new: settings.exits: [2, 4] are not ascending"),
    (
        both(
            system("intermediate_ctc", settings={"thresholds": [0.5]}),
            put("tables", "table1", "rows", "N", {"system": "new", "point": "h0050"}),
        ),
        "tables.table1.rows.N.point: 'new' has no point 'h0050'; did you mean 'h0500'?",
    ),
    (
        both(
            system("layer_drop", settings={"depths": [2]}),
            put("tables", "table1", "rows", "N", {"system": "new", "depth": 3}),
        ),
        "tables.table1.rows.N.depth: 'new' is not offered at depth 3; its depths: 2, 4",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_work_is_refused_before_any_work(tmp_path, change, message):
    refused_by_check(changed(tmp_path, change), message)


def test_what_a_student_reads_is_read_by_what_derives_from_it(tmp_path):
    student = {
        "teacher": {"system": "a4"},
        "start": {"system": "a4", "layers": "sensitivity"},
        "foldable": {"depth": 4},
    }
    pruned = put("systems", "thin", {"method": "baselines.low_rank", "settings": {"source": {"system": "new"}}})
    rows = put("tables", "table1", "rows", "N", {"system": "thin", "depth": 3})
    path = changed(tmp_path, both(system("distillation", settings=student, backbone={"layers": 2}), pruned, rows))
    experiment = load_experiment(str(path))
    check_systems(experiment, str(path))
    assert experiment.needs("new") == ["a4"] and experiment.needs("thin") == ["a4", "new"]
    assert experiment.needs_sensitivity("new") == ["a4"]
    assert experiment.backbone_of("thin")["settings"]["layers"] == 2


@pytest.mark.parametrize(("source", "measured"), [("f2", True), ("student", False), ("taught", False)])
def test_a_training_step_is_measured_unless_its_losses_read_a_teacher(tmp_path, source, measured):
    """Its own, or those of the method at the beginning of its chain: measuring has no teacher at hand."""
    taught = put("systems", "taught", {"method": "baselines.distillation", "settings": TEACHER})
    entry = system("magnitude", settings={"source": {"system": source}}, training={"steps": 3})
    path = changed(tmp_path, both(taught, entry))
    experiment, trained = load_experiment(str(path)), {}
    for name in (source, "new"):
        asked = experiment.systems[name]
        backbone = BackboneFactory(**experiment.backbone_of(name), vocabulary=12)
        method = make_method(asked.method, asked.settings, backbone, packages=["tests.toys"])
        trained[name] = TrainedSystem(name, torch.nn.Module(), method)
    trained["new"].method.check_sources({"source": trained[source].method})
    stages = measurable_stages(trained["new"], experiment.training_of("new"))
    assert [stage.training.steps for stage in stages] == ([3] if measured else [])
