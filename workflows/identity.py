"""What decides each thing that a run makes: one identity, for the workflow, for checkpoints and for provenance.

An identity has two halves. The *recipe* is known before anything is made: settings that matter, source code without
comments, versions of the packages that compute, data files of this repository. The *contents* are digests of what is
read: recordings, tokenizers, weights of other systems. Snakemake compares recipes as a parameter of each rule, and
contents as the small files that hold them; a checkpoint is only resumed, and a result only called up to date, under the
same of both. Never imports torch.

    python -m workflows.identity --experiment smoke --of analysis --out results/smoke/analysis.identity.json
"""

import argparse
import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from asr.corpora.content import content_file
from asr.corpora.preparation import settings_of
from asr.corpora.register import Entry, read_register
from common.errors import UserError, run
from common.files import read_json, sha256, write_json
from workflows.experiment import Experiment, load_experiment
from workflows.experiment.decides import corpus_identity, counted, deciding, evaluation_inputs, training_inputs
from workflows.sources import file_hashes, module_hashes, package_versions

SCHEMA = 1
Recipe = dict[str, Any]
Contents = dict[str, str | None]
"""What is read -> its digest; None where it is not there."""

PREPARED = ("asr.corpora.content", "asr.corpora.preparation", "asr.corpora.register")
"""How a corpus is prepared decides nothing afterwards: its content does."""
DESCRIPTION = {"source", "checksum", "normaliser", "glm", "note", "licence", "size", "archives", "keep"}
"""Keys of the register that say where recordings come from, and how they are scored: what was read is known by
content."""


