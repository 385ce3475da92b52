"""The parts of an experiment file, as they are written there."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from asr.settings import FeatureSettings, TokenizerSettings
from common.settings import Settings

WHOLE = "all"
"""What asks for a whole experiment, where parts of it are asked for by name."""


def _counted(value: Any) -> Any:
    """A number of seeds as the seeds that it stands for, from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value < 1:
        raise ValueError(f"{value} is a number of seeds, of which one is the least; a seed by its number is a list")
    return list(range(value))


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_counted), Field(min_length=1)]
"""Seeds of the random generator, `[0, 3]`; a number of them, `5`, are those from 0 on."""


class SpeakerGroups(Settings):
    """Speakers who share what makes them hard are one unit of intervals: voices of one timbre, people of one family."""

    over: str = Field(pattern=r"^[a-z ]+s$")
    """What a group is, in the plural."""
    found_by: str
    """A regular expression: speakers in whose names it matches the same are of one group."""

    @field_validator("found_by")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is no regular expression: {error}") from None
        return value


class CorpusEntry(Settings):
    name: str
    settings: dict[str, Any] = {}
    speaker_groups: SpeakerGroups | None = None
    """None: every speaker is one of the units that intervals resample."""


class NormaliserEntry(Settings):
    """How transcripts are normalised before they are scored: a name of `analysis.scoring.normalise`, for some a GLM
    file.

    The name is checked by `workflows.check`: training reads this module, and does not depend on how results are scored.
    """

    name: str
    glm: str | None = None


class BackboneEntry(Settings):
    name: str
    settings: dict[str, Any] = {}


class FamilyEntry(Settings):
    """Models that share a backbone, a tokenizer and features, beside the experiment's own."""

    title: str
    """What these models are, in words: a note under every table that shows one of them."""
    backbone: BackboneEntry
    tokenizer: TokenizerSettings = TokenizerSettings()
    features: FeatureSettings = FeatureSettings()
    training: dict[str, Any] = {}
    """Overrides of the experiment's training settings."""
    decoding_batch_seconds: float | None = Field(None, gt=0)
    """None: the experiment's."""
    decodes: list[str] | None = Field(None, min_length=1)
    """Which of the experiment's decodes apply; None: all."""


class KeptWeights(Settings):
    """Systems whose weights stay beside their committed results, so that others can be made from them elsewhere."""

    systems: list[str] = []
    seeds: list[int] | None = None
    """None: all of theirs."""


class ShareOfSource(Settings):
    """A training said as a share of that of the system at the beginning of the lineage, the first `source`."""

    steps: float = Field(gt=0)
    """Of its steps, warm-up among them."""
    learning_rate: float = Field(1.0, gt=0)
    """Of its highest rate."""


class SystemEntry(Settings):
    """One system: a method with its settings on the backbone of its family."""

    family: str | None = None
    """A name of `families`; None: the experiment's own backbone, tokenizer and features."""
    method: str
    """Module path, `methods.unfolding`."""
    settings: dict[str, Any] = {}
    backbone: dict[str, Any] = {}
    """Overrides of the backbone's settings, `{layers: 6}`."""
    training: dict[str, Any] = {}
    """Overrides of the training settings of the experiment and the family; with `of_source`, a `ShareOfSource`, of a
    share of those of the system at the beginning of the lineage."""
    paths: list[str] = []
    """Further paths to evaluate, beside the offered ones."""
    evaluate: Literal["all", "rows"] = "all"
    """Which of its points are decoded: all, or those that table rows may show."""
    decodes: list[str] | None = Field(None, min_length=1)
    """Which of the experiment's decodes apply; None: its family's."""
    seeds: Seeds | None = None
    """It is trained once for each; None: the experiment's."""


class Row(Settings):
    """A table row: a system at a depth (the path is chosen among the offered ones), at one path, or at one point (its
    id)."""

    system: str
    depth: int | None = None
    path: str | None = None
    point: str | None = None
    choose: Literal["median", "best"] = "median"
    """Which path of a depth with several stands for it: the median one, as the experiment's `paths_chosen_on` says, or
    the best one on the dev set."""
    reference: str | None = None
    """The row that it is compared with, in a table of one's own; None: the table's."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "Row":
        if sum(value is not None for value in (self.depth, self.path, self.point)) != 1:
            raise ValueError("a row needs one of depth, path and point")
        if self.choose != "median" and self.depth is None:
            raise ValueError("choose: a path or a point leaves nothing to choose; it goes with depth")
        return self


class TableEntry(Settings):
    """A table of a paper (`table1` to `table4`, beside what was published), or one of one's own (`systems`)."""

    kind: Literal["table1", "table2", "table3", "table4", "systems"]
    title: str | None = None
    """Of a table of one's own."""
    published: str | None = None
    decode: str
    sets: list[str] | None = Field(None, min_length=1)
    """Sets with a column each; None: the test sets."""
    reference: str | None = None
    """The row that the others are tested against (System 1); in a table of one's own rows may name another, or none."""
    rows: dict[str, Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_a_paper_or_ones_own(self) -> "TableEntry":
        if self.kind == "systems":
            if self.published is not None:
                raise ValueError("published: a table of kind systems is one's own; nothing was published beside it")
            if self.sets is not None:
                raise ValueError("sets: a table of kind systems is pooled over the test sets")
            return self
        if self.title is not None:
            raise ValueError(f"title: a table of kind {self.kind} has the paper's; one's own is of kind systems")
        for key in ("published", "reference"):
            if getattr(self, key) is None:
                raise ValueError(f"{key}: a table of kind {self.kind} needs it")
        for name, row in self.rows.items():
            if row.reference is not None:
                raise ValueError(
                    f"rows.{name}.reference: in a table of kind {self.kind} all have the table's reference"
                )
        return self


class FigureEntry(Settings):
    """WER against executed depth."""

    kind: Literal["depth_curves"]
    decode: str
    systems: list[str]
    baselines: list[str] = []
    table: str | None = None
    """The table whose published rows are the other panel; None: the first of kind table1."""
    sensitivity: str | None = None
    """A system whose sensitivity is the inset."""


class WeightErrorsEntry(Settings):
    """What errors in the weights of some systems do to their output, at the paths that were trained."""

    kind: Literal["weight_errors"]
    systems: list[str] = Field(min_length=1)


class MatrixSparsityEntry(Settings):
    """The share of zeros in each matrix of the physical layers of some systems."""

    kind: Literal["matrix_sparsity"]
    systems: list[str] = Field(min_length=1)


class ParetoEntry(Settings):
    """Bytes against WER, by method."""

    kind: Literal["pareto"]
    systems: list[str] = []
    """None: everything in the run."""


AnyFigure = FigureEntry | WeightErrorsEntry | MatrixSparsityEntry | ParetoEntry


class MeasureSettings(Settings):
    audio_seconds: float = Field(10.0, gt=0)
    repeats: int = Field(5, ge=5)
