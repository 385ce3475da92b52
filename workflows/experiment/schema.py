"""An experiment and what can be asked of it."""

import json
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from asr.paths import parse_path
from asr.settings import DecodeSettings, FeatureSettings, TokenizerSettings, TrainingSettings
from common.errors import UserError
from common.settings import Settings, parse
from workflows.experiment.entries import (
    AnyFigure,
    BackboneEntry,
    CorpusEntry,
    FamilyEntry,
    FigureEntry,
    KeptWeights,
    MeasureSettings,
    NormaliserEntry,
    Row,
    Seeds,
    ShareOfSource,
    SystemEntry,
    TableEntry,
    WeightErrorsEntry,
)
from workflows.experiment.merging import merge, source_of
from workflows.experiment.shares import share_of

Parsed = TypeVar("Parsed", bound=Settings)


class Experiment(Settings):
    """Everything a run is made of. Defaults are those of the settings classes. `load_experiment` checks that what it
    names exists."""

    name: str
    title: str
    note: str = ""
    evidence: bool = True
    """False: numbers show that the machinery works, nothing about the paper."""
    packages: list[str] = []
    """Python packages beside this project's whose modules `systems` may name as methods: they are imported."""
    corpus: CorpusEntry
    normaliser: NormaliserEntry | None = None
    """None: the one that `config/corpora.yaml` names for the corpus."""
    score: Literal["words", "characters"] = "words"
    """Of what error rates are made: WER, or CER."""
    dev_set: str = "dev"
    test_sets: list[str] = Field(min_length=1)
    paths_chosen_on: Literal["test", "dev"] = "test"
    """Where the median path of a depth is found: on the test sets, as in the paper, or on the dev set."""
    further_sets: list[str] = []
    """Decoded too, shown where a table's `sets` name them, never pooled."""
    tokenizer: TokenizerSettings = TokenizerSettings()
    features: FeatureSettings = FeatureSettings()
    backbone: BackboneEntry
    families: dict[str, FamilyEntry] = {}
    """Further model families; `tokenizer`, `features` and `backbone` above are the experiment's own."""
    training: TrainingSettings
    statistics: Literal["again", "running"] = "again"
    """Batch-norm statistics of all systems: estimated again over the trained points, or as training left them."""
    decodes: dict[str, DecodeSettings] = Field(min_length=1)
    intervals: Literal["speakers", "utterances"] = "speakers"
    """What intervals resample. utterances: those of the people who were heard, for few of them; without verdicts."""
    decoding_batch_seconds: float = Field(120.0, gt=0)
    """Audio in a batch when systems are decoded, padding counted: as much as memory holds; no result depends on it."""
    measure: MeasureSettings = MeasureSettings()
    threads: int = Field(1, gt=0)
    """CPU threads of one job, whatever the machine has. On one machine the same seed then gives the same weights."""
    seeds: Seeds = [0]
    """Every system is trained once for each, unless it has seeds of its own."""
    systems: dict[str, SystemEntry] = Field(min_length=1)
    keep_weights: KeptWeights = KeptWeights()
    """What `workflows.keep` keeps beside transcripts and logs."""
    headline: str | None = None
    """The system of which the summary says whether its deepest point beats its seed."""
    parts: dict[str, list[str]] = {}
    """Tables and figures that are made only when they, or the part, are asked for; all others always are."""
    tables: dict[str, TableEntry] = {}
    figures: dict[str, Annotated[AnyFigure, Field(discriminator="kind")]] = {}

    def seeds_of(self, system: str) -> list[int]:
        """The seeds that a system is trained with: its own, else the experiment's."""
        return self.systems[system].seeds or self.seeds

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of all systems together, each once."""
        return sorted({seed for name in self.systems for seed in self.seeds_of(name)})

    @property
    def trainings(self) -> list[tuple[str, int]]:
        """Every system with each of its seeds, seed by seed."""
        return [(name, seed) for seed in self.all_seeds for name in self.systems if seed in self.seeds_of(name)]

    def is_timed(self, system: str, seed: int) -> bool:
        """Whether times and memory of a training are measured: of the first, for further ones take the same."""
        return seed == self.seeds_of(system)[0]

    def keeps_weights(self, system: str, seed: int) -> bool:
        """Whether the weights of a training stay beside its committed results."""
        kept = self.keep_weights
        return system in kept.systems and (kept.seeds is None or seed in kept.seeds)

    def needs(self, system: str) -> list[str]:
        """Systems that training this one reads: every mapping with a `system` in its settings, and what the training of
        its `source` read, whose losses it may train with."""
        found = {name for each in self.lineage(system) for name in self.starts_from(each)}
        return sorted(found - {system})

    def lineage(self, system: str) -> list[str]:
        """A system and what it is derived from, one `source` after the other."""
        found = [system]
        while (source := source_of(self.systems[found[-1]].settings)) in self.systems and source not in found:
            found.append(source)
        return found

    def starts_from(self, system: str) -> list[str]:
        """Systems that this one names."""
        return sorted({reference["system"] for reference in _references(self.systems[system].settings)})

    def needs_sensitivity(self, system: str) -> list[str]:
        """Systems whose sensitivity decides which of their layers this one starts from."""
        references = _references(self.systems[system].settings)
        return sorted({each["system"] for each in references if each.get("layers") == "sensitivity"})

    @property
    def depth_figures(self) -> dict[str, FigureEntry]:
        """Figures of WER against depth, by name."""
        return {name: figure for name, figure in self.figures.items() if isinstance(figure, FigureEntry)}

    @property
    def shown_weight_errors(self) -> list[str]:
        """Systems of which a figure shows what errors in their weights do."""
        found = (figure for figure in self.figures.values() if isinstance(figure, WeightErrorsEntry))
        return sorted({system for figure in found for system in figure.systems})

    @property
    def decoded_sets(self) -> list[str]:
        """All sets that are decoded: dev set, test sets, further sets."""
        return [self.dev_set, *self.test_sets, *self.further_sets]

    def family(self, name: str | None) -> FamilyEntry:
        """A family by its name; None: the experiment's own."""
        if name is not None:
            return self.families[name]
        own = {"backbone": self.backbone, "tokenizer": self.tokenizer, "features": self.features}
        return FamilyEntry.model_construct(title="", training={}, decodes=None, decoding_batch_seconds=None, **own)

    def family_of(self, system: str) -> FamilyEntry:
        """What a system's family shares: backbone, tokenizer, features, training, decodes."""
        return self.family(self.systems[system].family)

    def input_files(self, family: str | None) -> list[str]:
        """What a family's systems read beside the manifests, as paths below the corpus's folder."""
        folder = "" if family is None else f"{family}/"
        names = (
            ["tokenizer.json", "cmvn.json"] if self.family(family).features.kind == "log_mel" else ["tokenizer.json"]
        )
        return [folder + name for name in names]

    def store_file(self, family: str | None, name: str) -> str:
        """What says which features of a set a family keeps on disk, as a path below the corpus's folder."""
        return f"{'' if family is None else f'{family}/'}features_{name}.json"

    def backbone_of(self, system: str) -> dict[str, Any]:
        """Name and settings of a system's backbone: its family's with the system's overrides."""
        backbone = self.family_of(system).backbone
        return {"name": backbone.name, "settings": merge(backbone.settings, self.systems[system].backbone)}

    def decodes_of(self, system: str) -> dict[str, DecodeSettings]:
        """The decodes that apply to a system, in the experiment's order; those of `own_tables` where one of these shows
        it."""
        chosen = self.systems[system].decodes or self.family_of(system).decodes

        def applies(name: str, settings: DecodeSettings) -> bool:
            shown = settings.points != "own_tables" or bool(self.rows_of(system, name))
            return shown and (chosen is None or name in chosen)

        return {name: settings for name, settings in self.decodes.items() if applies(name, settings)}

    def rows_of(self, system: str, decode: str | None = None) -> list[Row]:
        """The rows of all tables that show a system, or of those of one decode."""
        tables = (table for table in self.tables.values() if decode is None or table.decode == decode)
        return [row for table in tables for row in table.rows.values() if row.system == system]

    def training_of(self, system: str) -> TrainingSettings:
        """Training settings of a system: the experiment's, or a share of those of the system at the beginning of its
        lineage (`of_source`), with the overrides of its family and its own.

        Raises ValueError naming the key.
        """
        entry, where = self.systems[system], f"systems.{system}.training"
        own = {key: value for key, value in entry.training.items() if key != "of_source"}
        if "of_source" in entry.training:
            base = self._shared_training(system, entry.training["of_source"], f"{where}.of_source")
        else:
            base = self.family_training(entry.family).model_dump()
        return self._parsed(TrainingSettings, merge(base, own), where)

    def _shared_training(self, system: str, share: Any, where: str) -> dict[str, Any]:
        origin = self.lineage(system)[-1]
        if origin == system:
            raise ValueError(f"{where}: '{system}' has no source (settings.source), of whose training this is a share")
        return share_of(self.training_of(origin), self._parsed(ShareOfSource, share, where))

    def decoding_batch_seconds_of(self, system: str) -> float:
        """Audio in a batch when a system is decoded: its family's setting, else the experiment's."""
        return self.family_of(system).decoding_batch_seconds or self.decoding_batch_seconds

    def family_training(self, family: str | None) -> TrainingSettings:
        """Training settings of a family (None: the experiment's own). Raises ValueError naming the key."""
        overrides = self.family(family).training
        if not overrides:
            return self.training
        return self._parsed(
            TrainingSettings, merge(self.training.model_dump(), overrides), f"families.{family}.training"
        )

    @staticmethod
    def _parsed(model: type[Parsed], settings: Any, where: str) -> Parsed:
        try:
            return parse(model, settings, where)
        except UserError as error:
            raise ValueError(str(error)) from None

    def further_paths(self, system: str) -> list[tuple[int, ...]]:
        """Paths to evaluate beside the offered ones: the system's own list and those that table rows name."""
        return sorted({parse_path(text) for _, text in self.paths_asked(system)})

    def paths_asked(self, system: str) -> list[tuple[str, str]]:
        """The same as they are written, each with its key."""
        named = [(f"systems.{system}.paths", text) for text in self.systems[system].paths]
        return named + [
            (f"tables.{table}.rows.{key}.path", row.path)
            for table, entry in self.tables.items()
            for key, row in entry.rows.items()
            if row.system == system and row.path is not None
        ]

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The experiment as plain JSON with all defaults, as `experiment.json` holds it."""
        value = json.loads(self.model_dump_json())
        for name in self.systems:
            value["systems"][name]["backbone"] = self.backbone_of(name)
            value["systems"][name]["training"] = self.training_of(name).model_dump(mode="json")
            value["systems"][name]["seeds"] = self.seeds_of(name)
        for table in value["tables"].values():
            table["sets"] = table["sets"] or self.test_sets
            for row in table["rows"].values():
                row["path"] = None if row["path"] is None else list(parse_path(row["path"]))
        return value


def _references(value: Any) -> list[dict[str, Any]]:
    """Mappings with a key `system`, `{system: name, ...}`, wherever they stand."""
    if isinstance(value, dict):
        named = [value] if isinstance(value.get("system"), str) else []
        return named + [found for inner in value.values() for found in _references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _references(inner)]
    return []
