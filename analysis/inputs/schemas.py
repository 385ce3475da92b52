"""The files that other steps write and analysis reads, as typed objects. `docs/files.md` describes them."""

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

COSTS_SCHEMA = 2
WER = re.compile(r"\bWER(?=s?\b)")


class Read(BaseModel):
    """Part of a file that another step wrote: what analysis does not use is not checked."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Row(Read):
    """What stands behind one row of a table: all offered paths of a depth, one path (also written `1 1 2 2`), or one
    point by its id (a width, a precision)."""

    system: str
    depth: int | None = None
    point: str | None = None
    path: tuple[int, ...] | None = None
    choose: Literal["median", "best"] = "median"
    """Which of several paths of the depth stands for it: the median one, or the best one on the dev set."""
    reference: str | None = None
    """The row that it is compared with; None: the table's."""

    @field_validator("path", mode="before")
    @classmethod
    def _split(cls, path: Any) -> Any:
        return path.split() if isinstance(path, str) else path


class TableSpec(Read):
    """One table of the experiment. `rows` maps the published row names to what we have for them."""

    kind: str
    title: str | None = None
    decode: str
    sets: list[str] | None = None
    """Sets with a column each, the dev set and further ones among them; None: the test sets."""
    reference: str | None = None
    rows: dict[str, Row]
    published: str | None = None

    def reference_of(self, row: str) -> str | None:
        """The row that one is compared with: its own, else the table's; None for one that is compared with none."""
        found = self.rows[row].reference or self.reference
        return None if found == row else found


class FigureSpec(Read):
    """One figure. Of kind `depth_curves`: curves of systems that run at several depths, and baselines that run at one.
    Of kind `weight_errors`: what errors in the weights of systems do; `matrix_sparsity`: the zeros of each matrix of
    systems; `pareto`: bytes against WER of systems, or of all where none is named."""

    kind: str
    decode: str = ""
    systems: list[str] = []
    baselines: list[str] = []
    table: str | None = None
    """The table whose published rows are drawn beside ours; None: the first of kind table1."""
    sensitivity: str | None = None
    """The system whose WER with one layer left out is drawn too."""

    @property
    def studies(self) -> list[str]:
        """What is shown beside WERs, as `made.json` names it."""
        if self.kind == "weight_errors":
            return [f"weight errors of {system}" for system in self.systems]
        return [] if self.sensitivity is None else [f"sensitivity of {self.sensitivity}"]


class Family(Read):
    """Models that share a backbone; `title` says in words what they are."""

    title: str = ""


class System(Read):
    """What an experiment says of one system. `family` is None for the experiment's own backbone."""

    method: str | None = None
    family: str | None = None
    settings: dict[str, Any] = {}
    seeds: list[int] | None = None
    """None: the experiment's."""

    @property
    def helpers(self) -> dict[str, str]:
        """The systems in memory while this one trains, by role: a teacher, say, but not what it starts from."""
        found = {role: value.get("system") for role, value in self.settings.items() if isinstance(value, dict)}
        return {role: name for role, name in found.items() if isinstance(name, str) and role != "start"}

    @property
    def source(self) -> str | None:
        """The system that this one is derived from; None for one that is derived from none."""
        return self.helpers.get("source")


class SpeakerGroups(Read):
    """Which speakers are one unit of intervals, see `analysis.scoring.speakers.group_speakers`."""

    over: str
    found_by: str


class CorpusName(Read):
    name: str
    speaker_groups: SpeakerGroups | None = None


class BackboneName(Read):
    name: str


class NormaliserName(Read):
    """How transcripts are normalised before they are scored, see `analysis.scoring.normalise`."""

    name: str = "identity-1"
    glm: str | None = None


