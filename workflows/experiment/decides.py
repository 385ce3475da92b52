"""Which settings of an experiment decide what: the corpus, a trained system, its transcripts."""

import json
from collections.abc import Iterable
from typing import Any

from asr.settings import TrainingSettings
from methods.paths import format_path
from workflows.experiment.entries import Row
from workflows.experiment.schema import Experiment

DECIDE_NOTHING = {"log_every", "tensorboard", "checkpoint_every", "all_blank", "workers", "prefetch"}
"""Training settings that change what is written down on the way, or who reads a batch, not what comes out."""
MEMORY_ONLY = {"batch_hypotheses"}
"""Settings of a decode that say how much is done at once."""


def corpus_identity(experiment: Experiment) -> dict[str, Any]:
    """What decides the content of the corpus: not how many processes make it, or from which copy."""
    settings = {key: value for key, value in experiment.corpus.settings.items() if key not in ("workers", "archive")}
    return {"name": experiment.corpus.name, "settings": settings}


def deciding(training: TrainingSettings) -> dict[str, Any]:
    """The training settings that decide what comes out, as JSON: how many devices there are among them, and what they
    share only where there are several."""
    idle = DECIDE_NOTHING if training.devices > 1 else DECIDE_NOTHING | {"batch_norm"}
    return training.model_dump(mode="json", exclude=idle)


def training_inputs(experiment: Experiment, system: str) -> dict[str, Any]:
    """The settings that decide what training this system gives, as JSON: a change here retrains it. Corpus and
    tokenizer are not among them: they are known by content."""
    entry, family = experiment.systems[system], experiment.family_of(system)
    return {
        "dev_set": experiment.dev_set,
        "features": family.features.model_dump(mode="json", exclude={"store"}),
        "backbone": experiment.backbone_of(system),
        "method": entry.method,
        "settings": entry.settings,
        "training": deciding(experiment.training_of(system)),
        "statistics": experiment.statistics,
        "threads": experiment.threads,
    }


def training_configuration(experiment: Experiment, system: str) -> dict[str, Any]:
    """All settings of a training for those who read its provenance, also those that decide nothing."""
    family = experiment.family_of(system)
    return {
        **training_inputs(experiment, system),
        "tokenizer": family.tokenizer.model_dump(mode="json"),
        "features": family.features.model_dump(mode="json"),
        "training": experiment.training_of(system).model_dump(mode="json"),
    }


def evaluation_inputs(experiment: Experiment, system: str) -> dict[str, Any]:
    """Everything beside the trained system that decides what is decoded."""
    decodes = experiment.decodes_of(system)
    own = [name for name, decode in decodes.items() if decode.points == "own_tables"]
    return {
        "decodes": {name: decode.model_dump(exclude=MEMORY_ONLY) for name, decode in decodes.items()},
        "batch_seconds": experiment.decoding_batch_seconds_of(system),
        "test_sets": experiment.test_sets,
        "dev_set": experiment.dev_set,
        "further_sets": experiment.further_sets,
        "paths": [format_path(path) for path in experiment.further_paths(system)],
        "rows": _asked(experiment.rows_of(system)),
        "own_rows": {name: _asked(experiment.rows_of(system, name)) for name in own},
        "paths_chosen_on": experiment.paths_chosen_on,
        "evaluate": experiment.systems[system].evaluate,
        "threads": experiment.threads,
        **counted(experiment),
    }


def _asked(rows: Iterable[Row]) -> list[str]:
    """What some rows ask for, each once, however they are called and ordered."""
    chosen = {"median": [], "best": ["best"]}
    return sorted({json.dumps([row.depth, row.path, row.point, *chosen[row.choose]]) for row in rows})


def counted(experiment: Experiment) -> dict[str, str]:
    """Of what the errors are, by which paths are chosen: said where it is something else than words."""
    return {} if experiment.score == "words" else {"score": experiment.score}