def recipe_hash(recipe: Recipe) -> str:
    """A short hash of a recipe, as rules carry it."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


class Identities:
    """The identities of everything that one experiment makes below `results`, the experiment's folder; `data` is the
    prepared corpus, where it lies elsewhere."""

    def __init__(self, experiment: Experiment, results: Path | str, data: Path | None = None):
        self.experiment = experiment
        self.results = Path(results)
        self.data = data or self.results / "data" / experiment.corpus.name

    # Recipes.

    def check_recipe(self) -> Recipe:
        """Of `experiment.json`: the experiment as it is read, and everything that has defaults or checks of its own."""
        methods = sorted({entry.method for entry in self.experiment.systems.values()})
        backbones = {self.experiment.family_of(name).backbone.name for name in self.experiment.systems}
        modules = [*methods, *(f"asr.backbones.{name}" for name in sorted(backbones)), *self._corpus_modules]
        register = None if self._entry is None else self._entry.model_dump(mode="json", include={"normaliser", "glm"})
        settings = {"experiment": self.experiment.resolved, "register": register}
        return self._recipe(["workflows.check", *modules], settings)

    def data_recipe(self) -> Recipe:
        """Of the prepared corpus: its settings, from where it is fetched, and what tables of a user's own say."""
        entry = self._entry
        settings = {
            "corpus": corpus_identity(self.experiment),
            "register": None if entry is None else entry.model_dump(mode="json", exclude=DESCRIPTION),
            "sets": self.experiment.decoded_sets,
        }
        modules = ["workflows.steps.prepare", *self._corpus_modules]
        return self._recipe(modules, settings, self._source_files(), without=())

    def inputs_recipe(self, family: str | None) -> Recipe:
        """Of the tokenizer and the features of a family (None: the experiment's own)."""
        entry = self.experiment.family(family)
        settings = {
            "tokenizer": entry.tokenizer.model_dump(mode="json"),
            "features": entry.features.model_dump(mode="json"),
            "dev_set": self.experiment.dev_set,
            "sets": self.stored_sets(family),
        }
        letters = file_hashes([entry.tokenizer.letters]) if entry.tokenizer.letters else {}
        return self._recipe(["workflows.steps.inputs"], settings, letters)

    @cache  # noqa: B019 - one object a command
    def training_recipe(self, system: str) -> Recipe:
        """Of a trained system, whatever the seed."""
        return self._recipe(self._modules("train", system), training_inputs(self.experiment, system))

    @cache  # noqa: B019 - one object a command
    def evaluation_recipe(self, system: str) -> Recipe:
        """Of the transcripts of a system."""
        return self._recipe(self._modules("evaluate", system), evaluation_inputs(self.experiment, system))

    @cache  # noqa: B019 - one object a command
    def sensitivity_recipe(self, system: str) -> Recipe:
        """Of the sensitivity of a system."""
        return self._dev_recipe("sensitivity", system)

    @cache  # noqa: B019 - one object a command
    def weight_errors_recipe(self, system: str) -> Recipe:
        """Of what errors in the weights of a system do."""
        return self._dev_recipe("weight_errors", system)

    def _dev_recipe(self, step: str, system: str) -> Recipe:
        """Of what is measured on the dev set."""
        settings = {
            "dev_set": self.experiment.dev_set,
            "batch_seconds": self.experiment.decoding_batch_seconds_of(system),
            "threads": self.experiment.threads,
            **counted(self.experiment),
        }
        return self._recipe(self._modules(step, system), settings)

    @cache  # noqa: B019 - one object a command
    def costs_recipe(self, system: str, timed: bool = True) -> Recipe:
        """Of the costs of a system: with times and memory, or of what is counted alone."""
        asked = evaluation_inputs(self.experiment, system)
        settings = {
            "measure": self.experiment.measure.model_dump(mode="json"),
            "threads": self.experiment.threads,
            "points": [asked["paths"], asked["rows"]],
            "training": deciding(self.experiment.training_of(system)),
            **({} if timed else {"timed": False}),
        }
        return self._recipe(self._modules("measure", system), settings)

    def analysis_recipe(self) -> Recipe:
        """Of tables, figures, verdicts and the summary."""
        chosen = self.experiment.normaliser or self._entry
        glm = [chosen.glm] if chosen is not None and chosen.glm else []
        patterns = [
            "analysis/claims.yaml",
            "analysis/published/*.csv",
            "analysis/tables/*.html",
            "analysis/scoring/*.glm",
        ]
        return self._recipe(["analysis.render"], {}, file_hashes([*patterns, *glm]))

    def report_recipe(self) -> Recipe:
        """Of the report."""
        return self._recipe(["analysis.report"], {}, file_hashes(["analysis/page/templates/*"]))

    # Contents.

    def inputs_contents(self, family: str | None) -> Contents:
        """What the tokenizer and the features of a family are made from."""
        return self._sets({"train", self.experiment.dev_set, *self.stored_sets(family)})

    def training_contents(self, system: str, folders: dict[str, Path]) -> Contents:
        """What a training reads; `folders` holds the systems that it starts from."""
        read = self.input_files(system, ["train", self.experiment.dev_set])
        orders = self.experiment.needs_sensitivity(system)
        return {
            **self._sets({"train", self.experiment.dev_set}),
            **{file: self._digest(self.data / file) for file in read},
            **{f"system {name}": self._digest(folders[name] / "system.json") for name in sorted(folders)},
            **{f"sensitivity of {name}": self._drop_order(folders[name]) for name in orders if name in folders},
        }

    def evaluation_contents(self, system: str, model: Path, sets: list[str] | None = None) -> Contents:
        """What decoding a system reads: its weights, and some sets (default: all that are decoded)."""
        sets = self.experiment.decoded_sets if sets is None else sets
        files = {file: self._digest(self.data / file) for file in self.input_files(system, sets)}
        return {**self._sets(set(sets)), **files, "system": self._digest(model / "system.json")}

    def costs_contents(self, system: str, model: Path) -> Contents:
        """What measuring a system reads: its weights, and the training set, whose batches it takes."""
        return self.evaluation_contents(system, model, ["train"])

    def analysis_contents(self) -> Contents:
        """What tables, figures and verdicts are made from: transcripts, costs, provenance, studies, and what says which
        of them are up to date."""
        files = ("eval/points.json", "measured/costs.json", "provenance.json", "sensitivity.json", "weight_errors.json")
        paths = [self.folder(name, seed) / file for name, seed in self.experiment.trainings for file in files]
        paths += [self.results / "experiment.json", self.results / "made.json"]
        return {str(path.relative_to(self.results)): self._digest(path) for path in paths}

    def report_contents(self) -> Contents:
        """What the report is made from: what analysis is, and what it wrote."""
        written = ("RESULTS.md", "claims.json")
        return {**self.analysis_contents(), **{file: self._digest(self.results / file) for file in written}}

    # What is read.

    def folder(self, system: str, seed: int | str) -> Path:
        """The folder of a trained system."""
        return self.results / "systems" / system / f"seed{seed}"

    def folders(self, system: str, seed: int | str) -> dict[str, Path]:
        """The folders of the systems that one starts from."""
        return {name: self.folder(name, seed) for name in self.experiment.needs(system)}

    def stored_sets(self, family: str | None) -> list[str]:
        """The sets whose features a family keeps on disk."""
        features = self.experiment.family(family).features
        stored = features.kind == "log_mel" and features.store
        return ["train", *self.experiment.decoded_sets] if stored else []

    def input_files(self, system: str, sets: list[str]) -> list[str]:
        """What a system reads of some sets beside the manifests, as paths below the corpus's folder."""
        family = self.experiment.systems[system].family
        stored = [name for name in sets if name in self.stored_sets(family)]
        return [*self.experiment.input_files(family), *(self.experiment.store_file(family, name) for name in stored)]

    def _sets(self, names: set[str]) -> Contents:
        return {f"set {name}": self._digest(self.data / content_file(name)) for name in sorted(names)}

    @staticmethod
    def _digest(path: Path) -> str | None:
        """All files that are asked for are small: what is large is known by a digest in a small one."""
        return sha256(path)[:16] if path.is_file() else None

    @staticmethod
    def _drop_order(folder: Path) -> str | None:
        path = folder / "sensitivity.json"
        return " ".join(map(str, read_json(path)["drop_order"])) if path.is_file() else None

    def _modules(self, step: str, system: str) -> list[str]:
        """What a step runs for a system: the step, the system's method and those of what it is derived from, whose
        points and losses it has, the backbone."""
        backbone = self.experiment.family_of(system).backbone.name
        methods = [self.experiment.systems[name].method for name in self.experiment.lineage(system)]
        return [f"workflows.steps.{step}", *methods, f"asr.backbones.{backbone}"]

    @cached_property
    def _entry(self) -> Entry | None:
        """The corpus's entry in the register."""
        return read_register().get(self.experiment.corpus.name)

    @property
    def _corpus_modules(self) -> list[str]:
        return [] if self._entry is None or self._entry.module is None else [self._entry.module]

    def _source_files(self) -> dict[str, str]:
        """Digests of the files that say what the corpus holds, where its module names such (`source_files`): small
        ones, and not the recordings. What is missing there, or wrong, preparation says."""
        name, settings = self.experiment.corpus.name, self.experiment.corpus.settings
        found: dict[str, str] = {}
        try:
            for module in map(importlib.import_module, self._corpus_modules):
                if hasattr(module, "source_files"):
                    files = module.source_files(settings_of(name, settings))
                    found |= {str(path): sha256(path)[:16] for path in files if path.is_file()}
        except (UserError, ImportError, OSError):
            return {}
        return found

    def _recipe(
        self,
        modules: list[str],
        settings: dict[str, Any],
        files: dict[str, str] | None = None,
        without: tuple[str, ...] = PREPARED,
    ) -> Recipe:
        code = self._code(frozenset(modules), without)
        return {"settings": json.loads(json.dumps(settings)), **code, "files": files or {}}

    @cache  # noqa: B019 - one object a command: many systems run the same code
    def _code(self, modules: frozenset[str], without: tuple[str, ...]) -> Recipe:
        packages = tuple(self.experiment.packages)
        return {
            "sources": module_hashes(modules, without, packages),
            "packages": package_versions(modules, without, packages),
        }


