"""Reading experiments: what is wrong is said with file and key, before any work and without torch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from analysis.inputs.results import Results
from common.errors import UserError
from tests.workflows.commands import command, one_clear_error, refused_by_check
from workflows.edges import Edges
from workflows.experiment import load_experiment
from workflows.experiment.decides import evaluation_inputs, training_inputs
from workflows.experiment.merging import NO_EXPERIMENTS, chain_of
from workflows.experiment.shares import in_steps

TINY = Path("tests/workflows/tiny.yaml")


def changed(tmp_path, change, name="changed"):
    values = yaml.safe_load(TINY.read_text())
    change(values)
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(values):
        for key in keys:
            values = values[key]
        values[last] = value

    return change


WRONG = [
    (put("trainin", {}), "unknown key 'trainin'; did you mean 'training'"),
    (put("training", "step", 3), "training: unknown key 'step'; did you mean 'steps'"),
    (put("training", "steps", 0), "training.steps: Input should be greater than 0"),
    (
        put("systems", "f2", "method", "methods.unfoldng"),
        "unknown method 'methods.unfoldng'; did you mean 'methods.unfolding'",
    ),
    (put("systems", "student", "settings", "teacher", "system", "a44"), "unknown system 'a44'; did you mean 'a4'"),
    (put("tables", "table1", "rows", "F1", "system", "f22"), "unknown system 'f22'; did you mean 'f2'"),
    (put("tables", "table1", "decode", "gredy"), "unknown decode 'gredy'; did you mean 'greedy'"),
    (put("tables", "table1", "reference", "9"), "tables.table1.reference: unknown row '9'"),
    (put("systems", "a4", "paths", ["1 1 1"]), "systems.a4.paths: path '1 1 1' has 3 counts for 4 physical layers"),
    (put("systems", "a4", "paths", ["1 1 x 1"]), "systems.a4.paths: '1 1 x 1' is not a path"),
    (
        put("tables", "table4", "rows", "1", {"system": "w2", "path": "1 1 1"}),
        "tables.table4.rows.1.path: path '1 1 1' has 3 counts for 2 physical layers",
    ),
    (put("tables", "table4", "rows", "1", {"system": "a4"}), "a row needs one of depth, path and point"),
    (put("systems", "a-4", {"method": "baselines.all_physical"}), "'a-4' is not a plain name"),
    (put("systems", "a4", "training", {"stepz": 1}), "systems.a4.training: unknown key 'stepz'"),
    (put("systems", "w2", "family", "speach"), "systems.w2.family: unknown family 'speach'; did you mean 'speech'"),
    (put("families", "speech", "titel", "x"), "families.speech: unknown key 'titel'; did you mean 'title'"),
    (put("families", "speech", "training", {"steps": 0}), "families.speech.training: steps: Input should be greater"),
    (
        put("families", "speech", "decodes", ["greddy"]),
        "families.speech.decodes: unknown decode 'greddy'; did you mean",
    ),
    (put("families", "spe ech", {"title": "x", "backbone": {"name": "wav2vec2"}}), "'spe ech' is not a plain name"),
    (put("families", "audio", {"title": "x", "backbone": {"name": "wav2vec2"}}), "'audio' is the folder of the"),
    (
        put("families", "speech", "features", {"kind": "waveform", "mels": 80}),
        "families.speech.features: mels: not for",
    ),
    (put("families", "speech", "features", {"kind": "waveform", "store": True}), "store: not for kind 'waveform'"),
    (put("families", "speech", "tokenizer", {"units": "char", "letters": "x"}), "letters goes with units 'letter'"),
    (put("systems", "a4", "seeds", 0), "systems.a4.seeds: 0 is a number of seeds, of which one is the least"),
    (put("systems", "a4", "seeds", [1, 1]), "systems.a4.seeds: each may be named once"),
    (
        put("systems", "f2_half", "seeds", [0, 2, 3]),
        "systems.f2_half.seeds: it starts from 'f2', which has no seed 2, 3 (its seeds: 0)",
    ),
    (put("systems", "heard", "seeds", [1]), "systems.w2.seeds: it starts from 'heard', which has no seed 0"),
    (put("further_sets", ["test_a"]), "further_sets: 'test_a' is the dev set or a test set already"),
    (put("further_sets", ["test_c", "test_c"]), "further_sets: each may be named once"),
    (put("tables", "table1", "sets", ["tset_a"]), "tables.table1.sets: unknown set 'tset_a'; did you mean 'test_a'"),
    (put("tables", "table1", "sets", ["dev", "dev"]), "tables.table1.sets: each may be named once"),
    (put("tables", "table1", "kind", "table5"), "tables.table1.kind"),
    (
        lambda values: values["tables"]["table1"].update(decode="beam", rows={"1": {"system": "w2", "depth": 2}}),
        "tables.table1.decode: row '1' is decoded by greedy, not by 'beam'",
    ),
    (
        lambda values: values["figures"]["figure2"].update(decode="beam", baselines=["w2"]),
        "figures.figure2.decode: system 'w2' is decoded by greedy, not by 'beam'",
    ),
    (put("figures", "figure2", "table", "table11"), "figures.figure2.table: unknown table 'table11'; did you mean"),
    (put("figures", "figure2", "sensitivity", "w3"), "figures.figure2.sensitivity: unknown system 'w3'; did you mean"),
    (
        put("tables", "bits", "published", "paper_table1"),
        "tables.bits: published: a table of kind systems is one's own",
    ),
    (put("tables", "table1", "title", "x"), "tables.table1: title: a table of kind table1 has the paper's"),
    (put("tables", "table1", "reference", None), "tables.table1: reference: a table of kind table1 needs it"),
    (put("tables", "table1", "published", None), "tables.table1: published: a table of kind table1 needs it"),
    (
        put("tables", "bits", "rows", "f2@4 half", "reference", "f2@5"),
        "tables.bits.rows.f2@4 half.reference: unknown row 'f2@5'; did you mean 'f2@4'",
    ),
    (
        put("tables", "table1", "rows", "F4", {"system": "f2", "depth": 3, "reference": "F5"}),
        "tables.table1: rows.F4.ref",
    ),
    (put("tables", "bits", "sets", ["dev"]), "tables.bits: sets: a table of kind systems is pooled over the test sets"),
    (put("tables", "bits", "rows", {}), "tables.bits.rows: Dictionary should have at least 1 item"),
    (
        lambda values: values["tables"].update(costs=values["tables"]["bits"]),
        "tables.costs: analysis makes one of that",
    ),
    (
        lambda values: values["figures"].update(cost_against_wer=values["figures"]["figure2"]),
        "figures.cost_against_wer: analysis makes one of that name by itself",
    ),
    (put("systems", "fw1_int8", "decodes", ["greddy"]), "systems.fw1_int8.decodes: unknown decode 'greddy'"),
    (put("systems", "f2", "evaluate", "rows"), "figures.figure2.decode: of 'f2' only the points of rows are decoded"),
    (put("figures", "repeated_errors", "systems", ["f3"]), "figures.repeated_errors: unknown system 'f3'; did you"),
    (put("figures", "repeated_errors", "kind", "weight_error"), "figures.repeated_errors: "),
    (put("training", "batch_utterances", 0), "training.batch_utterances: Input should be greater than 0"),
    (
        put("systems", "a4", "training", {"of_source": {"steps": 0.5}}),
        "systems.a4.training.of_source: 'a4' has no source",
    ),
    (
        put("systems", "f2_half", "training", {"of_source": {"step": 0.5}}),
        "systems.f2_half.training.of_source: unknown key 'step'; did you mean 'steps'",
    ),
    (
        put("systems", "f2_half", "training", {"of_source": {"steps": 0}}),
        "systems.f2_half.training.of_source: steps: Input should be greater than 0",
    ),
    (put("parts", {"more": ["tabel4"]}), "parts.more: unknown table or figure 'tabel4'; did you mean 'table4'?"),
    (put("parts", {"bits": ["table4"]}), "parts.bits: a table, a figure or the whole has that name"),
    (put("parts", {"all": ["table4"]}), "parts.all: a table, a figure or the whole has that name"),
    (put("parts", {"more": ["bits", "bits"]}), "parts.more: each may be named once"),
    (put("parts", {"mo re": ["bits"]}), "'mo re' is not a plain name"),
    (put("figures", "zeros", {"kind": "matrix_sparsity", "systems": []}), "figures.zeros"),
    (put("figures", "pareto", {"kind": "pareto", "systems": ["f3"]}), "figures.pareto: unknown system 'f3'; did you"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_experiments_name_file_and_key(tmp_path, change, message):
    path = changed(tmp_path, change)
    with pytest.raises(UserError) as error:
        load_experiment(str(path))
    assert message in str(error.value) and str(path) in str(error.value)


DEEPER = [
    (put("systems", "f2", "settings", {"depth": 1}), "systems.f2: settings.depth: 1 is below the 2 physical layers"),
    (put("systems", "f2", "settings", {"depth": 3}), "systems.f2: settings.training_path: 2 paths lead"),
    (
        put("systems", "f2", "settings", {"depth": 4, "training_path": "1 3"}),
        "path '1 3' breaks the unfolding rule",
    ),
    (
        put("systems", "int8", "settings", {"source": "a4"}),
        "systems.int8.settings: source: write {system: a4}, which makes 'a4' a system that is trained first",
    ),
    (
        put("systems", "fw1", "settings", {"depth": 2, "start": "w2"}),
        "systems.fw1.settings: start: write {system: w2}",
    ),
    (put("systems", "f2", "settings", {"dept": 4}), "unknown key 'dept'; did you mean 'depth'"),
    (put("backbone", "settings", "widht", 4), "unknown key 'widht'; did you mean 'width'"),
    (put("backbone", "name", "confromer"), "unknown backbone 'confromer'; did you mean 'conformer'"),
    (
        put("families", "speech", "features", {"kind": "log_mel"}),
        "backbone: wav2vec2 reads waveform, but families.speech.features.kind is log_mel",
    ),
    (
        put("features", {"kind": "waveform"}),
        "backbone: conformer reads log_mel, but features.kind is waveform",
    ),
    (put("features", {"mels": 40}), "backbone: input_dim is 20, but features.mels gives 40 features"),
    (
        put("families", "speech", "backbone", "settings", "sampling_rate", 16000),
        "backbone: sampling_rate is 16000, but the corpus has 8000 Hz",
    ),
    (
        put("tokenizer", {"units": "letter"}),
        ": tokenizer.units 'letter' have no start for conformer's decoder",
    ),
    (put("families", "speech", "decodes", None), "decode 'beam' is a beam search, for which wav2vec2 has no decoder"),
    (
        put("systems", "fw1", "settings", {"depth": 2, "start": {"system": "a4"}}),
        "systems.fw1.settings: 'a4' reads other features than 'fw1'",
    ),
]


@pytest.mark.parametrize(("change", "message"), DEEPER)
def test_methods_are_checked_before_any_work(tmp_path, change, message):
    refused_by_check(changed(tmp_path, change), message)


def test_a_check_by_hand_says_that_all_is_well_and_where_recordings_are_looked_for(tmp_path):
    path = changed(tmp_path, lambda values: None)
    done = command("workflows.check", "--experiment", path)
    said = "changed: settings, methods, depths and paths are in order; recordings were not looked for: "
    assert done.stdout == f"{said}python -m workflows.preflight --experiment {path}\n" and done.returncode == 0


def test_the_check_says_one_line_and_writes_nothing(tmp_path):
    path = changed(tmp_path, put("tables", "table1", "rows", "F4", "depth", 5))
    out = tmp_path / "experiment.json"
    done = command("workflows.check", "--experiment", path, "--out", out)
    one_clear_error(done, f"{path}: tables.table1.rows.F4.depth: 'f2' is not offered at depth 5; its depths: 2, 3, 4")
    assert not out.exists()


def test_what_is_written_says_who_is_one_unit_of_intervals(tmp_path):
    """From the YAML to what the analysis reads; a corpus of another name takes no groups over."""
    path, out = changed(tmp_path, put("corpus", "speaker_groups", {"over": "timbres", "found_by": "^[^_]+"})), []
    other = tmp_path / "other.yaml"
    other.write_text("extends: changed\ncorpus: {name: fsdd}\n")
    for each in (path, other):
        written = tmp_path / each.stem / "experiment.json"
        assert command("workflows.check", "--experiment", each, "--out", written).returncode == 0
        out.append(Results(written.parent).experiment.resampled)
    assert out == ["timbres", "speakers"]


def default_layers(values):
    """The number of layers is the backbone's default, 12, which the reader of experiments does not know."""
    del values["backbone"]["settings"]["layers"], values["tables"]["table1"]
    values["tables"]["table4"]["rows"]["0"]["depth"] = 12


