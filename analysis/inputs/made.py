"""Which part of an experiment is made and up to date, as `made.json` says; all of it where there is no such file.

A table or a figure is shown when every system in it is made, with the seeds of each that are; how many are lacking is
said. A system that was made by other settings or other code than today's is not.
"""

from collections.abc import Iterator
from pathlib import Path

from analysis.inputs.schemas import Experiment, FigureSpec, Made, TableSpec
from common.files import read_json
from common.settings import parse

FEW = 4
"""So many missing systems are named one by one."""


def read_made(folder: Path) -> Made | None:
    """`made.json` of an experiment's folder; None where nobody wrote it."""
    path = folder / "made.json"
    return parse(Made, read_json(path), str(path)) if path.exists() else None


def shown_part(whole: Experiment, made: Made | None) -> Experiment:
    """The experiment with the systems that are made, and the tables and figures that show no others."""
    if made is None:
        return whole
    systems = {name: system for name, system in whole.systems.items() if name in made.systems}
    shown = {
        "systems": {name: each.model_copy(update={"seeds": made.systems[name]}) for name, each in systems.items()},
        "tables": {name: spec for name, spec in whole.tables.items() if not missing(spec, made)},
        "figures": {name: spec for name, spec in whole.figures.items() if not missing(spec, made)},
        "headline": whole.headline if whole.headline in made.systems else None,
    }
    return whole.model_copy(update=shown)


def missing(spec: TableSpec | FigureSpec, made: Made) -> list[str]:
    """What a table or a figure needs and is not made, in words, each once."""
    if isinstance(spec, TableSpec):
        systems, studies = [row.system for row in spec.rows.values()], []
    else:
        systems, studies = [*spec.systems, *spec.baselines], spec.studies
    found = [made.lacking(name) for name in dict.fromkeys(systems) if name not in made.systems]
    return [*found, *(f"the {study}" for study in studies if study not in made.studies)]


def not_made(whole: Experiment, made: Made | None) -> str:
    """One line that names the parts of which nothing is shown, the other tables and figures that are not shown, with
    what they need, the systems that no table or figure shows, and those with fewer seeds than they shall have; empty
    where everything is made."""
    if made is None:
        return ""
    named, few = [*_not_made(whole, made)], [*_few_seeds(whole, made)]
    said = [f"Not made so far: {', '.join(named)}."] if named else []
    return " ".join([*said, *([f"Made with some of their seeds so far: {', '.join(few)}."] if few else [])])


def _few_seeds(whole: Experiment, made: Made) -> Iterator[str]:
    """`3 of 5 seeds (f6, a12)`, for each number of seeds that is there."""
    systems: dict[tuple[int, int], list[str]] = {}
    for name in whole.systems:
        there, wanted = len(made.systems.get(name, ())), len(whole.seeds_of(name))
        if 0 < there < wanted:
            systems.setdefault((there, wanted), []).append(name)
    for (there, wanted), names in systems.items():
        yield f"{there} of {wanted} seeds ({', '.join(names)})"


def _not_made(whole: Experiment, made: Made) -> Iterator[str]:
    specs = {**whole.tables, **whole.figures}
    lacking = {name: needed for name, spec in specs.items() if (needed := missing(spec, made))}
    untouched = {part: names for part, names in whole.parts.items() if names and lacking.keys() >= {*names}}
    for part, names in untouched.items():
        yield f"the part {part} (make reproduce EXPERIMENT={whole.name} ONLY={part}: {', '.join(names)})"
    for name, needed in lacking.items():
        if not any(name in names for names in untouched.values()):
            more = [f"{len(needed) - FEW} more"] if len(needed) > FEW else []
            yield f"{name} (needs {', '.join([*needed[:FEW], *more])})"
    in_some = {system for spec in whole.tables.values() for system in (row.system for row in spec.rows.values())}
    in_some |= {system for spec in whole.figures.values() for system in (*spec.systems, *spec.baselines)}
    yield from (made.lacking(name) for name in whole.systems if name not in (*made.systems, *in_some))