def identity(recipe: Recipe, contents: Contents) -> dict[str, Any]:
    """Both halves, as they are written beside what they decided."""
    return {"schema": SCHEMA, "recipe": recipe, "contents": contents}


def read_identity(path: Path, key: str | None = None) -> dict[str, Any] | None:
    """What was written beside a result, in a file of its own or under `key` of another; None where nothing was."""
    if not path.is_file():
        return None
    found = read_json(path)
    found = found.get(key) if key is not None and isinstance(found, dict) else found
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def differences(earlier: Any, today: Any, prefix: str = "") -> Iterator[str]:
    """Where two identities differ, a line each: `settings.training.steps: 320 -> 400`, `sources: asr/batches.py`."""
    if isinstance(earlier, dict) and isinstance(today, dict):
        for key in sorted({*earlier, *today}):
            name = f"{prefix}.{key}" if prefix else key
            if earlier.get(key) != today.get(key):
                yield from differences(earlier.get(key), today.get(key), name)
    elif prefix.startswith(("sources.", "files.")):
        kind, _, name = prefix.partition(".")
        yield f"{kind}: {name}{' is new' if earlier is None else ' is gone' if today is None else ''}"
    elif prefix.startswith("contents."):
        yield f"{prefix.removeprefix('contents.')}: its content"
    elif isinstance(earlier, list) and isinstance(today, list):
        yield from _differences_of_lists(earlier, today, prefix)
    else:
        yield f"{prefix}: {_shown(earlier)} -> {_shown(today)}"


def _differences_of_lists(earlier: list, today: list, prefix: str) -> Iterator[str]:
    """What one has and the other has not: whole lists are long, and alike in what is shown of them."""
    if len(earlier) == len(today) and any(isinstance(each, (list, dict)) for each in [*earlier, *today]):
        for number, pair in enumerate(zip(earlier, today, strict=True)):
            if pair[0] != pair[1]:
                yield from differences(*pair, f"{prefix}[{number}]")
        return
    gone, new = ([each for each in one if each not in other] for one, other in ((earlier, today), (today, earlier)))
    words = [f"{word} {_shown(some)}" for word, some in (("without", gone), ("with", new)) if some]
    yield f"{prefix}: {', '.join(words) or 'in another order'}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def changes(earlier: dict[str, Any], today: dict[str, Any]) -> list[str]:
    """`differences` of two identities as `identity` writes them."""
    contents = [{"contents": each["contents"]} for each in (earlier, today)]
    return [*differences(earlier["recipe"], today["recipe"]), *differences(*contents)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.identity", description="Write down what decides tables and report."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--of", required=True, choices=("analysis", "report"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    identities = Identities(load_experiment(arguments.experiment), arguments.out.parent)
    if arguments.of == "analysis":
        recipe, contents = identities.analysis_recipe(), identities.analysis_contents()
    else:
        recipe, contents = identities.report_recipe(), identities.report_contents()
    if not arguments.out.parent.is_dir():
        raise UserError(f"{arguments.out.parent}: no such folder")
    write_json(arguments.out, identity(recipe, contents))


if __name__ == "__main__":
    sys.exit(run(main))