NOT_OFFERED = [
    (put("tables", "table1", "rows", "1", "depth", 3), "tables.table1.rows.1.depth: 'a4' is not offered at depth 3"),
    (
        put("tables", "table1", "rows", "W1", {"system": "widths", "depth": 4}),
        "tables.table1.rows.W1.depth: 'widths' is not offered at depth 4; a depth names none of its points, name one "
        "of them with `point`: width100, width050",
    ),
    (
        put("tables", "table1", "rows", "W1", "point", "width10"),
        "tables.table1.rows.W1.point: 'widths' has no point 'width10'; did you mean 'width100'? (known: width100, ",
    ),
    (
        put("tables", "table1", "rows", "F1", {"system": "f2", "point": "d04_01"}),
        "did you mean 'd04_00'? (known: d02_00, ",
    ),
    (
        put("tables", "table1", "rows", "W1", {"system": "widths", "path": "1 1 1 1"}),
        "tables.table1.rows.W1.path: 'widths' is not run at paths; its points: width100, width050",
    ),
    (put("systems", "widths", "paths", ["1 1 1 0"]), "systems.widths.paths: 'widths' is not run at paths"),
    (default_layers, "tables.table4.rows.1.path: path '1 1 0 0' has 4 counts for 12 physical layers"),
    (
        put("tables", "table1", "rows", "1", {"system": "heard", "depth": 2}),
        "tables.table1.rows.1: 'heard' recognises nothing yet: it has no points; name one that is fine-tuned from it",
    ),
    (put("figures", "figure2", "systems", ["widths"]), "figures.figure2.systems: 'widths' has no depths"),
    (put("figures", "figure2", "baselines", ["a4", "heard"]), "figures.figure2.baselines: 'heard' recognises nothing"),
    (put("figures", "figure2", "sensitivity", "fw1"), "figures.figure2.sensitivity: 'fw1' has one layer"),
    (put("figures", "repeated_errors", "systems", ["fw1_int8"]), "weight errors: the weights of 'fw1_int8' are packed"),
    (put("figures", "repeated_errors", "systems", ["widths"]), "weight errors: 'widths' is trained at no path"),
    (
        put("systems", "again", {"method": "baselines.magnitude", "settings": {"source": {"system": "f2_half_int4"}}}),
        "systems.again: settings.source: the weights of 'f2_half_int4' are packed; name a source of dense ones",
    ),
    (put("figures", "figure2", "sensitivity", "heard"), "figures.figure2.sensitivity: sensitivity: 'heard' recognises"),
    (
        put("systems", "fw1", "settings", "start", {"system": "heard", "layers": "sensitivity"}),
        "systems.fw1.settings: sensitivity: 'heard' recognises nothing yet",
    ),
    (
        put("headline", "a4"),
        "headline: 'a4' does not run at several depths, so there is nothing to compare; systems that do: f2, f2_half, "
        "f2_half_int4, fw1, fw1_int8",
    ),
    (put("headline", "widths"), "headline: 'widths' does not run at several depths"),
]


