"""Put finished systems of a run among the committed results: whoever has `results/reference/<experiment>` takes them as
done.

    python -m workflows.keep --experiment mini_cpu                         whatever is finished
    python -m workflows.keep --experiment mini_cpu --systems a12 --seeds 0

A system is kept when it is up to date with its transcripts, costs and studies, and what it was made from is kept. A
source and everything derived from it are one piece: whoever goes on elsewhere from a source without weights has to
train it again, and then what was derived from it too. So a source without weights is kept once all that a run makes of
it is finished, earlier with `--incomplete`. Weights are kept of the systems that the experiment names (`keep_weights`),
as long as they fit. Tables and verdicts are copied too, if analysis wrote them from just these results as it is today.
`git add` and `git commit` are yours.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asr.corpora.content import content_file
from common.errors import UserError, run
from common.files import read_json
from workflows.accepted import is_brought, write_brought
from workflows.experiment import Experiment, load_experiment
from workflows.identity import changes
from workflows.kept import (
    ARCHIVE,
    OF_HERE,
    PLAIN,
    REFERENCE,
    SHOWN,
    WEIGHTS,
    copy_files,
    data_files,
    digest,
    is_older,
    pack,
    piece,
)
from workflows.part import Part, add_arguments, asked_of, in_no_part, the_whole
from workflows.products import NEVER_MADE, Product, Reason
from workflows.why import SHOWN_OF_SYSTEMS, Plan

Piece = tuple[str, int]
MEGABYTES = 30.0
"""So much may all weights among an experiment's committed results take."""


@dataclass
class Keeper:
    """What is finished in `results`, the experiment's folder, and what its committed results in `reference` hold."""

    experiment: Experiment
    results: Path
    reference: Path
    megabytes: float = MEGABYTES
    incomplete: bool = False
    """Whether a source is kept before what is derived from it is finished."""

    @cached_property
    def plan(self) -> Plan:
        return Plan(self.experiment, self.results)

    def lacks(self, each: Piece) -> list[str]:
        """What of a system is not up to date, each with its reason; studies may be missing."""
        always, reasons = ("train", *SHOWN_OF_SYSTEMS), self.plan.reasons
        found = [product for product in self._of(each) if product.kind in always or not reasons[product.name].missing]
        return [f"{product.name}: {reasons[product.name]}" for product in found]

    def missing_studies(self, each: Piece) -> list[str]:
        """Studies of a system that are not made."""
        return [product.kind.removesuffix(" of") for product in self._of(each)]

    def _of(self, each: Piece) -> list[Product]:
        """Products of a system that are missing or not up to date."""
        products = (product for name, product in self.plan.products.items() if name in self.plan.reasons)
        return [product for product in products if (product.system, product.seed) == each]

    def _places(self, each: Piece) -> tuple[Path, Path]:
        """Where a system stands here, and where among the committed results."""
        return piece(self.results, *each), piece(self.reference, *each)

    def is_kept(self, each: Piece) -> bool:
        """Whether the committed results hold this very system."""
        return _same(*self._places(each), "system.json")

    def is_kept_as_it_is(self, each: Piece) -> bool:
        """Whether they hold the same transcripts and measurements of it too."""
        ours, theirs = self._places(each)
        of_here = OF_HERE if is_brought(ours) else set()
        shown = (name for name in PLAIN if name not in of_here and (ours / name).is_file())
        return self.is_kept(each) and all(_same(ours, theirs, name) for name in shown)

    def hindered(self, each: Piece, together: set[Piece]) -> str | None:
        """Why a finished system cannot be kept, where `together` are kept with it; None where it can."""
        system, seed = each
        if is_older(*self._places(each)) and not self.is_kept_as_it_is(each):
            return "it was brought, and another was committed since: `make reproduce` takes that one"
        sources = [name for name in self.experiment.needs(system) if not self._goes((name, seed), together)]
        if sources:
            return f"what it was made from is not kept: {', '.join(sources)}"
        if self.incomplete or self.experiment.keeps_weights(*each):
            return None
        derived = [name for name in self._made_of(each) if not self._goes((name, seed), together, as_it_is=True)]
        return f"one piece with what is derived from it, which is not kept: {', '.join(derived)}" if derived else None

    def _goes(self, each: Piece, together: set[Piece], as_it_is: bool = False) -> bool:
        """Whether a system is kept too, or was; `as_it_is`: and is up to date."""
        return each in together or (self.is_kept(each) and not (as_it_is and self.lacks(each)))

    def _made_of(self, each: Piece) -> list[str]:
        """Systems that read this one when they train, as far as a run makes them that is asked for nothing, or they
        were made."""
        system, seed = each
        others = [
            name for name, own in self.experiment.trainings if own == seed and system in self.experiment.needs(name)
        ]
        always = in_no_part(self.experiment).systems
        return [name for name in others if name in always or piece(self.results, name, seed).exists()]

    def chosen(self, part: Part) -> tuple[list[Piece], dict[Piece, str]]:
        """What of a part can be kept, seed by seed, and why the rest cannot."""
        asked = [(name, seed) for name, seed in self.experiment.trainings if seed in part.systems.get(name, ())]
        left = {each: "; ".join(lacking) for each in asked if (lacking := self.lacks(each))}
        together = {each for each in asked if each not in left}
        while found := {each: why for each in together if (why := self.hindered(each, together))}:
            left |= found
            together -= found.keys()
        return [each for each in asked if each in together], left

    def keep(self, each: Piece) -> str:
        """Put one system among the committed results; what was done, in words. Its weights are left out where they do
        not fit."""
        source, target = self._places(each)
        own = sum((source / name).stat().st_size for name in WEIGHTS if (source / name).is_file())
        asked = self.experiment.keeps_weights(*each) and (source / WEIGHTS[0]).is_file()
        before = "in the place of an equal system" if self.is_kept(each) else "in the place of another system"
        replaced = f", {before}" if (target / "system.json").is_file() else ""
        if replaced:
            self._remove_shown()  # it was made from what stood here
        fits = self._weights(besides=target) + own <= self.megabytes * 1e6
        pack(source, target, asked and fits)
        if is_brought(source):
            write_brought(source, settled=True, of=digest(target))
        said = f"{_mb(target / ARCHIVE)} of transcripts"
        if asked:
            said += f", weights {own / 1e6:.1f} MB" if fits else f", without weights: {self.megabytes:g} MB are full"
        missing = self.missing_studies(each)
        return said + replaced + (f", without {', '.join(missing)}" if missing else "")

    def _weights(self, besides: Path) -> int:
        """Bytes that weights take by now."""
        files = [path for name in WEIGHTS for path in self.reference.glob(f"systems/*/seed*/{name}")]
        return sum(path.stat().st_size for path in files if path.parent != besides)

    def keep_data(self) -> None:
        """Put what analysis reads of the corpus there. Raises `UserError` where the committed results are of other
        recordings."""
        source, target = (folder / "data" / self.experiment.corpus.name for folder in (self.results, self.reference))
        sets = ["train", *self.experiment.decoded_sets]
        names = [name for name in sets if (target / content_file(name)).is_file()]
        if other := [name for name in names if not _same(source, target, content_file(name))]:
            raise UserError(
                f"{target}: its systems heard other recordings ({', '.join(other)}) than those in {source}; "
                "keep this run under another experiment's name, or remove what is there"
            )
        copy_files(source, target, data_files(self.experiment, source))

    def keep_shown(self) -> str | None:
        """Copy what analysis wrote, in the place of what was there; or say why not: today's analysis of what is here
        was not written yet, or it shows what is not kept."""
        analysis = self.plan.products["analysis"]
        if not analysis.made.is_file() or analysis.written is None:
            return NEVER_MADE
        if changed := changes(analysis.written, analysis.today):
            return str(Reason(tuple(changed)))
        shown = read_json(self.results / "made.json")["systems"]
        pieces = [(name, seed) for name, seeds in shown.items() for seed in seeds]
        if other := [f"{name}, seed {seed}" for name, seed in pieces if not self.is_kept_as_it_is((name, seed))]:
            return f"they show what is not kept: {'; '.join(other)}"
        self._remove_shown()
        copy_files(self.results, self.reference, (path for pattern in SHOWN for path in self.results.glob(pattern)))
        return None

    def _remove_shown(self) -> None:
        for path in (path for pattern in SHOWN for path in self.reference.glob(pattern)):
            path.unlink()


