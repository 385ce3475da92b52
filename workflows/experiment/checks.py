"""Whether everything that an experiment names exists and goes together, as far as that is known without torch."""

import re
from typing import Any

from asr.paths import parse_path
from common.errors import UserError, unknown
from methods.names import check_method_exists
from methods.paths import check_shape
from workflows.experiment.entries import WHOLE
from workflows.experiment.schema import Experiment

NAME = re.compile(r"[A-Za-z0-9_]+")


def check_names(experiment: Experiment) -> None:
    """Raise ValueError, naming the key, where an experiment names what does not exist, or what does not go together."""
    _check_plain(experiment)
    _check_sets(experiment)
    for name, family in experiment.families.items():
        for decode in family.decodes or []:
            _must_exist("decode", decode, experiment.decodes, f"families.{name}.decodes")
        experiment.family_training(name)
    for name, system in experiment.systems.items():
        if system.family is not None:
            _must_exist("family", system.family, experiment.families, f"systems.{name}.family")
        for decode in system.decodes or []:
            _must_exist("decode", decode, experiment.decodes, f"systems.{name}.decodes")
    _check_tables_and_figures(experiment)
    if experiment.headline is not None:
        _must_exist("system", experiment.headline, experiment.systems, "headline")
    _each_once("keep_weights.systems", experiment.keep_weights.systems)
    for name in experiment.keep_weights.systems:
        _must_exist("system", name, experiment.systems, "keep_weights.systems")
    for seed in experiment.keep_weights.seeds or ():
        _must_exist("seed", str(seed), [*map(str, experiment.all_seeds)], "keep_weights.seeds")
    for name, system in experiment.systems.items():
        _check_method(experiment, system.method, f"systems.{name}.method")
        for needed in experiment.starts_from(name):
            _must_exist("system", needed, experiment.systems, f"systems.{name}.settings")
        _check_paths(experiment, name)
    _check_no_cycle(experiment)
    for name in experiment.systems:
        experiment.training_of(name)
        _check_seeds(experiment, name)
        if not experiment.decodes_of(name):
            raise ValueError(f"systems.{name}: none of the decodes applies to it; name one that is not of own_tables")
    _check_parts(experiment)


def _check_plain(experiment: Experiment) -> None:
    named = (
        experiment.systems,
        experiment.decodes,
        experiment.tables,
        experiment.figures,
        experiment.families,
        experiment.parts,
        experiment.test_sets,
    )
    for name in (
        experiment.name,
        experiment.dev_set,
        *experiment.further_sets,
        *(name for names in named for name in names),
    ):
        if not NAME.fullmatch(name):
            raise ValueError(f"'{name}' is not a plain name (letters, digits, underscore)")
    if "audio" in experiment.families:
        raise ValueError("families: 'audio' is the folder of the recordings; take another name")


def _check_sets(experiment: Experiment) -> None:
    for key, values in (
        ("test_sets", experiment.test_sets),
        ("further_sets", experiment.further_sets),
        ("seeds", experiment.seeds),
    ):
        _each_once(key, values)
    if experiment.dev_set in experiment.test_sets:
        raise ValueError(f"test_sets: '{experiment.dev_set}' is the dev set, on which choices are made")
    for name in experiment.further_sets:
        if name in (experiment.dev_set, *experiment.test_sets):
            raise ValueError(f"further_sets: '{name}' is the dev set or a test set already")


OF_ANALYSIS = {"costs", "points", "decodes", "sensitivity", "weight_errors", "cost_against_wer"}
"""Tables and figures that analysis makes by itself."""


