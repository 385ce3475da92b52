"""A part of an experiment: the systems that a run was asked for, and what it can then show.

    snakemake --config only=table1,figure2          what two tables or figures need
    snakemake --config systems=f6,a12               two systems, each with its points and costs
    make reproduce ONLY=table1,figure2 SYSTEMS=f6   both together
    make reproduce ONLY=sisters                     a part that the experiment names; ONLY=all: the whole
    make reproduce SEEDS=0                          seed 0 of all that it is about, and no other

What the experiment names under `parts` is made when it is asked for; a run that is asked for nothing makes the rest.

A part is a choice of targets and decides nothing else: what each system is, and which of its points are decoded and
measured, follows from the whole experiment, so that a part followed by the whole makes nothing twice.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.errors import UserError, unknown
from workflows.experiment import Experiment
from workflows.experiment.entries import WHOLE, AnyFigure, FigureEntry, ParetoEntry, TableEntry, WeightErrorsEntry

Seeds = Mapping[str, tuple[int, ...]]
"""Seeds by what has them."""

STUDIES = {"sensitivity": "sensitivity.json", "weight errors": "weight_errors.json"}
"""What figures show of systems beside WERs -> the file beside the system."""


@dataclass(frozen=True)
class Part:
    """Systems with everything that tables show of them, and studies (`sensitivity of w12`), in the experiment's order,
    each with its seeds."""

    systems: Seeds
    studies: Seeds


def chosen_part(experiment: Experiment, only: str = "", systems: str = "", seeds: str = "") -> Part:
    """What `only` (tables, figures and parts; `all`) and `systems` ask for, names with commas between them; what is in
    no part where both are empty; of that, the `seeds` alone where some are named. Raises `UserError` with the closest
    name."""
    part = _named_part(experiment, only, systems)
    return with_seeds(experiment, part, numbers_of(experiment, seeds)) if seeds else part


def _named_part(experiment: Experiment, only: str, systems: str) -> Part:
    entries = {**experiment.tables, **experiment.figures}
    shown, named = names_of(only), names_of(systems)
    for name in shown:
        if name not in (known := [WHOLE, *experiment.parts, *entries]):
            raise unknown("table, figure or part", name, known, "only")
    for name in named:
        if name not in experiment.systems:
            raise unknown("system", name, experiment.systems, "systems")
    if not shown and not named:
        return in_no_part(experiment)
    if WHOLE in shown:
        return the_whole(experiment)
    asked = [each for name in shown for each in experiment.parts.get(name, [name])]
    chosen = joined(experiment, part_of(experiment, named), _part_that_shows(experiment, asked))
    for name in experiment.parts.keys() & {*shown}:
        chosen = joined(experiment, chosen, _behind(experiment, experiment.parts[name]))
    everything = any(_shows_everything(entries[name]) for name in asked)
    return joined(experiment, chosen, in_no_part(experiment)) if everything else chosen


def _shows_everything(entry: TableEntry | AnyFigure) -> bool:
    """Whether it shows whatever was made, and so asks for nothing of its own."""
    return isinstance(entry, ParetoEntry) and not entry.systems


def the_whole(experiment: Experiment) -> Part:
    """Everything."""
    return part_of(experiment, experiment.systems, all_studies(experiment))


def in_no_part(experiment: Experiment) -> Part:
    """What is made unless something is asked for: what tables and figures in no part show and need, and what nothing
    shows."""
    in_parts = {name for names in experiment.parts.values() for name in names}
    rest = [name for name in (*experiment.tables, *experiment.figures) if name not in in_parts]
    always, on_request = (_part_that_shows(experiment, names) for names in (rest, in_parts))
    left_out = trained_for(experiment, on_request).keys() - trained_for(experiment, always).keys()
    return part_of(experiment, (name for name in experiment.systems if name not in left_out), always.studies)


def _behind(experiment: Experiment, names: Iterable[str]) -> Part:
    """What only parts start from and nothing shows, of what these tables and figures need: whoever asks for the part
    has it whole, and can then keep it (`workflows.keep`)."""
    needed = trained_for(experiment, _part_that_shows(experiment, names))
    entries = (*experiment.tables.values(), *experiment.figures.values())
    elsewhere = {name for entry in entries for name in systems_of(entry)} | in_no_part(experiment).systems.keys()
    return part_of(experiment, (name for name in needed if name not in elsewhere))


def _part_that_shows(experiment: Experiment, names: Iterable[str]) -> Part:
    """The systems and studies of some tables and figures."""
    entries = {**experiment.tables, **experiment.figures}
    asked = [entries[name] for name in names]
    systems = [system for entry in asked for system in systems_of(entry)]
    return part_of(experiment, systems, [study for entry in asked for study in studies_of(entry)])


def part_of(experiment: Experiment, systems: Iterable[str], studies: Iterable[str] = ()) -> Part:
    """Some systems and studies with all their seeds."""
    of_studies = {study: experiment.seeds_of(kind_and_system(study)[1]) for study in studies}
    return ordered(experiment, {name: experiment.seeds_of(name) for name in systems}, of_studies)


def ordered(experiment: Experiment, systems: Mapping[str, Iterable[int]], studies: Mapping[str, Iterable[int]]) -> Part:
    """Some seeds of some systems and studies, all in the experiment's order; what has none is left out."""

    def in_order(chosen: Mapping[str, Iterable[int]], names: Iterable[str]) -> Seeds:
        wanted = {name: {*chosen.get(name, ())} for name in names}
        found = {
            name: tuple(seed for seed in experiment.seeds_of(kind_and_system(name)[1]) if seed in seeds)
            for name, seeds in wanted.items()
        }
        return {name: seeds for name, seeds in found.items() if seeds}

    return Part(in_order(systems, experiment.systems), in_order(studies, all_studies(experiment)))


