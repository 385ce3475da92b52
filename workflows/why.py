"""What a run would make again, and which part of its identity changed; and results that are kept all the same.

    python -m workflows.why --experiment smoke                     what would be made again, and why
    python -m workflows.why --experiment smoke --only table1       the same of a part; --only all: of everything
    python -m workflows.why --experiment smoke --accept f6         keep f6 as it was trained
    snakemake $(python -m workflows.why --experiment smoke --force)

Snakemake sees a change by its own notes, in `.snakemake`, which know results by the folder in which they were made.
What stands beside each result knows more: with `--force` that decides, in a folder that was moved, copied or cleaned
too.

An accepted system is not trained again for today's change. The difference is written into its provenance and stands
under every table that shows it. What is cheap (decoding, costs, tables) is made again all the same.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import UserError, run, unknown
from common.files import read_json, write_json
from workflows.accepted import FILE, counted_as, write_accepted
from workflows.experiment import Experiment, load_experiment
from workflows.identity import Contents, Identities, Recipe, changes, identity, read_identity, recipe_hash
from workflows.part import (
    STUDIES,
    Part,
    Seeds,
    add_arguments,
    all_studies,
    asked_of,
    joined,
    kind_and_system,
    ordered,
)
from workflows.provenance import commit
from workflows.sources import remember_sources

NEVER_MADE = "not made yet"
SHOWN = 4
SHOWN_OF_SYSTEMS = ("evaluate", "costs of")
"""How products of systems are called: `costs of f6, seed 0`."""
MADE = "made.json"
OUTPUTS = ("model.safetensors", "system.json", "provenance.json", "log.jsonl")


@dataclass(frozen=True)
class Product:
    """Something that one job makes: what it is called, where its identity was written down, what it is today."""

    name: str
    made: Path
    """The file without which it is not there."""
    written: dict[str, Any] | None
    """The identity that was written down when it was made."""
    today: dict[str, Any]
    needs: tuple[str, ...] = ()
    """Products that it is made from."""


@dataclass(frozen=True)
class Reason:
    """Why a product would be made again: what changed of it, or which products it follows."""

    changed: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    missing: bool = False

    def __str__(self) -> str:
        if self.missing:
            return NEVER_MADE
        parts = list(self.changed[:SHOWN])
        parts += [f"{len(self.changed) - SHOWN} more"] if len(self.changed) > SHOWN else []
        return ", ".join(parts) if parts else f"follows {', '.join(self.follows[:SHOWN])}"


@dataclass
class Plan:
    """The products of an experiment in the order in which they are made, and why some would be made again."""

    experiment: Experiment
    results: Path
    products: dict[str, Product] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.identities = Identities(self.experiment, self.results)
        for product in self._all():
            self.products[product.name] = product
        remember_sources()

    @cached_property
    def reasons(self) -> dict[str, Reason]:
        """Products that would be made again, with the reason."""
        return self._reasons(self.products)

    def reasons_of(self, part: Part) -> dict[str, Reason]:
        """The same of a run that is asked for a part."""
        return self._reasons(self._needed_by(part))

    def made(self) -> Part:
        """What is up to date: systems with all that tables show of them, and the studies that figures show, each with
        the seeds of which that is so."""
        experiment = self.experiment

        def made_seeds(system: str, *products: str) -> list[int]:
            def is_made(seed: int) -> bool:
                names = [f"{product}, seed {seed}" for product in products]
                return all(name in self.products and name not in self.reasons for name in names)

            return [seed for seed in experiment.seeds_of(system) if is_made(seed)]

        kinds = ("train", *SHOWN_OF_SYSTEMS)
        systems = {name: made_seeds(name, *(f"{kind} {name}" for kind in kinds)) for name in experiment.systems}
        studies = {study: made_seeds(kind_and_system(study)[1], study) for study in all_studies(experiment)}
        return ordered(experiment, systems, studies)

    def shown(self, asked: Part) -> Part:
        """What analysis shows after a run that was asked for a part: that, and what is up to date already."""
        return joined(self.experiment, asked, self.made())

    def _reasons(self, names: Collection[str]) -> dict[str, Reason]:
        found: dict[str, Reason] = {}
        for name, product in self.products.items():
            if name not in names:
                continue
            follows = tuple(each for each in product.needs if each in found)
            if not product.made.is_file():
                found[name] = Reason(missing=True)
            elif product.written is None:
                found[name] = Reason(("no identity was written down when it was made",))
            elif changed := changes(product.written, product.today):
                found[name] = Reason(tuple(changed), follows)
            elif follows:
                found[name] = Reason(follows=follows)
        return found

    def _needed_by(self, part: Part) -> set[str]:
        """The products that a run makes which is asked for a part."""
        found = {"check", "analysis", "report"}
        asked: Seeds = {f"{kind} {name}": part.systems[name] for kind in SHOWN_OF_SYSTEMS for name in part.systems}
        waiting = [f"{name}, seed {seed}" for name, seeds in {**asked, **part.studies}.items() for seed in seeds]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.products[name].needs
        return found

    def _all(self) -> Iterator[Product]:
        experiment, identities, results = self.experiment, self.identities, self.results
        written = results / "check.identity.json"
        yield self._product("check", results / "experiment.json", written, identities.check_recipe())
        data = identities.data
        yield self._product("data", data / "corpus.json", data / "data.identity.json", identities.data_recipe())
        for family in [None, *experiment.families]:
            folder = data if family is None else data / family
            contents = identities.inputs_contents(family)
            recipe = identities.inputs_recipe(family)
            name = inputs_name(family)
            written = folder / "inputs.identity.json"
            yield self._product(name, folder / "tokenizer.json", written, recipe, contents, ("data",))
        place = {name: number for number, name in enumerate(in_order(experiment))}
        for system, seed in sorted(experiment.trainings, key=lambda each: (each[1], place[each[0]])):
            yield from self._of_system(system, seed)
        kinds = tuple(f"{kind} of " for kind in STUDIES)
        made = [name for name in self.products if name.startswith((*SHOWN_OF_SYSTEMS, *kinds))]
        needs = ("check", *made)
        recipe, contents = identities.analysis_recipe(), identities.analysis_contents()
        written = results / "analysis.identity.json"
        yield self._product("analysis", results / "RESULTS.md", written, recipe, contents, needs)
        recipe, written = identities.report_recipe(), results / "report.identity.json"
        contents = identities.report_contents()
        yield self._product("report", results / "report.html", written, recipe, contents, ("analysis",))

    def _of_system(self, system: str, seed: int) -> Iterator[Product]:
        experiment, identities = self.experiment, self.identities
        folder, of = identities.folder(system, seed), f"{system}, seed {seed}"
        sources = experiment.needs(system)
        orders = experiment.needs_sensitivity(system)
        needs = ["data", inputs_name(experiment.systems[system].family)]
        needs += [f"train {name}, seed {seed}" for name in sources]
        needs += [f"sensitivity of {name}, seed {seed}" for name in orders]
        written = read_identity(folder / "provenance.json", "identity")
        today = identity(
            identities.training_recipe(system), identities.training_contents(system, identities.folders(system, seed))
        )
        yield Product(
            f"train {of}", folder / "model.safetensors", _as_accepted(folder, written, today), today, tuple(needs)
        )
        trained = (f"train {of}", *needs[:2])
        recipe = identities.evaluation_recipe(system)
        contents = identities.evaluation_contents(system, folder)
        yield self._product(
            f"evaluate {of}", folder / "eval/points.json", folder / "eval/identity.json", recipe, contents, trained
        )
        recipe, contents = identities.costs_recipe(system), identities.costs_contents(system, folder)
        made, written = folder / "measured/costs.json", folder / "measured/identity.json"
        yield self._product(f"costs of {of}", made, written, recipe, contents, trained)
        if self._sensitivity_is_asked_for(system):
            recipe = identities.sensitivity_recipe(system)
            contents = identities.evaluation_contents(system, folder, [experiment.dev_set])
            made, written = folder / "sensitivity.json", folder / "sensitivity/identity.json"
            yield self._product(f"sensitivity of {of}", made, written, recipe, contents, trained)
        if f"weight errors of {system}" in all_studies(experiment):
            recipe = identities.weight_errors_recipe(system)
            contents = identities.evaluation_contents(system, folder, [experiment.dev_set])
            made, written = folder / "weight_errors.json", folder / "weight_errors.identity.json"
            yield self._product(f"weight errors of {of}", made, written, recipe, contents, trained)

    def _sensitivity_is_asked_for(self, system: str) -> bool:
        others = (self.experiment.needs_sensitivity(name) for name in self.experiment.systems)
        shown = f"sensitivity of {system}" in all_studies(self.experiment)
        return shown or any(system in ordered for ordered in others)

    def _product(
        self,
        name: str,
        made: Path,
        written: Path,
        recipe: Recipe,
        contents: Contents | None = None,
        needs: tuple[str, ...] = (),
    ) -> Product:
        return Product(name, made, read_identity(written), identity(recipe, contents or {}), needs)


def inputs_name(family: str | None) -> str:
    """What tokenizer and features of a family (None: the experiment's own) are called."""
    return f"inputs of {family}" if family else "inputs"


def in_order(experiment: Experiment) -> list[str]:
    """The systems of an experiment, each behind those that it starts from."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for needed in experiment.needs(name):
            add(needed)
        if name not in ordered:
            ordered.append(name)

    for name in experiment.systems:
        add(name)
    return ordered


def _as_accepted(folder: Path, written: dict[str, Any] | None, today: dict[str, Any]) -> dict[str, Any] | None:
    """Today's identity in place of the written one, where it was accepted."""
    if written is None or not (folder / FILE).is_file():
        return written
    recipe = recipe_hash(today["recipe"])
    same = counted_as(folder, recipe) == recipe_hash(written["recipe"])
    return today if same and read_json(folder / FILE)["contents"] == today["contents"] else written


def accept(plan: Plan, system: str) -> list[str]:
    """Keep what was trained of `system`, all seeds that are finished; return the differences. Raises `UserError` where
    there is nothing to keep, or nothing that changed."""
    if system not in plan.experiment.systems:
        raise unknown("system", system, plan.experiment.systems, plan.experiment.name)
    products = [plan.products[f"train {system}, seed {seed}"] for seed in plan.experiment.seeds_of(system)]
    finished = [product for product in products if product.made.is_file()]
    if not finished:
        raise UserError(f"{system}: there is no finished result to keep")
    for product in finished:
        if product.written is None:
            raise UserError(f"{product.name}: no identity was written down when it was made; it cannot be compared")
    changed = {product.name: changes(product.written, product.today) for product in finished}
    accepted = [line for found in changed.values() for line in found]
    for product in finished:
        if changed[product.name]:
            _keep(product, changed[product.name])
    if not accepted:
        raise UserError(f"{system}: nothing of it has changed; there is nothing to accept")
    return list(dict.fromkeys(accepted))


def _keep(product: Product, found: list[str]) -> None:
    folder = product.made.parent
    provenance = read_json(folder / "provenance.json")
    trained = recipe_hash(provenance["identity"]["recipe"])
    write_accepted(folder, trained, recipe_hash(product.today["recipe"]), product.today["contents"])
    note = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "difference": found, **commit()}
    write_json(folder / "provenance.json", {**provenance, "accepted": [*provenance.get("accepted", []), note]})
    now = time.time_ns()
    for name in OUTPUTS:  # newer than what they were made from: Snakemake compares times where contents differ
        os.utime(folder / name, ns=(now, now))