class Experiment(Read):
    """`experiment.json`: the experiment with all defaults filled in."""

    name: str
    title: str = ""
    note: str = ""
    evidence: bool = False
    corpus: CorpusName
    backbone: BackboneName | None = None
    """Of the systems without a family."""
    normaliser: NormaliserName = NormaliserName()
    intervals: Literal["speakers", "utterances"] = "speakers"
    score: Literal["words", "characters"] = "words"
    """Of what error rates are made."""
    dev_set: str
    test_sets: list[str]
    further_sets: list[str] = []
    """Decoded too, shown where a table names them, never pooled."""
    seeds: list[int]
    decodes: dict[str, dict[str, Any]]
    families: dict[str, Family] = {}
    systems: dict[str, System]
    headline: str | None = None
    tables: dict[str, TableSpec] = {}
    figures: dict[str, FigureSpec] = {}
    parts: dict[str, list[str]] = {}
    """Tables and figures that are made when their part is asked for."""

    @property
    def people(self) -> str:
        """Who must be many for a verdict, in words: speakers, or the groups of them that are one unit of intervals."""
        return self.corpus.speaker_groups.over if self.corpus.speaker_groups else "speakers"

    @property
    def resampled(self) -> str:
        """What intervals resample, in words."""
        return self.people if self.intervals == "speakers" else self.intervals

    @property
    def decoded_sets(self) -> list[str]:
        """All sets that are decoded: dev set, test sets, further sets."""
        return [self.dev_set, *self.test_sets, *self.further_sets]

    @property
    def depth_figures(self) -> dict[str, FigureSpec]:
        """Figures of WER against depth, by name."""
        return {name: figure for name, figure in self.figures.items() if figure.kind == "depth_curves"}

    @property
    def shown_weight_errors(self) -> list[str]:
        """Systems of which a figure shows what errors in their weights do."""
        found = [figure for figure in self.figures.values() if figure.kind == "weight_errors"]
        return list(dict.fromkeys(system for figure in found for system in figure.systems))

    @property
    def shown_by_parts_alone(self) -> set[str]:
        """Systems that tables of parts show, and no other table does."""
        in_parts = {name for names in self.parts.values() for name in names}
        shown = {name: {row.system for row in spec.rows.values()} for name, spec in self.tables.items()}
        always = {system for name, systems in shown.items() if name not in in_parts for system in systems}
        return {system for systems in shown.values() for system in systems} - always

    def seeds_of(self, system: str) -> list[int]:
        """The training seeds of a system; of what is shown, those that are made."""
        return self.systems[system].seeds or self.seeds

    @property
    def rate(self) -> str:
        """What its error rates are called."""
        return "CER" if self.score == "characters" else "WER"

    def named(self, label: str) -> str:
        """A label that speaks of the WER, as it is where errors are those of characters."""
        return WER.sub(self.rate, label)

    def sets_of(self, spec: TableSpec) -> list[str]:
        """The sets with a column each in a table."""
        return spec.sets or self.test_sets

    def family_titles(self, systems: Iterable[str]) -> dict[str | None, str]:
        """What the models behind some systems are, by family; that of the experiment's own backbone is None."""
        own = (f"{self.backbone.name}, " if self.backbone else "") + "the experiment's own backbone"
        families = dict.fromkeys(self.systems[name].family for name in systems)
        return {name: own if name is None else f"{name}: {self.families[name].title}" for name in families}

    def family_notes(self, systems: Iterable[str]) -> list[str]:
        """What the models behind some systems are, a line for each family that occurs; the own backbone has none."""
        members: dict[str, list[str]] = {}
        for name in dict.fromkeys(systems):
            family = self.systems[name].family if name in self.systems else None
            if family is not None:
                members.setdefault(family, []).append(name)
        return [f"{name} systems ({', '.join(own)}): {self.families[name].title}" for name, own in members.items()]


class Made(Read):
    """`made.json`: what of an experiment is made and up to date."""

    systems: dict[str, list[int]]
    """The seeds of each of which there are transcripts and costs."""
    studies: dict[str, list[int]] = {}
    not_made: dict[str, str | None] = {}
    """The systems without any such seed: what changed since they were made; None for those that are not there."""

    def lacking(self, system: str) -> str:
        """What is needed where a system is not made, in words."""
        return system if self.not_made.get(system) is None else f"an up-to-date {system}"


class Point(Read):
    """One way to execute a trained system. `system` and `seed` are added on reading."""

    id: str
    label: str = ""
    path: tuple[int, ...] | None = None
    depth: int | None = None
    offered: bool
    trained: bool
    system: str
    seed: int
    settings: tuple[tuple[str, Any], ...] = ()
    """A width, a precision: what is run beside the path, or instead of one. A mapping in the file."""

    @field_validator("settings", mode="before")
    @classmethod
    def _as_pairs(cls, settings: Any) -> Any:
        return tuple(sorted(settings.items())) if isinstance(settings, dict) else settings

    @property
    def shown(self) -> str:
        """What a table calls it: the path as repeat counts where that is all there is to it, else the label."""
        return " ".join(map(str, self.path)) if self.path and not self.settings else self.label or self.id

    @property
    def stands_for_depth(self) -> bool:
        """Whether it is one of the points that its depth names: offered, and nothing but a path."""
        return self.offered and self.depth is not None and not self.settings


class DecodedSet(Read):
    """Which points were decoded on one set, and the reference their transcripts stand beside."""

    reference: str
    points: list[str]