@pytest.mark.parametrize(("change", "message"), NOT_OFFERED)
def test_what_no_method_will_offer_is_refused_before_any_work(tmp_path, change, message):
    refused_by_check(changed(tmp_path, change), message)


def test_further_paths_are_points_and_what_only_training_tells_is_left_open(tmp_path):
    from workflows.check import check_systems

    def change(values):
        values["systems"]["a4"]["paths"] = ["1 1 0 1"]
        values["tables"]["table1"]["rows"]["X"] = {"system": "a4", "point": "x03_00"}
        published = {"source": "nobody/has-this", "revision": "0" * 40}
        values["systems"]["known"] = {"family": "speech", "method": "baselines.foundation", "settings": published}
        values["tables"]["table1"]["rows"]["P"] = {"system": "known", "depth": 2}

    path = changed(tmp_path, change)
    assert set(check_systems(load_experiment(str(path)), str(path))) > {"a4", "known"}


def test_every_committed_experiment_asks_for_what_is_offered():
    from workflows.check import check_systems

    for name in ("smoke", "mini_cpu", "mini_real", "paper_librispeech"):
        check_systems(load_experiment(name), name)


def test_systems_that_need_each_other_are_refused(tmp_path):
    def circle(values):
        values["systems"]["student"]["settings"]["teacher"]["system"] = "int8"
        values["systems"]["int8"]["settings"]["source"]["system"] = "student"

    with pytest.raises(UserError, match="in a circle: .*student -> int8|in a circle: .*int8 -> student"):
        load_experiment(str(changed(tmp_path, circle)))


