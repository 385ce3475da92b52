"""Functions that rules use for their inputs and parameters: tested Python instead of code in rule files."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from snakemake.exceptions import WorkflowError

from asr.corpora.register import read_register
from workflows.experiment import Experiment
from workflows.sources import files_hash, sources_hash


def use_this_python() -> None:
    """Rules call `python`: let it be the interpreter that runs Snakemake, whether its environment was activated or
    not."""
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])


def all_cores(workflow: Any, otherwise: int) -> int:
    """Threads of a job that shall have the machine to itself; `otherwise` where no cores are set, as on a cluster."""
    try:
        return workflow.cores
    except WorkflowError:
        return otherwise


NOTHING = "(?!)"
"""A pattern that no name matches."""
NO_DATA = {"normaliser", "glm", "note", "licence", "size"}


class Edges:
    """What the rules of one experiment ask for, by wildcards `system` and `seed`. `results` is the experiment's
    folder."""

    def __init__(self, experiment: Experiment, results: str):
        self.experiment = experiment
        self.results = results
        self.data = f"{results}/data/{experiment.corpus.name}"

    def folder(self, system: str, seed: int | str) -> str:
        """The folder of a trained system."""
        return f"{self.results}/systems/{system}/seed{seed}"

    def every(self, file: str) -> list[str]:
        """`file` in the folder of every system and seed."""
        seeds = self.experiment.seeds
        return [f"{self.folder(system, seed)}/{file}" for system in self.experiment.systems for seed in seeds]

    def started_from(self) -> str:
        """The names of systems that others start from, as a pattern of wildcards: they are trained first."""
        names = {needed for name in self.experiment.systems for needed in self.experiment.needs(name)}
        return "|".join(sorted(names)) or NOTHING

    def not_started_from(self) -> str:
        """The names of all other systems, as a pattern."""
        names = set(self.experiment.systems) - set(self.started_from().split("|"))
        return "|".join(sorted(names)) or NOTHING

    def inputs_of(self, wildcards: Any) -> list[str]:
        """Weights of the systems that this one starts from, and their sensitivity where it decides what is kept."""
        needed = self.experiment.needs(wildcards.system)
        ordered = self.experiment.needs_sensitivity(wildcards.system)
        weights = [f"{self.folder(name, wildcards.seed)}/model.safetensors" for name in needed]
        return weights + [f"{self.folder(name, wildcards.seed)}/sensitivity.json" for name in ordered]

    def shown_sensitivities(self) -> list[str]:
        """Sensitivity files that figures show."""
        shown = {figure.sensitivity for figure in self.experiment.figures.values()} - {None}
        return [
            f"{self.folder(name, seed)}/sensitivity.json" for name in sorted(shown) for seed in self.experiment.seeds
        ]

    def input_arguments(self, wildcards: Any) -> str:
        """The same as command-line arguments."""
        needed = self.experiment.needs(wildcards.system)
        return " ".join(f"--input {name}={self.folder(name, wildcards.seed)}" for name in needed)

    def devices(self, wildcards: Any) -> int:
        """GPUs of one training."""
        return self.experiment.training_of(wildcards.system).devices

    def glm_files(self) -> list[str]:
        """Files that text normalisation reads: ours, and the GLM that the experiment or its corpus names."""
        entry = read_register().get(self.experiment.corpus.name)
        chosen = self.experiment.normaliser or entry
        return ["analysis/*.glm", *([chosen.glm] if chosen is not None and chosen.glm else [])]

    def data_settings(self) -> str:
        """Everything that decides what the corpus is, its entry in the register among it."""
        experiment = self.experiment
        entry = read_register().get(experiment.corpus.name)
        settings = {
            "corpus": experiment.corpus_identity(),
            # Where the recordings come from; not how they are licensed, described or scored.
            "register": None if entry is None else entry.model_dump(mode="json", exclude=NO_DATA),
            "sets": experiment.decoded_sets,
        }
        return json.dumps(settings, sort_keys=True)

    def input_settings(self, family: str | None) -> str:
        """Everything beside the corpus that decides what a family reads (None: the experiment's own)."""
        experiment, entry = self.experiment, self.experiment.family(family)
        settings = {
            "tokenizer": entry.tokenizer.model_dump(),
            "letters": files_hash(entry.tokenizer.letters) if entry.tokenizer.letters else None,
            "features": entry.features.model_dump(),
            "dev_set": experiment.dev_set,
        }
        if entry.features.kind == "log_mel" and entry.features.store:
            settings["sets"] = experiment.decoded_sets
        return json.dumps(settings, sort_keys=True)

    def input_files(self, family: str | None) -> list[str]:
        """What a family reads beside the manifests."""
        return [f"{self.data}/{file}" for file in self.experiment.input_files(family)]

    def input_files_of(self, wildcards: Any) -> list[str]:
        """What a system reads beside the manifests: the files of its family."""
        return self.input_files(self.experiment.systems[wildcards.system].family)

    def data_sources(self) -> str:
        """Hash of the source files that data preparation needs, those of the corpus among them."""
        entry = read_register().get(self.experiment.corpus.name)
        return sources_hash("workflows.steps.prepare", *([] if entry is None else [entry.module]))

    def training_settings(self, wildcards: Any) -> str:
        """Everything that decides what training gives: a change retrains this system and no other."""
        return json.dumps(self.experiment.training_inputs(wildcards.system), sort_keys=True)

    def evaluation_settings(self, wildcards: Any) -> str:
        """Everything beside the trained system that decides what is decoded."""
        return json.dumps(self.experiment.evaluation_inputs(wildcards.system), sort_keys=True)

    def table_names(self) -> list[str]:
        """Tables that analysis writes: the experiment's, the costs of what they show, and sensitivity where a figure
        shows it."""
        tables = list(self.experiment.tables)
        return [*tables, *(["costs"] if tables else []), *(["sensitivity"] if self.shown_sensitivities() else [])]

    def sensitivity_settings(self, wildcards: Any) -> str:
        """Everything beside the trained system that decides its sensitivity."""
        return json.dumps([self.experiment.dev_set, self.experiment.decoding_batch_seconds_of(wildcards.system)])

    def measure_settings(self) -> str:
        """What is measured: the settings, and the points that table rows ask for."""
        asked = {name: self.experiment.evaluation_inputs(name) for name in self.experiment.systems}
        points = {name: [inputs["paths"], inputs["rows"]] for name, inputs in asked.items()}
        return json.dumps([self.experiment.measure.model_dump(), points], sort_keys=True)

    def sources(self, step: str) -> Callable[[Any], str]:
        """Hash of the source files that `step` needs for a system: the step, the system's method, the backbone."""

        def of_system(wildcards: Any) -> str:
            method = self.experiment.systems[wildcards.system].method
            backbone = self.experiment.family_of(wildcards.system).backbone.name
            return sources_hash(f"workflows.steps.{step}", method, f"asr.backbones.{backbone}")

        return of_system
