"""Functions that rules use for their inputs and parameters: tested Python instead of code in rule files."""

import os
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.io import ancient

from asr.corpora.content import content_file
from workflows.accepted import counted_as
from workflows.devices import jobs_a_device_of
from workflows.experiment import Experiment
from workflows.identity import Identities, Recipe, recipe_hash
from workflows.part import STUDIES, Part, chosen_part, kind_and_system, shown_by, studies_of, trained_for
from workflows.products import inputs_name


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


def runs_under_slurm(workflow: Any) -> bool:
    """Whether SLURM runs the jobs: this process submits them, or is one. Known once Snakemake makes its plan."""
    return "SLURM_JOB_ID" in os.environ or getattr(workflow.executor_plugin, "name", None) == "slurm"


NOTHING = "(?!)"
"""A pattern that no name matches."""


def _pattern(names: Iterable[str]) -> str:
    return "|".join(sorted(names)) or NOTHING


class Edges:
    """What the rules of one experiment ask for, by wildcards `system` and `seed`. `results` is the experiment's
    folder, `asked` the part that is made (default: everything), `shown` what analysis shows (default: that part),
    `settled` what comes from committed results and stays as it is, by its name in `workflows.why`, `under_slurm`
    whether SLURM runs the jobs."""

    def __init__(
        self,
        experiment: Experiment,
        results: str,
        asked: Part | None = None,
        shown: Part | None = None,
        identities: Identities | None = None,
        settled: Collection[str] = (),
        under_slurm: Callable[[], bool] = lambda: False,
    ):
        self.experiment = experiment
        self.asked = asked or chosen_part(experiment)
        self.shown = shown or self.asked
        self.trained = trained_for(experiment, self.asked)
        self.tables, self.figures = shown_by(experiment, self.shown)
        self.results = results
        self.settled = settled
        self.under_slurm = under_slurm  # known when resources are asked for, later than this
        self.data = f"{results}/data/{experiment.corpus.name}"
        self.identities = identities or Identities(experiment, results)  # a plan's own, where there is one

    def folder(self, system: str, seed: int | str) -> str:
        """The folder of a trained system."""
        return f"{self.results}/systems/{system}/seed{seed}"

    def every(self, file: str) -> list[str]:
        """`file` in the folder of every system that is shown, with every seed of it that is."""
        shown = ((system, seed) for system, seeds in self.shown.systems.items() for seed in seeds)
        return [f"{self.folder(system, seed)}/{file}" for system, seed in shown]

    # Patterns of wildcards. They hold what a part needs and no other system: what is shown of others stays as it is.

    def started_from(self) -> str:
        """Systems that others start from: they are trained first."""
        return _pattern(self.trained.keys() & self._sources)

    def not_started_from(self) -> str:
        """All other systems that are trained."""
        return _pattern(self.trained.keys() - self._sources)

    def any_trained(self) -> str:
        """All systems that are trained: the sensitivity of any may be asked for."""
        return _pattern(self.trained)

    def any_asked(self) -> str:
        """The systems that are decoded and measured."""
        return _pattern(self.asked.systems)

    def any_seed(self) -> str:
        """The seeds that are asked for. Each system of a part has all of them that it has at all, so that this and the
        systems' patterns let nothing through that is not asked for."""
        return _pattern({str(seed) for seeds in self.trained.values() for seed in seeds})

    @property
    def _sources(self) -> set[str]:
        return {needed for name in self.experiment.systems for needed in self.experiment.needs(name)}

    def sources_of(self, wildcards: Any) -> list[str]:
        """The systems that this one starts from, known by the digests of their weights, and their sensitivity where it
        decides what is kept."""
        needed = self.experiment.needs(wildcards.system)
        ordered = self.experiment.needs_sensitivity(wildcards.system)
        systems = [f"{self.folder(name, wildcards.seed)}/system.json" for name in needed]
        orders = [f"{self.folder(name, wildcards.seed)}/sensitivity.json" for name in ordered]
        return self._read_by("train", wildcards, [*systems, *orders])

    def described(self, kind: str) -> Callable[[Any], str]:
        """What describes the system that something (`evaluate`, `costs of`) is made of: its weights are known by the
        digest in it."""

        def file(wildcards: Any) -> str:
            (found,) = self._read_by(kind, wildcards, [f"{self.folder(wildcards.system, wildcards.seed)}/system.json"])
            return found

        return file

    def _read_by(self, kind: str, wildcards: Any, files: list[str]) -> list[str]:
        """Files that something of a system is made from. What is settled is known by its identity: there they are older
        than it, whenever they were written, and whatever writes them again."""
        name = f"{kind} {wildcards.system}, seed {wildcards.seed}"
        return [ancient(file) for file in files] if name in self.settled else files

    def shown_studies(self) -> list[str]:
        """What figures show beside WERs: sensitivities, and what errors in weights do."""
        shown = ((*kind_and_system(study), seed) for study, seeds in self.shown.studies.items() for seed in seeds)
        return [f"{self.folder(system, seed)}/{STUDIES[kind]}" for kind, system, seed in shown]

    def source_arguments(self, wildcards: Any) -> list[str]:
        """The same as command-line arguments."""
        needed = self.experiment.needs(wildcards.system)
        return [word for name in needed for word in ("--input", f"{name}={self.folder(name, wildcards.seed)}")]

    def devices(self, wildcards: Any) -> int:
        """GPUs of one training: of several, all places that other jobs could share (`workflows.devices`)."""
        count = self.experiment.training_of(wildcards.system).devices
        return count if count == 1 else count * jobs_a_device_of()

    def tasks(self, wildcards: Any) -> int | None:
        """Tasks of a training that is several, where SLURM starts them; None otherwise."""
        count = self.experiment.training_of(wildcards.system).devices
        return count if count > 1 and self.under_slurm() else None

    def one_node(self, wildcards: Any) -> int | None:
        """Nodes of a training that is several tasks."""
        return None if self.tasks(wildcards) is None else 1

    def launcher(self, wildcards: Any) -> str | None:
        """What starts the tasks of a training that is several: given, SLURM's plugin leaves it to the command."""
        return None if self.tasks(wildcards) is None else "srun"

    def training_cores(self, wildcards: Any) -> int:
        """CPU cores of one training: its threads, and one for each process that reads batches ahead."""
        return self.experiment.threads + self.experiment.training_of(wildcards.system).workers

    def contents(self, names: list[str]) -> list[str]:
        """What says which recordings and transcripts some sets hold."""
        return [f"{self.data}/{content_file(name)}" for name in dict.fromkeys(names)]

    def read_by_inputs(self, family: str | None) -> list[str]:
        """The sets that tokenizer and features of a family (None: the experiment's own) are made from."""
        return self.contents(["train", self.experiment.dev_set, *self.identities.stored_sets(family)])

    def inputs(self, family: str | None) -> list[str]:
        """What a family reads beside the manifests."""
        stored = [self.experiment.store_file(family, name) for name in self.identities.stored_sets(family)]
        return [f"{self.data}/{file}" for file in [*self.experiment.input_files(family), *stored]]

    def read_by_training(self, wildcards: Any) -> list[str]:
        """What a training reads of the corpus and of its family."""
        return self._read("train", wildcards, ["train", self.experiment.dev_set])

    def read_by_decoding(self, wildcards: Any) -> list[str]:
        """What decoding all sets reads."""
        return self._read("evaluate", wildcards, self.experiment.decoded_sets)

    def read_by_studies(self, kind: str) -> Callable[[Any], list[str]]:
        """What decoding the dev set reads, for a study (`sensitivity of`)."""
        return lambda wildcards: self._read(kind, wildcards, [self.experiment.dev_set])

    def read_by_measuring(self, wildcards: Any) -> list[str]:
        """What measuring reads: the training set, whose largest batch it is about, and the files of the family."""
        return self._read("costs of", wildcards, ["train"])

    def _read(self, kind: str, wildcards: Any, sets: list[str]) -> list[str]:
        files = self.identities.input_files(wildcards.system, sets)
        return self._read_by(kind, wildcards, [*self.contents(sets), *(f"{self.data}/{file}" for file in files)])

    # Recipes: everything that decides a result, beside the files that its rule reads.

    def check(self) -> str:
        return recipe_hash(self.identities.check_recipe())

    def data_recipe(self) -> str:
        return counted_as(self.data, recipe_hash(self.identities.data_recipe()), "data")

    def inputs_recipe(self, family: str | None) -> str:
        return counted_as(self.data, recipe_hash(self.identities.inputs_recipe(family)), inputs_name(family))

    def training(self, wildcards: Any) -> str:
        """A change here retrains this system and no other, unless its result was accepted under the changed recipe."""
        return self._recipe("train", wildcards, self.identities.training_recipe)

    def evaluation(self, wildcards: Any) -> str:
        return self._recipe("evaluate", wildcards, self.identities.evaluation_recipe)

    def sensitivity(self, wildcards: Any) -> str:
        return self._recipe("sensitivity of", wildcards, self.identities.sensitivity_recipe)

    def weight_errors(self, wildcards: Any) -> str:
        return self._recipe("weight errors of", wildcards, self.identities.weight_errors_recipe)

    def is_timed(self, wildcards: Any) -> bool:
        """Whether measuring a system takes times, and so wants the machine to itself."""
        return self.experiment.is_timed(wildcards.system, int(wildcards.seed))

    def costs(self, wildcards: Any) -> str:
        timed = self.is_timed(wildcards)
        return self._recipe("costs of", wildcards, lambda system: self.identities.costs_recipe(system, timed))

    def _recipe(self, kind: str, wildcards: Any, recipe_of: Callable[[str], Recipe]) -> str:
        folder = self.folder(wildcards.system, wildcards.seed)
        return counted_as(folder, recipe_hash(recipe_of(wildcards.system)), kind)

    def analysis(self) -> str:
        return recipe_hash(self.identities.analysis_recipe())

    def report(self) -> str:
        return recipe_hash(self.identities.report_recipe())

    def table_names(self) -> list[str]:
        """Tables that analysis writes: the experiment's, the costs of what they show, and what figures show beside
        WERs."""
        figures = (self.experiment.figures[name] for name in self.figures)
        kinds = {kind_and_system(study)[0] for figure in figures for study in studies_of(figure)}
        studies = [Path(file).stem for kind, file in STUDIES.items() if kind in kinds]
        return [*self.tables, *(["costs"] if self.tables else []), *studies]