def test_unknown_experiment_names_the_closest():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "snakemake"), "-n", "--config", "experiment=smoek"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "did you mean 'smoke'" in done.stderr and "Traceback" not in done.stderr


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path):
    changed(tmp_path, lambda values: None, "base")
    (tmp_path / "child.yaml").write_text("extends: base\ntraining: {steps: 3}\ntest_sets: [test_b]\n")
    base, child = (load_experiment(str(tmp_path / f"{name}.yaml")) for name in ("base", "child"))
    assert child.training == base.training.model_copy(update={"steps": 3})
    assert child.test_sets == ["test_b"] and child.systems == base.systems and child.name == "child"
    assert [path.stem for path, _ in chain_of(tmp_path / "child.yaml")] == ["child", "base"]


def test_extending_with_another_corpus_keeps_none_of_its_settings(tmp_path):
    changed(tmp_path, lambda values: None, "base")
    (tmp_path / "child.yaml").write_text("extends: base\ncorpus: {name: fsdd, settings: {seed: 3}}\n")
    assert load_experiment(str(tmp_path / "child.yaml")).corpus.settings == {"seed": 3}


def test_the_base_holds_no_size_and_no_experiment_has_another_ones():
    names = ("base", "sisters", "questions")
    base, sisters, questions = (yaml.safe_load(Path(f"config/{name}.yaml").read_text()) for name in names)
    assert base.keys() == {"systems", "headline", "tables", "figures"}
    assert sisters.keys() == {"extends", "parts", "systems", "tables", "figures"}
    assert questions.keys() == {"extends", "parts", "systems", "tables"}
    for name, system in {**base["systems"], **sisters["systems"], **questions["systems"]}.items():
        assert system.keys() <= {"family", "method", "backbone", "settings", "training", "evaluate", "decodes"}, name
        assert system.get("backbone", {}).keys() <= {"layers"}, name
        assert system.get("training", {"of_source": None}).keys() == {"of_source"}, name
    for experiment in ("smoke", "paper_librispeech"):
        assert [path.stem for path, _ in chain_of(Path(f"config/{experiment}.yaml"))] == [experiment, "sisters", "base"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"over": "timbres", "found_by": "("}, "'\\(' is no regular expression"),
        ({"over": "timbres"}, "found_by"),
    ],
)
def test_intervals_over_groups_that_cannot_be_found_are_refused(tmp_path, asked, message):
    changed(tmp_path, lambda values: None, "base")
    path = tmp_path / "groups.yaml"
    path.write_text(yaml.safe_dump({"extends": "base", "corpus": {"name": "synth", "speaker_groups": asked}}))
    with pytest.raises(UserError, match=message):
        load_experiment(str(path))


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("extends: tiny\nsystems:\n  a: &x {method: m}\n  b: {<<: *x, method: n}\n  a: {method: o}\n")
    with pytest.raises(UserError, match=r"twice.yaml: the mapping that begins in line 3 has the key 'a' twice"):
        load_experiment(str(path))


def test_as_many_seconds_are_the_same_share_of_more_steps_in_every_size():
    for name in ("mini_cpu", "mini_real", "mini"):
        experiment = load_experiment(name)
        steps = {system: experiment.training_of(system).steps for system in ("a12", "f6", "a12_seconds")}
        assert steps["a12"] == steps["f6"]
        assert steps["a12_seconds"] == pytest.approx((0.125 * 230 + 0.875 * 457) / 346 * steps["f6"], rel=0.005), name
        assert experiment.systems["f6_kl_late"].settings["kl"]["start_step"] == steps["f6"] // 4, name


def test_mini_is_mini_cpu_at_three_times_the_width():
    small, large = load_experiment("mini_cpu"), load_experiment("mini")
    assert list(small.systems) == list(large.systems) and list(small.tables) == list(large.tables)
    assert small.trainings == large.trainings
    for name in ("a12", "f6", "w12", "fw6", "fh3"):
        widths = [each.backbone_of(name)["settings"]["width"] for each in (small, large)]
        assert widths[1] == 3 * widths[0], name


