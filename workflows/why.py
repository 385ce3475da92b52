"""What a run would make again, and which part of its identity changed; and results that are kept all the same.

    python -m workflows.why --experiment smoke                     what would be made again, and why
    python -m workflows.why --experiment smoke --only table1       the same of a part; --only all: of everything
    python -m workflows.why --experiment smoke --accept f6         keep f6 as it was trained; all: every changed system
    snakemake $(python -m workflows.why --experiment smoke --force)

Snakemake sees a change by its own notes, in `.snakemake`, which know results by the folder in which they were made.
What stands beside each result knows more: with `--force` that decides, in a folder that was moved, copied or cleaned
too.

An accepted system is not trained again for today's change. The difference is written into its provenance and stands
under every table of error rates that shows it. What takes less time (decoding, costs, tables) is made again all the
same, unless `--everything` keeps it too.
"""

import argparse
import shlex
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from common.errors import UserError, run, unknown
from common.files import read_json
from workflows.acceptance import EVERY, accept, changed_systems
from workflows.accepted import accepted_for, is_brought
from workflows.experiment import Experiment, load_experiment
from workflows.identity import Contents, Identities, Recipe, changes, identity, read_identity, recipe_hash
from workflows.not_here import FRESH, checked_fresh, completed, recordings_are_here, refusal, weights_file
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
from workflows.products import Product, Reason, inputs_name
from workflows.sources import remember_sources

SHOWN_OF_SYSTEMS = ("evaluate", "costs of")
"""How products of systems are called: `costs of f6, seed 0`."""
MADE = "made.json"


@dataclass
class Plan:
    """The products of an experiment in the order in which they are made, and why some would be made again. `fresh`:
    what is asked for is trained anew, as `FRESH` of `workflows.not_here` says it."""

    experiment: Experiment
    results: Path
    fresh: str = ""
    products: dict[str, Product] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fresh = checked_fresh(self.fresh)
        self.identities = Identities(self.experiment, self.results)
        for product in self._all():
            self.products[product.name] = product
        remember_sources()

    @cached_property
    def reasons(self) -> dict[str, Reason]:
        """Products that would be made again, with the reason."""
        return self._reasons(self.products)

    def reasons_of(self, part: Part) -> dict[str, Reason]:
        """The same of a run that is asked for a part, with what is made again because something that it needs is not
        here, or anew because it was asked for so."""
        needed = self._needed_by(part)
        return {name: reason for name, reason in self.again(part).items() if name in needed}

    def again(self, part: Part) -> dict[str, Reason]:
        """`reasons_of` a part, and of what follows from it without being asked for: it will be out of date."""
        needed = self._needed_by(part)
        anew = [f"train {name}, seed {seed}" for name, seeds in part.systems.items() for seed in seeds]
        found = {name: Reason(("asked for anew",)) for name in anew if self.fresh == FRESH}
        recordings = recordings_are_here(self.identities.data, self.experiment.decoded_sets)
        return completed(self.products, {**found, **self._reasons(needed)}, needed, recordings)

    def refused(self, part: Part) -> list[str]:
        """Lines that say why a run of a part must not begin; empty where it may."""
        return [] if self.fresh else refusal(self.products, self.again(part), self.reasons_of(part))

    def settled(self, part: Part) -> set[str]:
        """Products that come from the committed results, and that a run of a part leaves as they are: whatever is
        prepared meanwhile does not make them again."""
        again = self.again(part)
        brought = {name for name, product in self.products.items() if product.system and is_brought(product.folder)}
        return {name for name in brought if name not in again}

    def made(self, besides: Collection[str] = ()) -> Part:
        """What is up to date: systems with all that tables show of them, and the studies that figures show, each with
        the seeds of which that is so; without what some products (`besides`) are of."""
        experiment = self.experiment

        def made_seeds(system: str, *products: str) -> list[int]:
            def is_made(seed: int) -> bool:
                names = [f"{product}, seed {seed}" for product in products]
                return all(name in self.products and name not in self.reasons and name not in besides for name in names)

            return [seed for seed in experiment.seeds_of(system) if is_made(seed)]

        kinds = ("train", *SHOWN_OF_SYSTEMS)
        systems = {name: made_seeds(name, *(f"{kind} {name}" for kind in kinds)) for name in experiment.systems}
        studies = {study: made_seeds(kind_and_system(study)[1], study) for study in all_studies(experiment)}
        return ordered(experiment, systems, studies)

    def shown(self, asked: Part) -> Part:
        """What analysis shows after a run that was asked for a part: that, and what is up to date already."""
        return joined(self.experiment, asked, self.made(self.again(asked)))

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
            folder = identities.folder(system, seed)
            for product in self._of_system(system, seed):
                yield _as_it_counts(replace(product, folder=folder, system=system, seed=seed), folder)
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
        yield Product(f"train {of}", weights_file(folder, is_brought(folder)), written, today, tuple(needs))
        trained = (f"train {of}", *needs[:2])
        recipe = identities.evaluation_recipe(system)
        contents = identities.evaluation_contents(system, folder)
        yield self._product(
            f"evaluate {of}", folder / "eval/points.json", folder / "eval/identity.json", recipe, contents, trained
        )
        recipe = identities.costs_recipe(system, experiment.is_timed(system, seed))
        contents = identities.costs_contents(system, folder)
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
        product = Product(name, made, read_identity(written), identity(recipe, contents or {}), needs)
        return _as_it_counts(product, self.identities.data)


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


