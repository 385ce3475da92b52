"""The files that other steps write and analysis reads, as typed objects. `docs/files.md` describes them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class _Read(BaseModel):
    """Part of a file that another step wrote: what analysis does not use is not checked."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Row(_Read):
    """What stands behind one row of a table: all offered paths of a depth, one path (also written `1 1 2 2`), or one
    point by its id (a width, a precision)."""

    system: str
    depth: int | None = None
    point: str | None = None
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


class NormaliserName(_Read):
    """How transcripts are normalised before they are scored, see `analysis.normalise`."""

    name: str = "identity-1"
    glm: str | None = None


class Experiment(_Read):
    """`experiment.json`: the experiment with all defaults filled in."""

    name: str
    title: str = ""
    note: str = ""
    evidence: bool = False
    corpus: CorpusName
    normaliser: NormaliserName = NormaliserName()
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


class RealTimeFactor(_Read):
    median: float


class PointCosts(_Read):
    """What one point costs. Sizes in bytes; MACs and memory for the file's seconds of audio."""

    parameters_stored: int
    parameters_nonzero: int
    parameters_executed: int
    stored_bytes: int
    macs: int | float
    real_time_factor: RealTimeFactor
    peak_memory_bytes: int
    training_peak_memory_bytes: int | None = None
    """Of a training step, activations included; None where training was not measured."""


class Costs(_Read):
    """`costs.json`: what was measured with nothing else running."""

    device: str
    threads: int
    audio_seconds: float
    points: dict[str, PointCosts]


class Provenance(_Read):
    """`provenance.json`: where a system comes from. A fact that is not known is None."""

    commit: str | None = None
    modified: bool | None = None
    device: str | None = None
    processor: str | None = None
    versions: dict[str, str] = {}
    wall_seconds: float | None = None