def files_to_force(plan: Plan, part: Part) -> list[str]:
    """A file of each product of a run that is there and was made by something else than would make it today; and the
    one that says what is made, where that is another part than it says, or something is missing."""
    reasons, named = plan.reasons_of(part), plan.results / MADE
    files = [str(plan.products[name].made) for name, reason in reasons.items() if reason.changed]
    said, shown = read_json(named) if named.is_file() else {}, plan.shown(part)
    same = (said.get("systems"), said.get("studies")) == (_as_json(shown.systems), _as_json(shown.studies))
    if not same or any(reason.missing for reason in reasons.values()):
        files.append(str(named))
    return files


def _as_json(seeds: Seeds) -> dict[str, list[int]]:
    return {name: [*own] for name, own in seeds.items()}


def said_first(plan: Plan, part: Part | None = None) -> list[str]:
    """What a run (of a part) says before it trains finished systems again; nothing where it would train none."""
    reasons = plan.reasons if part is None else plan.reasons_of(part)
    found = {name: why for name, why in reasons.items() if name.startswith("train ") and not why.missing}
    if not found:
        return []
    names = [f"  {name.removeprefix('train ')}: {why}" for name, why in found.items()]
    return [
        f"note: {len(found)} finished system{'s' * (len(found) > 1)} would be trained again:",
        *names,
        "  (python -m workflows.why tells all; --accept SYSTEM keeps one as it is; where results were moved or copied,",
        "  `make reproduce` knows it, Snakemake by itself does not)",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.why", description="What would be made again, and which part of its identity changed."
    )
    parser.add_argument("--experiment", default="smoke", help="name of a file in config/, or a YAML file")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all results")
    parser.add_argument("--accept", metavar="SYSTEM", action="append", default=[], help="keep this system as it is")
    parser.add_argument(
        "--force", action="store_true", help="print nothing but what makes Snakemake run it all: --forcerun FILE …"
    )
    add_arguments(parser)
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    part = asked_of(experiment, arguments)
    plan = Plan(experiment, arguments.results / experiment.name)
    if arguments.force:
        files = files_to_force(plan, part)
        print(shlex.join(["--forcerun", *files]) if files else "")
        return
    for system in arguments.accept:
        for line in accept(plan, system):
            print(f"accepted for {system}: {line}")
    if arguments.accept:
        plan = Plan(experiment, arguments.results / experiment.name)
    reasons = plan.reasons_of(part)
    for name, reason in reasons.items():
        print(f"{name}: {reason}")
    if not reasons:
        print("nothing would be made again")


if __name__ == "__main__":
    sys.exit(run(main))