class ChosenPoint(Read):
    """Which of the offered points of a depth stands for it, by its id, and how it was chosen."""

    depth: int
    point: str
    """The one with the median errors."""
    on_dev: str | None = None
    """The median one on the dev set."""
    best_on_dev: str | None = None
    """The one with the fewest errors there."""
    chosen_by: str | None = None
    """The decode whose errors were counted."""
    chosen_on: list[str] = []
    """The sets that decided."""
    utterances: int | None = None
    """Of these sets, as that decode heard them."""


class Decode(Read):
    sets: dict[str, DecodedSet]
    choices: list[ChosenPoint] = []
    """Of depths with several points, as far as this decode holds them."""


class SystemPoints(Read):
    """`points.json`: all operating points of one trained system, and what was decoded."""

    system: str
    seed: int
    physical_layers: int | None = None
    points: list[Point]
    """None for a system that recognises nothing yet: a foundation model."""
    decodes: dict[str, Decode]

    @property
    def depths(self) -> list[int]:
        """The depths at which the system itself offers a point, in order."""
        return sorted({point.depth for point in self.points if point.stands_for_depth})


class RealTimeFactor(Read):
    median: float


class StepSeconds(Read):
    """Seconds of a training step, taken several times."""

    median: float = Field(gt=0)
    min: float
    max: float


class PointCosts(Read):
    """What one point costs. Sizes in bytes; MACs and memory for the file's seconds of audio."""

    parameters_stored: int
    parameters_nonzero: int
    parameters_executed: int
    stored_bytes: int
    bits_a_weight: float | None = None
    """Of the matrices of the physical layers on disk, scales included; None where there are none."""
    macs: int | float
    real_time_factor: RealTimeFactor | None = None
    """None, as memory, where nothing was measured: of further seeds is only counted."""
    peak_memory_bytes: int | None = None
    training_peak_memory_bytes: int | None = None
    """Of a training step, activations included; None where training was not measured."""
    training_step_seconds: StepSeconds | None = None
    """A step of the last stage, measured alone."""
    training_seconds: float | None = None
    """Steps times seconds of a step, over all stages; before and after a term sets in, each with its own."""

    @property
    def training_seconds_spread(self) -> float:
        """How far a measured step was from the median, as a share of it: of the farthest one."""
        step = self.training_step_seconds
        return 0.0 if step is None else max(step.max - step.median, step.median - step.min) / step.median


class MatrixWeights(Read):
    """A matrix of a physical layer, numbered from 1: its weights, and those of them that are not zero; without its
    bias."""

    name: str
    layer: int
    weights: int
    nonzero: int

    @property
    def zeros(self) -> int:
        return self.weights - self.nonzero


class Costs(Read):
    """`costs.json`: what was measured with nothing else running."""

    version: int = Field(COSTS_SCHEMA, alias="schema")
    encoder_parameters: int | None = None
    """Of the encoder, front end and norms among them: what shares of all encoder parameters are of."""
    device: str
    processor: str | None = None
    """Missing in files of earlier versions."""
    threads: int
    audio_seconds: float
    matrices: list[MatrixWeights] = []
    """Empty where there are none, and in files of earlier versions."""
    points: dict[str, PointCosts]

    @property
    def machine(self) -> str:
        """What was measured on, in words."""
        return ", ".join(filter(None, (self.device, self.processor, f"{self.threads} thread(s)")))

    @field_validator("version")
    @classmethod
    def _is_current(cls, version: int) -> int:
        """Memory of schema 1 held imports and leftovers of other points."""
        if version != COSTS_SCHEMA:
            raise ValueError(f"{version} is not {COSTS_SCHEMA}; measure the costs again (python -m workflows.measure)")
        return version


class StatisticsFacts(Read):
    """The batch-norm statistics of one trained system."""

    use: str
    """`again`: estimated after training, over `points`; `running`: as training left them."""
    points: list[str] = []
    """The labels of the points that were run to estimate them."""
    seconds: float = 0.0
    audio_seconds: float = 0.0
    bytes: int = 0


class Accepted(Read):
    """A change since something of a system was made that somebody accepted: when, of what, and what differs."""

    when: str
    of: str = "train"
    """`train`, `evaluate`, `costs of`, `sensitivity of` or `weight errors of`."""
    difference: list[str]


class Provenance(Read):
    """`provenance.json`: where a system comes from. A fact that is not known is None."""

    commit: str | None = None
    modified: bool | None = None
    device: str | None = None
    processor: str | None = None
    versions: dict[str, str] = {}
    wall_seconds: float | None = None
    statistics: StatisticsFacts | None = None
    """None where there is no batch norm."""
    accepted: list[Accepted] = []