def _as_it_counts(product: Product, folder: Path) -> Product:
    """A product with today's identity in place of the written one, where it was accepted."""
    product, accepted = replace(product, recorded=product.written), accepted_for(folder, product.kind)
    if accepted is None or product.written is None:
        return product
    recipes = recipe_hash(product.written["recipe"]), recipe_hash(product.today["recipe"])
    same = recipes == (accepted["made"], accepted["accepted"]) and accepted["contents"] == product.today["contents"]
    return replace(product, written=product.today) if same else product


def files_to_force(plan: Plan, part: Part) -> list[str]:
    """A file of each product of a run that is there and was made by something else than would make it today; and the
    one that says what is made, where that is another part than it says, or something is missing."""
    reasons, named = plan.reasons_of(part), plan.results / MADE
    files = [str(plan.products[name].made) for name, reason in reasons.items() if reason.is_its_own]
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


def say_first(plan: Plan, part: Part) -> None:
    """Say on standard error what `said_first` says: hours of work may hang on it. Raises `UserError` where a run of the
    part must not begin."""
    sys.stderr.writelines(f"{line}\n" for line in said_first(plan, part))
    if lines := plan.refused(part):
        raise UserError("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.why", description="What would be made again, and which part of its identity changed."
    )
    parser.add_argument("--experiment", default="smoke", help="name of a file in config/, or a YAML file")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all results")
    kept = f"keep this system as it is; {EVERY}: every one of which something has changed"
    parser.add_argument("--accept", metavar="SYSTEM", action="append", default=[], help=kept)
    parser.add_argument("--everything", action="store_true", help="with --accept: what was decoded and measured too")
    parser.add_argument(
        "--fresh", default="", metavar="1|sources", help="train anew what is asked for, or what lacks its weights here"
    )
    parser.add_argument(
        "--force", action="store_true", help="print nothing but what makes Snakemake run it all: --forcerun FILE …"
    )
    add_arguments(parser)
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    part = asked_of(experiment, arguments)
    plan = Plan(experiment, arguments.results / experiment.name, arguments.fresh)
    if arguments.force:
        files = files_to_force(plan, part)
        print(shlex.join(["--forcerun", *files]) if files else "")
        return
    products, everything = [*plan.products.values()], arguments.everything
    systems = changed_systems(products, everything) if EVERY in arguments.accept else arguments.accept
    for system in systems:
        if system not in experiment.systems:
            raise unknown("system", system, experiment.systems, experiment.name)
        for line in accept(products, system, everything):
            print(f"accepted for {system}: {line}")
    if arguments.accept:
        plan = replace(plan, products={})
    reasons = plan.reasons_of(part)
    for name, reason in reasons.items():
        print(f"{name}: {reason}")
    for line in plan.refused(part):
        print(line)
    if not reasons:
        print("nothing would be made again")


if __name__ == "__main__":
    sys.exit(run(main))
