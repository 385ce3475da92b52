"""Reads an experiment file into typed systems. Never imports torch: the Snakefile does this at every start.

An experiment is `config/<name>.yaml`, or any YAML file given by its path. `extends: other` starts from another
experiment of the same folder and overrides keys (mappings are merged, everything else is replaced; a system, table or
figure given as null is left out, and so is a table's row). The size of a run
lives here and nowhere else.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from asr.paths import parse_path
from asr.settings import DecodeSettings, FeatureSettings, TokenizerSettings, TrainingSettings
from common.errors import UserError, unknown
from common.files import read_yaml
from common.settings import Settings, parse
from methods.names import check_method_exists
from methods.paths import check_shape, format_path

CONFIG_FOLDER = Path("config")
NAME = re.compile(r"[A-Za-z0-9_]+")
LOG_ONLY = {"log_every", "tensorboard", "checkpoint_every", "all_blank"}
"""Training settings that change what is written down on the way, not what comes out."""


class CorpusEntry(Settings):
    name: str
    settings: dict[str, Any] = {}


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
    """Overrides of the training settings of the experiment and the family."""
    paths: list[str] = []
    """Further paths to evaluate, beside the offered ones."""


class Row(Settings):
    """A table row: a system at a depth (the path is chosen among the offered ones), at one path, or at one point (its
    id)."""

    system: str
    depth: int | None = None
    path: str | None = None
    point: str | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Row":
        if sum(value is not None for value in (self.depth, self.path, self.point)) != 1:
            raise ValueError("a row needs one of depth, path and point")
        return self


class TableEntry(Settings):
    kind: Literal["table1", "table2", "table3", "table4"]
    published: str
    decode: str
    sets: list[str] | None = Field(None, min_length=1)
    """Sets with a column each; None: the test sets."""
    reference: str
    """The row that the others are tested against (System 1)."""
    rows: dict[str, Row]


class FigureEntry(Settings):
    kind: Literal["depth_curves"]
    decode: str
    systems: list[str]
    baselines: list[str] = []
    table: str | None = None
    """The table whose published rows are the other panel; None: the first of kind table1."""
    sensitivity: str | None = None
    """A system whose sensitivity is the inset."""


class MeasureSettings(Settings):
    audio_seconds: float = Field(10.0, gt=0)
    repeats: int = Field(5, ge=5)


class Experiment(Settings):
    """Everything a run is made of. Defaults are those of the settings classes."""

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
    dev_set: str = "dev"
    test_sets: list[str] = Field(min_length=1)
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
    decoding_batch_seconds: float = Field(120.0, gt=0)
    """Audio in a batch when systems are decoded, padding counted: as much as memory holds; no result depends on it."""
    measure: MeasureSettings = MeasureSettings()
    threads: int = Field(1, gt=0)
    """CPU threads of one job, whatever the machine has. On one machine the same seed then gives the same weights."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1)
    systems: dict[str, SystemEntry] = Field(min_length=1)
    headline: str | None = None
    """The system of which the summary says whether its deepest point beats its seed."""
    tables: dict[str, TableEntry] = {}
    figures: dict[str, FigureEntry] = {}

    @model_validator(mode="after")
    def _names_exist(self) -> "Experiment":
        self._check_names()
        self._check_sets()
        for name, family in self.families.items():
            for decode in family.decodes or []:
                self._must_exist("decode", decode, self.decodes, f"families.{name}.decodes")
            self._family_training(name)
        for name, system in self.systems.items():
            if system.family is not None:
                self._must_exist("family", system.family, self.families, f"systems.{name}.family")
        self._check_tables_and_figures()
        if self.headline is not None:
            self._must_exist("system", self.headline, self.systems, "headline")
        for name, system in self.systems.items():
            self._check_method(system.method, f"systems.{name}.method")
            self.training_of(name)
            for needed in self.needs(name):
                self._must_exist("system", needed, self.systems, f"systems.{name}.settings")
            self._check_paths(name)
        self._check_no_cycle()
        return self

    def _check_names(self) -> None:
        named = (self.systems, self.decodes, self.tables, self.figures, self.families, self.test_sets)
        for name in (self.name, self.dev_set, *self.further_sets, *(name for names in named for name in names)):
            if not NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a plain name (letters, digits, underscore)")
        if "audio" in self.families:
            raise ValueError("families: 'audio' is the folder of the recordings; take another name")

    def _check_sets(self) -> None:
        for key, values in (("test_sets", self.test_sets), ("further_sets", self.further_sets), ("seeds", self.seeds)):
            self._each_once(key, values)
        if self.dev_set in self.test_sets:
            raise ValueError(f"test_sets: '{self.dev_set}' is the dev set, on which choices are made")
        for name in self.further_sets:
            if name in (self.dev_set, *self.test_sets):
                raise ValueError(f"further_sets: '{name}' is the dev set or a test set already")

    def _check_tables_and_figures(self) -> None:
        for table, entry in self.tables.items():
            self._must_exist("decode", entry.decode, self.decodes, f"tables.{table}.decode")
            self._must_exist("row", entry.reference, entry.rows, f"tables.{table}.reference")
            if entry.sets is not None:
                self._each_once(f"tables.{table}.sets", entry.sets)
                for name in entry.sets:
                    self._must_exist("set", name, self.decoded_sets, f"tables.{table}.sets")
            for key, row in entry.rows.items():
                self._must_exist("system", row.system, self.systems, f"tables.{table}.rows")
                self._must_decode(row.system, entry.decode, f"tables.{table}.decode", f"row '{key}'")
        for figure, entry in self.figures.items():
            self._must_exist("decode", entry.decode, self.decodes, f"figures.{figure}.decode")
            for system in [*entry.systems, *entry.baselines]:
                self._must_exist("system", system, self.systems, f"figures.{figure}")
                self._must_decode(system, entry.decode, f"figures.{figure}.decode", f"system '{system}'")
            for system in [*entry.systems, *entry.baselines]:
                self._must_cover(system, entry.decode, f"figures.{figure}.decode")
            if entry.table is not None:
                self._must_exist("table", entry.table, self.tables, f"figures.{figure}.table")
            if entry.sensitivity is not None:
                self._must_exist("system", entry.sensitivity, self.systems, f"figures.{figure}.sensitivity")

    def _must_decode(self, system: str, decode: str, key: str, what: str) -> None:
        if decode not in self.decodes_of(system):
            raise ValueError(
                f"{key}: {what} is of family '{self.systems[system].family}', which is decoded by "
                f"{', '.join(self.decodes_of(system))}, not by '{decode}'"
            )

    def _must_cover(self, system: str, decode: str, key: str) -> None:
        """Figures show every path; a decode of table points has them only where there is no other."""
        covering = [name for name, settings in self.decodes_of(system).items() if settings.points == "all"]
        if covering and decode not in covering:
            raise ValueError(
                f"{key}: '{decode}' decodes the points of tables only, a figure shows every path of '{system}'; "
                f"name {', '.join(covering)}"
            )

    @staticmethod
    def _each_once(key: str, values: list[Any]) -> None:
        if len(set(values)) < len(values):
            raise ValueError(f"{key}: each may be named once, not {values}")

    @staticmethod
    def _must_exist(kind: str, name: str, known: Any, where: str) -> None:
        if name not in known:
            raise ValueError(str(unknown(kind, name, known, where)))

    def _check_method(self, name: str, where: str) -> None:
        try:
            check_method_exists(name, where, self.packages)
        except UserError as error:
            raise ValueError(str(error)) from None

    def _check_paths(self, name: str) -> None:
        layers = self.backbone_of(name)["settings"].get("layers")
        for key, text in self._paths_asked(name):
            try:
                path = parse_path(text)
                if isinstance(layers, int):
                    check_shape(path, layers)
            except UserError as error:
                raise ValueError(f"{key}: {error}") from None

    def _check_no_cycle(self) -> None:
        state: dict[str, str] = {}

        def visit(name: str, trail: list[str]) -> None:
            if state.get(name) == "done":
                return
            if name in trail:
                raise ValueError(
                    f"systems need each other in a circle: {' -> '.join([*trail[trail.index(name) :], name])}"
                )
            for needed in self.needs(name):
                visit(needed, [*trail, name])
            state[name] = "done"

        for name in self.systems:
            visit(name, [])

    def needs(self, system: str) -> list[str]:
        """Systems that this one starts from: every mapping with a `system` in its settings."""
        return sorted({reference["system"] for reference in _references(self.systems[system].settings)})

    def needs_sensitivity(self, system: str) -> list[str]:
        """Systems whose sensitivity decides which of their layers this one starts from."""
        references = _references(self.systems[system].settings)
        return sorted({each["system"] for each in references if each.get("layers") == "sensitivity"})

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
        return {"name": backbone.name, "settings": _merge(backbone.settings, self.systems[system].backbone)}

    def decodes_of(self, system: str) -> dict[str, DecodeSettings]:
        """The decodes that apply to a system, in the experiment's order."""
        chosen = self.family_of(system).decodes
        return {name: settings for name, settings in self.decodes.items() if chosen is None or name in chosen}

    def training_of(self, system: str) -> TrainingSettings:
        """Training settings of a system: the experiment's with the overrides of its family and its own.

        Raises ValueError naming the key.
        """
        entry = self.systems[system]
        base = self._family_training(entry.family).model_dump()
        return self._training(_merge(base, entry.training), f"systems.{system}.training")

    def decoding_batch_seconds_of(self, system: str) -> float:
        """Audio in a batch when a system is decoded: its family's setting, else the experiment's."""
        return self.family_of(system).decoding_batch_seconds or self.decoding_batch_seconds

    def _family_training(self, family: str | None) -> TrainingSettings:
        overrides = self.family(family).training
        if not overrides:
            return self.training
        return self._training(_merge(self.training.model_dump(), overrides), f"families.{family}.training")

    @staticmethod
    def _training(settings: dict[str, Any], where: str) -> TrainingSettings:
        try:
            return parse(TrainingSettings, settings, where)
        except UserError as error:
            raise ValueError(str(error)) from None

    def further_paths(self, system: str) -> list[tuple[int, ...]]:
        """Paths to evaluate beside the offered ones: the system's own list and those that table rows name."""
        return sorted({parse_path(text) for _, text in self._paths_asked(system)})

    def _paths_asked(self, system: str) -> list[tuple[str, str]]:
        """The same as they are written, each with its key."""
        named = [(f"systems.{system}.paths", text) for text in self.systems[system].paths]
        return named + [
            (f"tables.{table}.rows.{key}.path", row.path)
            for table, entry in self.tables.items()
            for key, row in entry.rows.items()
            if row.system == system and row.path is not None
        ]

    def corpus_identity(self) -> dict[str, Any]:
        """What decides the content of the corpus: not how many processes make it, or from which copy."""
        settings = {key: value for key, value in self.corpus.settings.items() if key not in ("workers", "archive")}
        return {"name": self.corpus.name, "settings": settings}

    def training_inputs(self, system: str) -> dict[str, Any]:
        """The settings that decide what training this system gives, as JSON: a change here retrains it. Corpus and
        tokenizer are not among them: they are known by content."""
        entry, family = self.systems[system], self.family_of(system)
        return {
            "dev_set": self.dev_set,
            "features": family.features.model_dump(mode="json", exclude={"store"}),
            "backbone": self.backbone_of(system),
            "method": entry.method,
            "settings": entry.settings,
            "training": self.training_of(system).model_dump(mode="json", exclude=LOG_ONLY),
            "statistics": self.statistics,
            "threads": self.threads,
        }

    def training_configuration(self, system: str) -> dict[str, Any]:
        """All settings of a training for those who read its provenance, also those that decide nothing."""
        family = self.family_of(system)
        return {
            **self.training_inputs(system),
            "tokenizer": family.tokenizer.model_dump(mode="json"),
            "features": family.features.model_dump(mode="json"),
            "training": self.training_of(system).model_dump(mode="json"),
        }

    def evaluation_inputs(self, system: str) -> dict[str, Any]:
        """Everything beside the trained system that decides what is decoded."""
        tables = {name: table.model_dump() for name, table in self.tables.items()}
        return {
            "decodes": {name: decode.model_dump() for name, decode in self.decodes_of(system).items()},
            "batch_seconds": self.decoding_batch_seconds_of(system),
            "test_sets": self.test_sets,
            "dev_set": self.dev_set,
            "further_sets": self.further_sets,
            "paths": [format_path(path) for path in self.further_paths(system)],
            "rows": [row for table in tables.values() for row in table["rows"].values() if row["system"] == system],
            "threads": self.threads,
        }

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The experiment as plain JSON with all defaults, as `experiment.json` holds it."""
        value = json.loads(self.model_dump_json())
        for name in self.systems:
            value["systems"][name]["backbone"] = self.backbone_of(name)
            value["systems"][name]["training"] = self.training_of(name).model_dump(mode="json")
        for table in value["tables"].values():
            table["sets"] = table["sets"] or self.test_sets
            for row in table["rows"].values():
                row["path"] = None if row["path"] is None else list(parse_path(row["path"]))
        return value


def experiment_file(name: str) -> Path:
    """The YAML file of an experiment name or path. Raises `UserError` with the closest name."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.exists():
            raise UserError(f"{path}: no such experiment file")
        return path
    known = sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml") if path.stem != "corpora")
    if name not in known:
        raise unknown("experiment", name, known, "experiment")
    return CONFIG_FOLDER / f"{name}.yaml"