def _same(one: Path, other: Path, name: str) -> bool:
    paths = (one / name, other / name)
    return all(path.is_file() for path in paths) and paths[0].read_bytes() == paths[1].read_bytes()


def _mb(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.keep", description="Put finished systems among the committed results."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    add_arguments(parser)
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all results")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder of all committed results")
    limit = f"what the weights of all systems may take together (default: {MEGABYTES:g})"
    parser.add_argument("--megabytes", type=float, default=MEGABYTES, help=limit)
    early = "keep a source although not all that is derived from it is finished: elsewhere it is then trained again"
    parser.add_argument("--incomplete", action="store_true", help=early)
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    named = arguments.only or arguments.systems or arguments.seeds
    part = asked_of(experiment, arguments) if named else the_whole(experiment)
    folders = arguments.results / experiment.name, arguments.reference / experiment.name
    keeper = Keeper(experiment, *folders, arguments.megabytes, arguments.incomplete)
    chosen, left = keeper.chosen(part)
    if chosen:
        keeper.keep_data()
    for each in chosen:
        done = "as before" if keeper.is_kept_as_it_is(each) else keeper.keep(each)
        print(f"kept {each[0]}, seed {each[1]}: {done}", flush=True)
    if chosen and (why := keeper.keep_shown()):
        print(f"not kept tables and verdicts, which `make reproduce` brings up to date: {why}")
    begun = {each: why for each, why in left.items() if named or piece(folders[0], *each).exists()}
    for (system, seed), why in begun.items():
        print(f"not kept {system}, seed {seed}: {why}")
    if arguments.systems and begun:
        raise UserError(f"{len(begun)} of what was asked for cannot be kept: see above")
    if not chosen:
        raise UserError(f"{folders[0]}: nothing there can be kept")


if __name__ == "__main__":
    sys.exit(run(main))
