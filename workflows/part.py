"""A part of an experiment: the systems that a run was asked for, and what it can then show.

    snakemake --config only=table1,figure2          what two tables or figures need
    snakemake --config systems=f6,a12               two systems, each with its points and costs
    make reproduce ONLY=table1,figure2 SYSTEMS=f6   both together

A part is a choice of targets and decides nothing else: what each system is, and which of its points are decoded and
measured, follows from the whole experiment, so that a part followed by the whole makes nothing twice.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass

from common.errors import unknown
from workflows.experiment import Experiment
from workflows.experiment.entries import FigureEntry, TableEntry, WeightErrorsEntry

STUDIES = {"sensitivity": "sensitivity.json", "weight errors": "weight_errors.json"}
"""What figures show of systems beside WERs -> the file beside the system."""


@dataclass(frozen=True)
class Part:
    """Systems with everything that tables show of them, and studies (`sensitivity of w12`), in the experiment's
    order."""

    systems: tuple[str, ...]
    studies: tuple[str, ...]


def chosen_part(experiment: Experiment, only: str = "", systems: str = "") -> Part:
    """What `only` (tables and figures) and `systems` ask for, names with commas between them; everything where both
    are empty. Raises `UserError` with the closest name."""
    tables, figures = experiment.tables, experiment.figures
    shown, named = names_of(only), names_of(systems)
    for name in shown:
        if name not in (*tables, *figures):
            raise unknown("table or figure", name, [*tables, *figures], "only")
    for name in named:
        if name not in experiment.systems:
            raise unknown("system", name, experiment.systems, "systems")
    if not shown and not named:
        return part_of(experiment, experiment.systems, all_studies(experiment))
    for name in shown:
        named += [system for each in (tables, figures) if name in each for system in systems_of(each[name])]
    return part_of(experiment, named, [each for name in shown if name in figures for each in studies_of(figures[name])])


def part_of(experiment: Experiment, systems: Iterable[str], studies: Iterable[str]) -> Part:
    """Some systems and studies in the experiment's order, each once."""
    chosen, measured = set(systems), set(studies)
    return Part(
        tuple(name for name in experiment.systems if name in chosen),
        tuple(study for study in all_studies(experiment) if study in measured),
    )


def joined(experiment: Experiment, one: Part, other: Part) -> Part:
    """What is in either."""
    return part_of(experiment, (*one.systems, *other.systems), (*one.studies, *other.studies))


def trained_for(experiment: Experiment, part: Part) -> set[str]:
    """The systems of a part, and all that they start from."""
    found: set[str] = set()
    waiting = [*part.systems, *(kind_and_system(study)[1] for study in part.studies)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += experiment.needs(name)
    return found


def names_of(text: str) -> list[str]:
    """`table1, figure2` as names."""
    return [name.strip() for name in str(text).split(",") if name.strip()]


def systems_of(entry: TableEntry | FigureEntry | WeightErrorsEntry) -> list[str]:
    """The systems that a table or a figure shows."""
    if isinstance(entry, TableEntry):
        return [row.system for row in entry.rows.values()]
    return [*entry.systems, *entry.baselines] if isinstance(entry, FigureEntry) else entry.systems


def studies_of(entry: FigureEntry | WeightErrorsEntry) -> list[str]:
    """What a figure shows beside WERs: `sensitivity of w12`."""
    if isinstance(entry, WeightErrorsEntry):
        return [f"weight errors of {system}" for system in entry.systems]
    return [] if entry.sensitivity is None else [f"sensitivity of {entry.sensitivity}"]


def all_studies(experiment: Experiment) -> list[str]:
    """The studies that any figure shows, each once."""
    return list(dict.fromkeys(study for figure in experiment.figures.values() for study in studies_of(figure)))


def kind_and_system(study: str) -> tuple[str, str]:
    """A key of `STUDIES`, and the system."""
    kind, _, system = study.partition(" of ")
    return kind, system


def shown_by(experiment: Experiment, part: Part) -> tuple[list[str], list[str]]:
    """The tables and the figures of which everything is in a part."""
    systems = set(part.systems)
    tables = [name for name, entry in experiment.tables.items() if systems.issuperset(systems_of(entry))]
    figures = [
        name
        for name, entry in experiment.figures.items()
        if systems.issuperset(systems_of(entry)) and set(part.studies).issuperset(studies_of(entry))
    ]
    return tables, figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--only` and `--systems`, as `make reproduce` passes them on."""
    parser.add_argument("--only", default="", metavar="NAMES", help="tables and figures, with commas between them")
    parser.add_argument("--systems", default="", metavar="NAMES", help="systems, with commas between them")