def load_experiment(name: str) -> Experiment:
    """Read and check an experiment. Raises `UserError` naming file and key."""
    path = experiment_file(name)
    merged: dict[str, Any] = {}
    for _, values in reversed(_chain(path)):
        merged = _merge(merged, values)
    merged.pop("extends", None)
    for key in ("families", "systems", "decodes", "tables", "figures"):
        if isinstance(merged.get(key), dict):  # null leaves out what an extended experiment has
            merged[key] = _without_null(merged[key])
    for table in (merged.get("tables") or {}).values():
        if isinstance(table, dict) and isinstance(table.get("rows"), dict):
            table["rows"] = _without_null(table["rows"])
    return parse(Experiment, {"name": path.stem, **merged}, str(path))


def _chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if path in [earlier for earlier, _ in chain]:
            raise UserError(f"{path}: extends itself in a circle")
        values = read_yaml(path, "experiment file")
        if not isinstance(values, dict):
            raise UserError(f"{path}: an experiment is a mapping of keys")
        chain.append((path, values))
        if "extends" not in values:
            return chain
        path = path.parent / f"{values['extends']}.yaml"


def _merge(base: Any, changes: Any) -> Any:
    """Mappings are merged key by key, everything else is replaced; so is a corpus or backbone of another `name`, or a
    system of another `method`, whose settings are others."""
    if isinstance(base, dict) and isinstance(changes, dict):
        if any(base.get(key) != changes.get(key, base.get(key)) for key in ("name", "method")):
            return changes
        return {**base, **{key: _merge(base.get(key), value) for key, value in changes.items()}}
    return changes


def _without_null(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in entries.items() if entry is not None}


def _references(value: Any) -> list[dict[str, Any]]:
    """Mappings with a key `system`, `{system: name, ...}`, wherever they stand."""
    if isinstance(value, dict):
        named = [value] if isinstance(value.get("system"), str) else []
        return named + [found for inner in value.values() for found in _references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _references(inner)]
    return []
