"""What one experiment left on disk; each transcript is read and scored once.

    results = Results(Path("results/smoke"))
    results.counts(results.points("f6", 0).points[0], "greedy", ["test"])

A missing or malformed file is a `UserError` that names it and the system.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from analysis.inputs.made import read_made, shown_part
from analysis.inputs.schemas import (
    Costs,
    Decode,
    Experiment,
    Made,
    Point,
    Provenance,
    SystemPoints,
)
from analysis.inputs.studies import Sensitivity, WeightErrors
from analysis.scoring.alignment import Alignment
from analysis.scoring.counts import Counts
from analysis.scoring.normalise import Normaliser, load_normaliser
from analysis.scoring.score import Scorer
from analysis.scoring.speakers import speakers_file, with_units
from analysis.scoring.trn import Transcript, read_trn
from common.errors import UserError, unknown
from common.files import read_json
from common.settings import parse

File = TypeVar("File", bound=BaseModel)


class Results:
    """The folder of one experiment. Everything is read on demand and kept for the life of the object."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._points: dict[tuple[str, int], SystemPoints] = {}
        self._transcripts: dict[Path, Transcript] = {}
        self._references: dict[Path, Transcript] = {}
        self._alignments: dict[tuple[Path, Path], Alignment] = {}

    @cached_property
    def experiment(self) -> Experiment:
        """The part of the experiment that is made and up to date: what is shown."""
        return shown_part(self.whole, self.made)

    @cached_property
    def made(self) -> Made | None:
        """`made.json`: what is up to date; None where nobody says so, and everything is shown."""
        return read_made(self.folder)

    @cached_property
    def whole(self) -> Experiment:
        """`experiment.json`, with every system that a table or figure names known to exist."""
        path = self.folder / "experiment.json"
        experiment = parse(Experiment, read_json(path), str(path))
        self._check_names(experiment, str(path))
        return experiment

    @cached_property
    def normaliser(self) -> Normaliser:
        """What is done to all transcripts before they are compared."""
        chosen = self.experiment.normaliser
        where = f"{self.folder / 'experiment.json'}: normaliser"
        return load_normaliser(chosen.name, chosen.glm, where, self.experiment.score)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.normaliser)

    @staticmethod
    def _check_names(experiment: Experiment, path: str) -> None:
        named = [
            (f"tables.{table}.rows.{name}", row.system)
            for table, spec in experiment.tables.items()
            for name, row in spec.rows.items()
        ]
        for figure, spec in experiment.figures.items():
            named += [(f"figures.{figure}", system) for system in [*spec.systems, *spec.baselines]]
            named += [(f"figures.{figure}.sensitivity", spec.sensitivity)] if spec.sensitivity is not None else []
            if spec.table is not None and spec.table not in experiment.tables:
                raise unknown("table", spec.table, experiment.tables, f"{path}: figures.{figure}.table")
        for key, system in named:
            if system not in experiment.systems:
                raise unknown("system", system, experiment.systems, f"{path}: {key}")
        for name, system in experiment.systems.items():
            if system.family is not None and system.family not in experiment.families:
                raise unknown("family", system.family, experiment.families, f"{path}: systems.{name}.family")
        for table, spec in experiment.tables.items():
            references = {"": spec.reference, **{f".rows.{name}": row.reference for name, row in spec.rows.items()}}
            for place, name in references.items():
                if name is not None and name not in spec.rows:
                    raise unknown("row", name, spec.rows, f"{path}: tables.{table}{place}.reference")
            for name in experiment.sets_of(spec):
                if name not in experiment.decoded_sets:
                    raise unknown("set", name, experiment.decoded_sets, f"{path}: tables.{table}.sets")
        if not experiment.seeds or not experiment.test_sets:
            raise UserError(f"{path}: 'seeds' and 'test_sets' must name at least one each")

    def system_folder(self, system: str, seed: int) -> Path:
        """Where the files of one trained system stand."""
        return self.folder / "systems" / system / f"seed{seed}"

    def seeds_of(self, system: str) -> list[int]:
        """The training seeds of a system that are shown."""
        return self.experiment.seeds_of(system)

    def seeds_of_study(self, kind: str, system: str) -> list[int]:
        """The seeds of which there is a study of a system: of kind `sensitivity` or `weight errors`."""
        return self.whole.seeds_of(system) if self.made is None else self.made.studies.get(f"{kind} of {system}", [])

    def numbers_of_seeds(self, systems: Iterable[str] | None = None) -> list[int]:
        """How many seeds some systems (None: all) are shown with, each number once, the smallest first."""
        wanted = {*(self.experiment.systems if systems is None else systems)}
        return sorted({len(self.seeds_of(name)) for name in wanted})

    def several_seeds(self, systems: Iterable[str]) -> str:
        """The numbers of seeds of some systems as sentences print them, `3` or `2 or 3`; empty where all have one."""
        numbers = self.numbers_of_seeds(systems)
        return " or ".join(map(str, numbers)) if max(numbers, default=1) > 1 else ""

    def first_seeds(self, systems: Iterable[str]) -> str:
        """The first seed of each of some systems, each number once: what stands for one training says of which."""
        return ", ".join(map(str, sorted({self.seeds_of(system)[0] for system in systems})))

    def first_points(self, system: str) -> SystemPoints:
        """The operating points of the first seed of a system."""
        return self.points(system, self.seeds_of(system)[0])

    def points(self, system: str, seed: int) -> SystemPoints:
        """The operating points of one system. Raises `UserError` when it has not been evaluated."""
        if (system, seed) not in self._points:
            path = self.system_folder(system, seed) / "eval" / "points.json"
            if not path.exists():
                raise UserError(f"{path}: no such file; system '{system}' (seed {seed}) has not been evaluated")
            content = read_json(path)
            for point in content.get("points", []) if isinstance(content, dict) else []:
                point.update(system=system, seed=seed)
            self._points[system, seed] = parse(SystemPoints, content, str(path))
        return self._points[system, seed]

    def decoded(self, point: Point, decode: str, test_set: str) -> bool:
        """Whether there is a transcript of this point."""
        sets = self.points(point.system, point.seed).decodes.get(decode, Decode(sets={})).sets
        return test_set in sets and point.id in sets[test_set].points

    def alignment(self, point: Point, decode: str, test_set: str) -> Alignment:
        """One transcript aligned with its reference. Raises `UserError` when it was not decoded or does not match."""
        folder = self.system_folder(point.system, point.seed) / "eval"
        if not self.decoded(point, decode, test_set):
            raise UserError(
                f"{folder / 'points.json'}: point '{point.id}' of system '{point.system}' (seed {point.seed}) "
                f"was not decoded by '{decode}' on '{test_set}'"
            )
        found = self._own(self.points(point.system, point.seed).decodes[decode].sets[test_set].reference)
        return self._align(self._reference(found, test_set), folder / decode / test_set / f"{point.id}.trn")

    def alignments(self, point: Point, decode: str, test_sets: Iterable[str]) -> list[Alignment]:
        """The alignments of one point on several sets."""
        return [self.alignment(point, decode, test_set) for test_set in test_sets]

    def counts(self, point: Point, decode: str, test_sets: Iterable[str]) -> Counts:
        """The counts of one point, pooled over several sets."""
        return sum((alignment.counts for alignment in self.alignments(point, decode, test_sets)), Counts.zero())

    def transcript(self, path: Path) -> Transcript:
        """One `.trn` file, read once."""
        if path not in self._transcripts:
            self._transcripts[path] = read_trn(path)
        return self._transcripts[path]

    def costs(self, system: str, seed: int) -> Costs | None:
        """What was measured for a system; None where nothing was."""
        return self._optional(Costs, self.system_folder(system, seed) / "measured" / "costs.json")

    def provenance(self, system: str, seed: int) -> Provenance | None:
        """Where a system comes from; None where that was not written down."""
        return self._optional(Provenance, self.system_folder(system, seed) / "provenance.json")

    def sensitivity(self, system: str, seed: int) -> Sensitivity | None:
        """What each layer of a system matters; None where that was not measured."""
        return self._optional(Sensitivity, self.system_folder(system, seed) / "sensitivity.json")

    def weight_errors(self, system: str, seed: int) -> WeightErrors:
        """What errors in the weights of a system do. Raises `UserError` where that was not measured."""
        path = self.system_folder(system, seed) / "weight_errors.json"
        return parse(WeightErrors, read_json(path), str(path))

    @property
    def _data(self) -> Path:
        """Where the corpus stands."""
        return self.folder / "data" / self.experiment.corpus.name

    @cached_property
    def corpus(self) -> dict[str, Any]:
        """`corpus.json`: what was prepared; empty where nobody wrote it down."""
        path = self._data / "corpus.json"
        content = read_json(path) if path.exists() else {}
        return content if isinstance(content, dict) else {}

    @staticmethod
    def _optional(model: type[File], path: Path) -> File | None:
        return parse(model, read_json(path), str(path)) if path.exists() else None

    def _reference(self, path: Path, test_set: str) -> Transcript:
        """A reference with its speakers: named beside it, else (it is a part of a set) beside the whole set's. In
        groups where the experiment makes some, without them where it wants intervals over utterances."""
        if path not in self._references:
            places = [path, self._data / f"{test_set}.trn"] if self.experiment.intervals == "speakers" else []
            named = next((place for place in map(speakers_file, places) if place.exists()), None)
            groups = self.experiment.corpus.speaker_groups
            self._references[path] = with_units(self.transcript(path), named, groups)
        return self._references[path]

    def _align(self, reference: Transcript, hypothesis: Path) -> Alignment:
        key = (reference.path, hypothesis)
        if key not in self._alignments:
            self._alignments[key] = self._scorer.align(reference, self.transcript(hypothesis))
            if not self._alignments[key].counts.ref_words:
                raise UserError(f"{reference.path}: holds no word, so there is no word error rate")
        return self._alignments[key]

    def _own(self, reference: str) -> Path:
        """A path below `results/<experiment>/`, found in this folder even after the folder was moved."""
        parts = Path(reference).parts
        names = {self.folder.resolve().name, self.experiment.name}
        for position, part in enumerate(parts):
            moved = self.folder.joinpath(*parts[position + 1 :])
            if part in names and moved.is_file():
                return moved
        return Path(reference)
