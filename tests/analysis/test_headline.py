"""Whether deeper is better is answered for every system that is asked about, and denied only where none runs deeper."""

import json

from analysis.inputs.results import Results
from analysis.tables.headline import headlines


def answered(pristine, tmp_path, **changes):
    """The systems that are answered for when the experiment is changed; the results themselves stay."""
    content = {**json.loads((pristine / "experiment.json").read_text()), "tables": {}, **changes}
    path = tmp_path / "tiny"
    if not path.exists():
        path.mkdir()
        for name in ("data", "systems"):
            (path / name).symlink_to(pristine / name)
    (path / "experiment.json").write_text(json.dumps(content))
    return [headline.system for headline in headlines(Results(path))]


def test_the_headline_needs_no_figure(pristine, tmp_path):
    figure = {"kind": "depth_curves", "decode": "greedy", "systems": ["f8", "f4"], "baselines": []}
    assert answered(pristine, tmp_path, figures={"figure2": figure}) == ["f8", "f4"]
    assert answered(pristine, tmp_path, figures={"figure2": figure}, headline="f6") == ["f6", "f8", "f4"]
    assert answered(pristine, tmp_path, figures={}, headline="f6") == ["f6"]


def test_without_figures_and_headline_every_system_that_runs_at_several_depths(pristine, tmp_path):
    assert answered(pristine, tmp_path, figures={}) == ["f8", "f6", "f4", "d8", "j8"]
    figure = {"kind": "depth_curves", "decode": "greedy", "systems": ["a12"], "baselines": []}
    assert answered(pristine, tmp_path, figures={"figure2": figure}) == ["f8", "f6", "f4", "d8", "j8"]
    systems = {"a12": {"method": "baselines.all_physical"}, "a8": {"method": "baselines.all_physical"}}
    assert answered(pristine, tmp_path, figures={}, systems=systems) == []
