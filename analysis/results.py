"""What one experiment left on disk, as typed objects; each transcript is read and scored once.

    results = Results(Path("results/smoke"))
    results.counts(results.points("f6", 0).points[0], "greedy", ["test"])

`docs/files.md` describes the files. A missing or malformed one is a `UserError` that names it and the system.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from analysis.alignment import Alignment, align
from analysis.counts import Counts
from analysis.trn import Transcript, read_trn
from common.errors import UserError, unknown
from common.files import read_json
from common.settings import parse


class _Read(BaseModel):
    """Part of a file that another step wrote: what analysis does not use is not checked."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Row(_Read):
    """What stands behind one row of a table: all offered paths of a depth, or one path (also written `1 1 2 2`)."""

    system: str
    depth: int | None = None
    path: tuple[int, ...] | None = None

    @field_validator("path", mode="before")
    @classmethod
    def _split(cls, path: Any) -> Any:
        return path.split() if isinstance(path, str) else path


class TableSpec(_Read):
    """One table of the experiment. `rows` maps the published row names to what we have for them."""

    kind: str
    decode: str
    reference: str
    rows: dict[str, Row]
    published: str | None = None


class FigureSpec(_Read):
    """One figure: curves of systems that run at several depths, and baselines that run at one."""

    kind: str
    decode: str
    systems: list[str]
    baselines: list[str] = []


class CorpusName(_Read):
    name: str


class Experiment(_Read):
    """`experiment.json`: the experiment with all defaults filled in."""

    name: str
    title: str = ""
    note: str = ""
    evidence: bool = False
    corpus: CorpusName
    dev_set: str
    test_sets: list[str]
    seeds: list[int]
    decodes: dict[str, dict[str, Any]]
    systems: dict[str, dict[str, Any]]
    headline: str | None = None
    tables: dict[str, TableSpec] = {}
    figures: dict[str, FigureSpec] = {}


class Point(_Read):
    """One way to execute a trained system. `system` and `seed` are added on reading."""

    id: str
    label: str = ""
    path: tuple[int, ...] | None = None
    depth: int | None = None
    offered: bool
    trained: bool
    system: str
    seed: int

    @property
    def shown(self) -> str:
        """What a table calls it: the path as repeat counts, or for methods without paths the label."""
        return " ".join(map(str, self.path)) if self.path else self.label or self.id


class DecodedSet(_Read):
    """Which points were decoded on one set, and the reference their transcripts stand beside."""

    reference: str
    points: list[str]


class Decode(_Read):
    sets: dict[str, DecodedSet]


class SystemPoints(_Read):
    """`points.json`: all operating points of one trained system, and what was decoded."""

    system: str
    seed: int
    physical_layers: int | None = None
    points: list[Point]
    decodes: dict[str, Decode]


class Results:
    """The folder of one experiment. Everything is read on demand and kept for the life of the object."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._points: dict[tuple[str, int], SystemPoints] = {}
        self._transcripts: dict[Path, Transcript] = {}
        self._alignments: dict[tuple[Path, Path], Alignment] = {}

    @cached_property
    def experiment(self) -> Experiment:
        """`experiment.json`, with every system that a table or figure names known to exist."""
        path = self.folder / "experiment.json"
        experiment = parse(Experiment, read_json(path), str(path))
        self._check_names(experiment, str(path))
        return experiment

    @staticmethod
    def _check_names(experiment: Experiment, path: str) -> None:
        named = [
            (f"tables.{table}.rows.{name}", row.system)
            for table, spec in experiment.tables.items()
            for name, row in spec.rows.items()
        ]
        for figure, spec in experiment.figures.items():
            named += [(f"figures.{figure}", system) for system in [*spec.systems, *spec.baselines]]
        for key, system in named:
            if system not in experiment.systems:
                raise unknown("system", system, experiment.systems, f"{path}: {key}")
        for table, spec in experiment.tables.items():
            if spec.reference not in spec.rows:
                raise unknown("row", spec.reference, spec.rows, f"{path}: tables.{table}.reference")
        if not experiment.seeds or not experiment.test_sets:
            raise UserError(f"{path}: 'seeds' and 'test_sets' must name at least one each")

    def system_folder(self, system: str, seed: int) -> Path:
        """Where the files of one trained system stand."""
        return self.folder / "systems" / system / f"seed{seed}"

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
        reference = self.points(point.system, point.seed).decodes[decode].sets[test_set].reference
        return self._align(self._own(reference), folder / decode / test_set / f"{point.id}.trn")

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

    def optional(self, system: str, seed: int, name: str) -> dict[str, Any] | None:
        """A JSON file of a system that a table can do without (`measured/costs.json`), or None where there is none."""
        path = self.system_folder(system, seed) / name
        return read_json(path) if path.exists() else None

    def _align(self, reference: Path, hypothesis: Path) -> Alignment:
        key = (reference, hypothesis)
        if key not in self._alignments:
            self._alignments[key] = align(self.transcript(reference), self.transcript(hypothesis))
            if not self._alignments[key].counts.ref_words:
                raise UserError(f"{reference}: holds no word, so there is no word error rate")
        return self._alignments[key]

    def _own(self, reference: str) -> Path:
        """A path below `results/<experiment>/`, found in this folder even after the folder was moved."""
        parts = Path(reference).parts
        for name in (self.folder.resolve().name, self.experiment.name):
            if name in parts:
                moved = self.folder.joinpath(*parts[parts.index(name) + 1 :])
                if moved.exists():
                    return moved
        return Path(reference)