def test_every_committed_experiment_is_valid():
    names = [path.stem for path in Path("config").glob("*.yaml") if path.stem not in NO_EXPERIMENTS]
    assert "smoke" in names
    for name in names:
        load_experiment(name)


def test_references_in_settings_are_edges():
    experiment = load_experiment(str(TINY))
    edges = Edges(experiment, "results/tiny")

    class wildcards:
        system, seed = "student", 0

    assert experiment.needs("student") == ["a4"]
    assert edges.sources_of(wildcards) == ["results/tiny/systems/a4/seed0/system.json"]
    assert edges.source_arguments(wildcards) == ["--input", "a4=results/tiny/systems/a4/seed0"]


def test_what_methods_need_is_what_the_reader_saw():
    from methods.contract import load_method

    experiment = load_experiment(str(TINY))
    for name, entry in experiment.systems.items():
        kind = load_method(entry.method, name, experiment.packages)
        needed = sorted(kind.needs(kind.Config.model_validate(entry.settings)).values())
        assert needed == experiment.starts_from(name) and set(needed) <= set(experiment.needs(name))


def test_what_devices_share_decides_where_there_are_several(tmp_path):
    def inputs(name, **training):
        path = changed(tmp_path, lambda found: found["training"].update(training), name)
        return training_inputs(load_experiment(str(path)), "a4")

    one, one_global = inputs("one"), inputs("one_global", batch_norm="global")
    two, two_global = inputs("two", devices=2), inputs("two_global", devices=2, batch_norm="global")
    assert one == one_global and "batch_norm" not in one["training"]
    assert len({str(each) for each in (one, two, two_global)}) == 3


def test_what_is_in_a_batch_decides_and_who_reads_it_does_not(tmp_path):
    def inputs(number, **training):
        path = changed(tmp_path, lambda found: found["training"].update(training), f"batches{number}")
        return training_inputs(load_experiment(str(path)), "a4")

    changes = {"workers": 3, "prefetch": 5, "pad_to_seconds": 0.5, "features_on": "workers", "compile": "blocks"}
    found = {key: inputs(number, **{key: value}) for number, (key, value) in enumerate(changes.items())}
    base = inputs("_as_they_are")
    assert {key for key in changes if found[key] == base} == {"workers", "prefetch"}


def test_batch_norm_over_padding_is_no_devices_but_its_own(tmp_path):
    def change(found):
        found["backbone"]["settings"]["mask_padding"] = False
        found["training"]["batch_norm"] = "global"

    refused_by_check(changed(tmp_path, change), "training: batch_norm 'global' is that of real frames")


def test_only_what_changes_a_system_changes_its_training_inputs(tmp_path):
    base = load_experiment(str(TINY))
    other = load_experiment(str(changed(tmp_path, put("systems", "f2", "settings", "alpha_kl", 0.2), "tiny")))
    assert training_inputs(base, "f2") != training_inputs(other, "f2")
    assert training_inputs(base, "a4") == training_inputs(other, "a4")
    rows = load_experiment(str(changed(tmp_path, put("tables", "table1", "rows", "1", "depth", 4), "tiny")))
    assert training_inputs(base, "f2") == training_inputs(rows, "f2")


def test_a_family_decides_for_its_systems_only(tmp_path):
    base = load_experiment(str(TINY))
    own = [name for name, entry in base.systems.items() if entry.family is None]
    before = {name: training_inputs(base, name) for name in base.systems}
    assert before["w2"]["backbone"]["name"] == "wav2vec2" and before["w2"]["backbone"]["settings"]["layers"] == 2
    assert before["fw1"]["backbone"]["settings"]["layers"] == 1
    assert before["w2"]["features"] == {"kind": "waveform", "speed_factors": [1.0]}
    assert before["w2"]["training"]["batch_utterances"] == 4 and before["a4"]["training"]["batch_utterances"] is None
    for change in (
        put("families", "speech", "training", "accumulate", 3),
        put("families", "speech", "features", "speed_factors", [0.9, 1.0]),
        put("families", "speech", "backbone", "settings", "ffn", 16),
    ):
        other = load_experiment(str(changed(tmp_path, change, "tiny")))
        assert {name: training_inputs(other, name) for name in own} == {name: before[name] for name in own}
        assert all(training_inputs(other, name) != before[name] for name in ("w2", "fw1"))
    more = {"title": "more", "backbone": {"name": "hubert"}}
    other = load_experiment(str(changed(tmp_path, put("families", "more", more), "tiny")))
    assert {name: training_inputs(other, name) for name in other.systems} == before


SHARE = {"of_source": {"steps": 0.25, "learning_rate": 0.2}}


def shared(tmp_path, name="shared", **training):
    """Systems whose training is a share of that of f2: f2_half, and f2_half_int4 as if it were trained too."""

    def change(values):
        settings = {"kind": "cosine", "warmup_steps": 20}
        values["systems"]["f2"]["training"] = {
            "steps": 100,
            "keep": "last",
            "schedule": settings,
            "optimiser": {"learning_rate": 0.003, "clip_norm": 2.0},
            **training,
        }
        values["systems"]["f2_half"]["training"] = SHARE
        values["systems"]["f2_half_int4"]["training"] = {**SHARE, "keep": "best"}

    return load_experiment(str(changed(tmp_path, change, name)))