def joined(experiment: Experiment, one: Part, other: Part) -> Part:
    """What is in either."""
    systems, studies = (
        {name: (*first.get(name, ()), *second.get(name, ())) for name in (*first, *second)}
        for first, second in ((one.systems, other.systems), (one.studies, other.studies))
    )
    return ordered(experiment, systems, studies)


def with_seeds(experiment: Experiment, part: Part, seeds: Iterable[int]) -> Part:
    """Some seeds of a part: of each system those that it has."""
    wanted = {*seeds}
    systems, studies = ({name: wanted & {*own} for name, own in each.items()} for each in (part.systems, part.studies))
    return ordered(experiment, systems, studies)


def trained_for(experiment: Experiment, part: Part) -> Seeds:
    """The systems of a part and all that they start from, with the seeds that are trained for it."""
    found: dict[str, set[int]] = {}
    waiting = [*part.systems.items(), *((kind_and_system(study)[1], own) for study, own in part.studies.items())]
    while waiting:
        name, seeds = waiting.pop()
        if not found.setdefault(name, set()).issuperset(seeds):
            found[name].update(seeds)
            waiting += [(needed, seeds) for needed in experiment.needs(name)]
    return ordered(experiment, found, {}).systems


def names_of(text: str) -> list[str]:
    """`table1, figure2` as names."""
    return [name.strip() for name in str(text).split(",") if name.strip()]


def as_words(seeds: Seeds) -> list[str]:
    """`f6=0,1`, a word each, for a command line."""
    return [f"{name}={','.join(map(str, own))}" for name, own in seeds.items()]


def of_words(words: Iterable[str]) -> Seeds:
    """What `as_words` wrote. Raises `UserError` for another word."""
    found = {}
    for word in words:
        name, separator, seeds = word.rpartition("=")
        if not separator or not all(seed.isdecimal() for seed in seeds.split(",")):
            raise UserError(f"{word}: write NAME=SEEDS, for example f6=0,1")
        found[name] = tuple(map(int, seeds.split(",")))
    return found


def numbers_of(experiment: Experiment, text: str) -> list[int]:
    """`0, 2` as seeds. Raises `UserError` for one that no system has."""
    known = [str(seed) for seed in experiment.all_seeds]
    for name in (found := names_of(text)):
        if name not in known:
            raise UserError(f"seeds: no system has seed '{name}'; the experiment has {', '.join(known)}")
    return [int(name) for name in found]


def systems_of(entry: TableEntry | AnyFigure) -> list[str]:
    """The systems that a table or a figure shows."""
    if isinstance(entry, TableEntry):
        return [row.system for row in entry.rows.values()]
    return [*entry.systems, *entry.baselines] if isinstance(entry, FigureEntry) else entry.systems


def studies_of(entry: TableEntry | AnyFigure) -> list[str]:
    """What a figure shows beside WERs: `sensitivity of w12`."""
    if isinstance(entry, WeightErrorsEntry):
        return [f"weight errors of {system}" for system in entry.systems]
    shown = entry.sensitivity if isinstance(entry, FigureEntry) else None
    return [] if shown is None else [f"sensitivity of {shown}"]


def all_studies(experiment: Experiment) -> list[str]:
    """The studies that any figure shows, each once."""
    return list(dict.fromkeys(study for figure in experiment.figures.values() for study in studies_of(figure)))


def kind_and_system(study: str) -> tuple[str, str]:
    """A key of `STUDIES` and the system; a system itself is of no kind."""
    kind, _, system = study.rpartition(" of ")
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
    asked = "tables, figures and parts, with commas between them; all: everything; default: what is in no part"
    parser.add_argument("--only", default="", metavar="NAMES", help=asked)
    parser.add_argument("--systems", default="", metavar="NAMES", help="systems, with commas between them")
    seeds = "seeds of these, with commas between them; default: all"
    parser.add_argument("--seeds", default="", metavar="NUMBERS", help=seeds)


def asked_of(experiment: Experiment, arguments: argparse.Namespace) -> Part:
    """The part that the arguments of `add_arguments` ask for."""
    return chosen_part(experiment, arguments.only, arguments.systems, arguments.seeds)