def _check_tables_and_figures(experiment: Experiment) -> None:
    for key, names in (("tables", experiment.tables), ("figures", experiment.figures)):
        if taken := sorted(OF_ANALYSIS & set(names)):
            raise ValueError(f"{key}.{taken[0]}: analysis makes one of that name by itself; take another name")
    for table, entry in experiment.tables.items():
        if experiment.score == "characters" and entry.published is not None:
            raise ValueError(
                f"tables.{table}: published numbers are error rates of words, and score is 'characters'; take kind "
                "'systems'"
            )
        _must_exist("decode", entry.decode, experiment.decodes, f"tables.{table}.decode")
        if entry.reference is not None:
            _must_exist("row", entry.reference, entry.rows, f"tables.{table}.reference")
        if entry.sets is not None:
            _each_once(f"tables.{table}.sets", entry.sets)
            for name in entry.sets:
                _must_exist("set", name, experiment.decoded_sets, f"tables.{table}.sets")
        for key, row in entry.rows.items():
            _must_exist("system", row.system, experiment.systems, f"tables.{table}.rows")
            if row.reference is not None:
                _must_exist("row", row.reference, entry.rows, f"tables.{table}.rows.{key}.reference")
            _must_decode(experiment, row.system, entry.decode, f"tables.{table}.decode", f"row '{key}'")
    for figure, entry in experiment.figures.items():
        for system in entry.systems:
            _must_exist("system", system, experiment.systems, f"figures.{figure}")
    for figure, entry in experiment.depth_figures.items():
        _must_exist("decode", entry.decode, experiment.decodes, f"figures.{figure}.decode")
        for system in [*entry.systems, *entry.baselines]:
            _must_exist("system", system, experiment.systems, f"figures.{figure}")
            _must_decode(experiment, system, entry.decode, f"figures.{figure}.decode", f"system '{system}'")
        for system in [*entry.systems, *entry.baselines]:
            _must_cover(experiment, system, entry.decode, f"figures.{figure}.decode")
        if entry.table is not None:
            _must_exist("table", entry.table, experiment.tables, f"figures.{figure}.table")
        if entry.sensitivity is not None:
            _must_exist("system", entry.sensitivity, experiment.systems, f"figures.{figure}.sensitivity")


def _must_decode(experiment: Experiment, system: str, decode: str, key: str, what: str) -> None:
    if decode not in experiment.decodes_of(system):
        raise ValueError(f"{key}: {what} is decoded by {', '.join(experiment.decodes_of(system))}, not by '{decode}'")


def _must_cover(experiment: Experiment, system: str, decode: str, key: str) -> None:
    """Figures show every path; a decode of table points has them only where there is no other."""
    if experiment.systems[system].evaluate == "rows":
        raise ValueError(
            f"{key}: of '{system}' only the points of rows are decoded (systems.{system}.evaluate); a figure shows all"
        )
    covering = [name for name, settings in experiment.decodes_of(system).items() if settings.points == "all"]
    if covering and decode not in covering:
        raise ValueError(
            f"{key}: '{decode}' decodes the points of tables only, a figure shows every path of '{system}'; "
            f"name {', '.join(covering)}"
        )


def _each_once(key: str, values: list[Any]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{key}: each may be named once, not {values}")


def _must_exist(kind: str, name: str, known: Any, where: str) -> None:
    if name not in known:
        raise ValueError(str(unknown(kind, name, known, where)))


def _check_method(experiment: Experiment, name: str, where: str) -> None:
    try:
        check_method_exists(name, where, experiment.packages)
    except UserError as error:
        raise ValueError(str(error)) from None


def _check_seeds(experiment: Experiment, name: str) -> None:
    """A system starts from its sources' trainings of the same seed."""
    _each_once(f"systems.{name}.seeds", experiment.seeds_of(name))
    for needed in experiment.needs(name):
        if lacking := [seed for seed in experiment.seeds_of(name) if seed not in experiment.seeds_of(needed)]:
            raise ValueError(
                f"systems.{name}.seeds: it starts from '{needed}', which has no seed {', '.join(map(str, lacking))} "
                f"(its seeds: {', '.join(map(str, experiment.seeds_of(needed)))})"
            )


def _check_parts(experiment: Experiment) -> None:
    shown = {**experiment.tables, **experiment.figures}
    for part, names in experiment.parts.items():
        if part in (WHOLE, *shown):
            raise ValueError(f"parts.{part}: a table, a figure or the whole has that name; take another")
        _each_once(f"parts.{part}", names)
        for name in names:
            _must_exist("table or figure", name, shown, f"parts.{part}")


def _check_paths(experiment: Experiment, name: str) -> None:
    layers = experiment.backbone_of(name)["settings"].get("layers")
    for key, text in experiment.paths_asked(name):
        try:
            path = parse_path(text)
            if isinstance(layers, int):
                check_shape(path, layers)
        except UserError as error:
            raise ValueError(f"{key}: {error}") from None


def _check_no_cycle(experiment: Experiment) -> None:
    state: dict[str, str] = {}

    def visit(name: str, trail: list[str]) -> None:
        if state.get(name) == "done":
            return
        if name in trail:
            raise ValueError(f"systems need each other in a circle: {' -> '.join([*trail[trail.index(name) :], name])}")
        for needed in experiment.starts_from(name):
            visit(needed, [*trail, name])
        state[name] = "done"

    for name in experiment.systems:
        visit(name, [])