def test_a_training_is_said_as_a_share_of_that_at_the_beginning_of_the_lineage(tmp_path):
    experiment = shared(tmp_path)
    whole, part = (experiment.training_of(name) for name in ("f2", "f2_half"))
    assert (part.steps, part.schedule.warmup_steps, part.optimiser.learning_rate) == (25, 5, 0.0006)
    same = {"steps", "schedule", "optimiser", "validate_every", "checkpoint_every", "log_every"}
    assert part.model_dump(exclude=same) == whole.model_dump(exclude=same)
    assert part.schedule.model_copy(update={"warmup_steps": 20}) == whole.schedule
    assert part.optimiser.clip_norm == 2.0
    second = experiment.training_of("f2_half_int4")
    assert second == part.model_copy(update={"keep": "best"}), "of f2 too, not of f2_half; its own settings last"
    written = experiment.resolved["systems"]["f2_half"]["training"]
    assert written["steps"] == 25 and written["schedule"]["warmup_steps"] == 5 and "of_source" not in written


@pytest.mark.parametrize(
    ("training", "validate_every", "checkpoint_every"),
    [
        ({"validate_every": 60, "checkpoint_every": 60}, 25, 25),
        ({"validate_every": 4, "checkpoint_every": 4}, 4, 4),
        ({"validate_every": 60, "keep": "average", "keep_states": 5}, 5, 2),
    ],
)
def test_a_shorter_training_is_validated_and_kept_before_it_ends(tmp_path, training, validate_every, checkpoint_every):
    part = shared(tmp_path, **training).training_of("f2_half")
    assert (part.validate_every, part.checkpoint_every) == (validate_every, checkpoint_every)


def test_the_peak_of_noam_is_that_share_too(tmp_path):
    from asr.schedules import factor_at

    schedule = {"kind": "noam", "warmup_steps": 40, "noam_factor": 5.0, "noam_width": 64}
    experiment = shared(tmp_path, schedule=schedule)
    peaks = []
    for name in ("f2", "f2_half"):
        training = experiment.training_of(name)
        rate = training.optimiser.learning_rate
        factor = factor_at(training.schedule, training.steps, rate)
        peaks.append(rate * max(factor(step) for step in range(training.steps)))
    assert peaks[1] == pytest.approx(0.2 * peaks[0])
    assert experiment.training_of("f2_half").schedule.warmup_steps == 10


def test_a_share_changes_what_it_is_a_share_of(tmp_path):
    """More steps of the source are more steps of what stands on it: another training, not only other weights."""
    before, after = shared(tmp_path), shared(tmp_path, "longer", steps=200)
    for name in ("f2", "f2_half", "f2_half_int4"):
        assert training_inputs(before, name) != training_inputs(after, name)
    assert training_inputs(after, "f2_half")["training"]["steps"] == 50
    assert training_inputs(before, "a4") == training_inputs(after, "a4")


def test_training_is_overridden_by_family_then_by_system(tmp_path):
    def change(values):
        values["families"]["speech"]["training"] = {"steps": 5, "optimiser": {"learning_rate": 0.1}}
        values["systems"]["w2"]["training"] = {"optimiser": {"clip_norm": 1.0}, "steps": 7, "batch_seconds": 1.0}

    experiment = load_experiment(str(changed(tmp_path, change)))
    of_w2 = experiment.training_of("w2")
    assert (of_w2.steps, of_w2.optimiser.learning_rate, of_w2.optimiser.clip_norm) == (7, 0.1, 1.0)
    assert experiment.training_of("fw1").steps == 5 and experiment.training_of("a4") == experiment.training


def test_decoding_batches_are_a_setting_of_their_own(tmp_path):
    """Of the family, else of the experiment; whatever either is trained in."""

    def change(values):
        values["families"]["speech"]["training"] = {"batch_seconds": 3.0}
        values["systems"]["w2"]["training"] = {"batch_seconds": 1.0}

    experiment = load_experiment(str(changed(tmp_path, change, "tiny")))
    assert [experiment.decoding_batch_seconds_of(name) for name in ("w2", "fw1", "a4")] == [6, 6, 12]
    for name in ("mini", "paper_librispeech"):  # both extend an experiment of small batches
        large = load_experiment(name)
        assert {large.decoding_batch_seconds_of(system) for system in large.systems} == {320}


def test_a_figure_needs_a_decode_of_every_path(tmp_path):
    change = put("figures", "figure2", "decode", "beam")
    with pytest.raises(UserError, match=r"figures.figure2.decode: 'beam' decodes the points of tables only.*greedy"):
        load_experiment(str(changed(tmp_path, change, "tiny")))


def test_the_experiment_file_says_what_every_system_is(tmp_path):
    experiment = load_experiment(str(changed(tmp_path, put("tables", "table4", "sets", ["dev", "test_c"]), "tiny")))
    resolved = experiment.resolved
    assert resolved["families"]["speech"]["title"] == "a tiny encoder that reads the waveform"
    assert (resolved["systems"]["w2"]["family"], resolved["systems"]["a4"]["family"]) == ("speech", None)
    assert resolved["systems"]["fw1"]["backbone"]["name"] == "wav2vec2"
    assert resolved["systems"]["a4"]["backbone"]["name"] == "conformer"
    assert resolved["tables"]["table1"]["sets"] == ["test_a", "test_b"]
    assert resolved["tables"]["table4"]["sets"] == ["dev", "test_c"]
    assert resolved["further_sets"] == ["test_c"]
    decodes = {name: set(evaluation_inputs(experiment, name)["decodes"]) for name in ("w2", "a4")}
    assert decodes == {"w2": {"greedy"}, "a4": {"greedy", "beam"}}


def test_a_reference_may_say_more_than_a_name():
    experiment = load_experiment(str(TINY))
    assert set(experiment.systems["fw1"].settings["start"]) == {"system", "layers"}
    assert experiment.needs("fw1") == ["w2"]


def test_what_a_family_reads_is_in_a_folder_of_its_name():
    edges = Edges(load_experiment(str(TINY)), "results/tiny")
    data = "results/tiny/data/synth"
    assert edges.inputs(None) == [f"{data}/tokenizer.json", f"{data}/cmvn.json"]
    assert edges.inputs("speech") == [f"{data}/speech/tokenizer.json"]


def test_another_list_of_letters_is_another_tokenizer(tmp_path):
    letters = tmp_path / "vocab.json"
    letters.write_text('{"<pad>": 0, "|": 1, "A": 2}')
    change = put("families", "speech", "tokenizer", {"units": "letter", "letters": str(letters)})
    edges = Edges(load_experiment(str(changed(tmp_path, change, "tiny"))), "results/tiny")
    before = edges.inputs_recipe("speech"), edges.inputs_recipe(None)
    letters.write_text('{"<pad>": 0, "|": 1, "B": 2}')
    assert edges.inputs_recipe("speech") != before[0] and edges.inputs_recipe(None) == before[1]


LAZY = """
import sys
{code}
heavy = sorted({{"torch", "espnet", "espnet2", "lightning_fabric", "transformers"}} & set(sys.modules))
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "code",
    [
        "from workflows.experiment import load_experiment; load_experiment('smoke').resolved",
        "from workflows.sources import module_hashes; module_hashes(['workflows.steps.train', 'methods.unfolding'])",
        "from workflows.why import Plan; from workflows.experiment import load_experiment\n"
        "Plan(load_experiment('smoke'), __import__('pathlib').Path('results/smoke')).reasons",
        "import workflows.edges, methods.paths, methods.names, analysis.wer, analysis.mapsswe, analysis.render",
        "import workflows.prepare, workflows.inputs, workflows.train",
        "import workflows.evaluate, workflows.measure, workflows.check",
        "import asr.settings, asr.corpora, asr.tokenizer",
    ],
)
def test_light_modules_import_no_torch(code):
    subprocess.run([sys.executable, "-c", LAZY.format(code=code)], check=True)


COMMANDS = (
    "methods.paths",
    "asr.corpora",
    "workflows.check",
    "workflows.prepare",
    "workflows.inputs",
    "workflows.train",
    "workflows.evaluate",
    "workflows.measure",
    "workflows.made",
    "workflows.export",
    "workflows.sensitivity",
    "workflows.check_method",
    "workflows.cost",
    "workflows.folder",
    "workflows.lock",
    "analysis.wer",
    "analysis.mapsswe",
    "analysis.render",
    "analysis.summary",
)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_imports_no_torch(module):
    code = (
        f"import runpy, sys\nsys.argv = ['x', '--help']\ntry:\n    runpy.run_module('{module}', run_name='__main__')\n"
    )
    code += "except SystemExit as stop:\n    assert not stop.code\n" + LAZY.format(code="")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_editing_a_method_touches_its_systems_only(tmp_path, monkeypatch):
    from workflows import sources

    files = {path.name for path in sources.needed_files(["methods.unfolding"])}
    assert {"unfolding.py", "method.py"} <= files
    assert "all_physical.py" not in files
    train = {str(path.relative_to(sources.ROOT)) for path in sources.needed_files(["workflows.steps.train"])}
    assert "asr/training.py" in train and "methods/contract/__init__.py" in train
    assert not {"methods/unfolding.py", "baselines/all_physical.py"} & train
    assert not any(path.startswith("analysis/") for path in train)


def test_data_files_are_hashed_by_content(tmp_path):
    from workflows.sources import file_hashes

    rules = tmp_path / "rules.glm"
    rules.write_text("a")
    before = file_hashes(["analysis/published/*.csv", str(rules)])
    assert before == file_hashes([str(rules), "analysis/published/*.csv"])
    rules.write_text("b")
    after = file_hashes(["analysis/published/*.csv", str(rules)])
    assert {name for name in before if before[name] != after[name]} == {str(rules)}


def test_null_leaves_out_what_an_extended_experiment_has(tmp_path):
    values = yaml.safe_load(TINY.read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(values))
    heard = {"method": "baselines.all_physical", "settings": {}, "family": "speech"}
    changes = {"extends": "base", "systems": {"int8": None, "heard": heard}, "tables": dict.fromkeys(values["tables"])}
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(changes))
    experiment = load_experiment(str(tmp_path / "less.yaml"))
    assert set(experiment.systems) == set(values["systems"]) - {"int8"} and experiment.tables == {}
    assert experiment.systems["heard"].settings == {}, "settings of another method are not merged"


def test_null_leaves_out_rows_of_an_extended_table(tmp_path):
    values = yaml.safe_load(TINY.read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(values))
    rows = {"W1": None, "W2": None, "Q1": None, "N": {"system": "a2", "depth": 2}}
    changes = {"systems": {"widths": None, "int8": None}, "tables": {"table1": {"rows": rows}}}
    (tmp_path / "less.yaml").write_text(yaml.safe_dump({"extends": "base", **changes}))
    experiment = load_experiment(str(tmp_path / "less.yaml"))
    assert set(experiment.tables["table1"].rows) == set(values["tables"]["table1"]["rows"]) - {"W1", "W2", "Q1"} | {"N"}
    assert experiment.tables["table4"] == load_experiment(str(tmp_path / "base.yaml")).tables["table4"]
    rows["1"] = None
    (tmp_path / "less.yaml").write_text(yaml.safe_dump({"extends": "base", **changes}))
    with pytest.raises(UserError, match="tables.table1.reference: unknown row '1'"):
        load_experiment(str(tmp_path / "less.yaml"))


def test_which_tables_analysis_writes(tmp_path):
    def names(**changes):
        values = {**yaml.safe_load(TINY.read_text()), **changes}
        (tmp_path / "tables.yaml").write_text(yaml.safe_dump(values))
        return Edges(load_experiment(str(tmp_path / "tables.yaml")), "results/tables").table_names()

    assert sorted(names()) == ["bits", "costs", "table1", "table4", "weight_errors"]
    assert names(tables={}, figures={}) == []
    figure = {"kind": "depth_curves", "decode": "greedy", "systems": ["fw1"], "sensitivity": "w2"}
    assert sorted(names(figures={"figure3": figure})) == ["bits", "costs", "sensitivity", "table1", "table4"]


def test_systems_that_others_start_from_are_told_apart(tmp_path):
    edges = Edges(load_experiment(str(TINY)), "results/tiny")
    assert edges.started_from() == "a4|f2|f2_half|fw1|heard|w2"
    assert edges.not_started_from() == "a2|f2_half_int4|fw1_int8|int8|student|widths"
    alone = yaml.safe_load(TINY.read_text())
    alone.update(systems={"a4": alone["systems"]["a4"]}, tables={}, figures={}, headline=None)
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(alone))
    edges = Edges(load_experiment(str(tmp_path / "alone.yaml")), "results/alone")
    assert re.fullmatch(edges.started_from(), "a4") is None and edges.not_started_from() == "a4"


def test_a_warm_up_may_be_a_share_of_whatever_steps_a_system_has(tmp_path):
    def change(values):
        share = {"kind": "cosine", "warmup_share": 0.1}
        values["training"] = {**values["training"], "steps": 200, "schedule": share}
        values["systems"]["a2"]["training"] = {"steps": 80, "keep": "last"}
        values["systems"]["f2_half"]["training"] = SHARE
        values["systems"]["int8"]["training"] = {"schedule": {"warmup_share": None, "warmup_steps": 3}}

    experiment = load_experiment(str(changed(tmp_path, change)))
    warmups = {name: experiment.training_of(name).schedule.warmup_steps for name in ("a4", "a2", "f2_half", "int8")}
    assert warmups == {"a4": 20, "a2": 8, "f2_half": 5, "int8": 3}
    with pytest.raises(UserError, match="warmup_share"):
        load_experiment(str(changed(tmp_path, lambda v: v["training"]["schedule"].update(warmup_share=1.0))))


PASSES = {"steps": 400, "least_steps": 30, "passes": 10, "batch_seconds": 12, "accumulate": 2}


def passing(tmp_path, **training):
    schedule = {"kind": "cosine", "warmup_steps": 0, "warmup_share": 0.1}
    given = {**PASSES, "schedule": schedule, "validate_every": 100, "keep_states": 4, "log_every": 50, **training}

    def change(values):
        values["training"].update(given)
        values["families"]["speech"]["training"]["passes"] = None
        values["systems"]["f2_half"]["training"] = {"of_source": {"steps": 0.2}}

    return changed(tmp_path, change)


def test_passes_become_the_steps_that_so_much_speech_takes_between_two_bounds(tmp_path):
    training = load_experiment(str(passing(tmp_path))).training_of("a4")
    assert [in_steps(training, seconds).steps for seconds in (60, 240, 600, 2000)] == [30, 100, 250, 400]
    known = in_steps(training, 240)
    assert known.passes is None and known.schedule.warmup_steps == 10
    assert (known.validate_every, known.log_every) == (25, 10)  # all four states that it ends with are taken
    assert in_steps(known, 1e9) == known
    assert in_steps(training.model_copy(update={"devices": 2}), 600).steps == 125


def test_a_share_of_passes_is_so_many_passes(tmp_path):
    training = load_experiment(str(passing(tmp_path))).training_of("f2_half")
    assert (training.steps, training.least_steps, training.passes) == (80, 6, 2)
    assert in_steps(training, 600).steps == 50 and in_steps(training, 600).schedule.warmup_steps == 5


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"batch_utterances": 4}, "passes are counted in seconds of audio: give batch_seconds"),
        ({"schedule": {"kind": "cosine", "warmup_steps": 4}}, "give schedule.warmup_share"),
        ({"least_steps": 401}, "least_steps 401 is above steps 400"),
    ],
)
def test_passes_whose_length_cannot_be_known_are_refused(tmp_path, training, message):
    with pytest.raises(UserError, match=message):
        load_experiment(str(passing(tmp_path, **training)))
