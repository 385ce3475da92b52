"""What the points of an experiment's systems cost before anything is trained, a row each, the papers' numbers beside.

Weights are counted on outlines, shapes without weights, where methods give them. Everything else is counted, and
measured where asked for, on untrained systems, by what measures trained ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analysis.inputs.published import published_table
from asr.paths import parse_path
from asr.tokenizer import LETTERS, Tokenizer
from methods.contract import Method, Point
from workflows.check import checked_methods
from workflows.experiment import Experiment
from workflows.experiment.entries import BackboneEntry, Row
from workflows.steps.measure import Asked
from workflows.steps.untrained import expected_costs, expected_parameters
from workflows.steps.wanted import points_by_cost

FILTER_BANKS, WITH_PITCH = 80, 83
"""Input features of the Conformers of arXiv 2505.21237. The paper does not say; the parameters that it prints are those
of 80 filter banks with ESPnet's three pitch features (analysis/published/param_counts.csv)."""
OF_CONFORMERS = ("paper_table1", "paper_table4")
SPECIAL_TOKENS = 2
"""Of a decoder's list of tokens: blank, and start and end."""
ASSUMED_UNITS = 30
"""Where units come from transcripts: about as many as there are letters."""
SYSTEM = ("system", "point", "depth", "input_features", "vocabulary")
WEIGHTS = ("parameters",)
COUNTED = ("parameters_nonzero", "parameters_executed", "stored_bytes", "bits_a_weight", "audio_seconds", "macs")
MEMORY = ("peak_memory_bytes", "training_peak_memory_bytes")
TIMES = ("real_time_factor", "training_step_seconds")
MEASURED_ON = ("device", "threads")
PUBLISHED = ("published_rows", "published_input_features", "published_parameters_millions")


def columns(asked: Asked | None) -> list[str]:
    """The columns of the table; `asked`: None: parameters alone."""
    found = [*SYSTEM, *WEIGHTS]
    if asked is not None:
        found += [*COUNTED, *(MEMORY if asked.memory else ()), *(TIMES if asked.times else ())]
        found += MEASURED_ON if any(asked) else ()
    return [*found, *PUBLISHED]


@dataclass(frozen=True)
class Variant:
    """An experiment as it is, or with other input features, and its methods by system."""

    experiment: Experiment
    methods: dict[str, Method]

    def features_of(self, system: str) -> int | str:
        """Numbers a frame, or what else is read."""
        features = self.experiment.family_of(system).features
        return features.mels if features.kind == "log_mel" else features.kind


def cost_rows(
    experiment: Experiment, where: str, systems: Sequence[str], units: int | None, asked: Asked | None
) -> Iterator[dict[str, Any]]:
    """A row for every point that a table may show and that costs something else, for each number of input features.
    `units`: so many words or characters do transcripts hold. `asked`: None: parameters alone."""
    if asked is not None:
        torch.set_num_threads(experiment.threads)
    every, seconds = variants(experiment, where, units), experiment.measure.audio_seconds
    for system in systems:
        printed = published_rows(experiment, system)
        for variant in every if any(table in OF_CONFORMERS for table, _, _ in printed) else every[:1]:
            method, of = variant.methods[system], (variant.experiment, variant.methods, system)
            points, costs = expected_parameters(*of) if asked is None else expected_costs(*of, asked)
            for alike in points_by_cost(experiment, system, method, points):
                cells = {
                    "system": system,
                    "point": alike[0].id,
                    "depth": alike[0].depth,
                    "input_features": variant.features_of(system),
                    "vocabulary": method.backbone.vocabulary,
                    **printed_costs(method, alike[0], costs[alike[0].id], seconds),
                    **published_cells(printed, alike),
                }
                yield {key: cells[key] for key in columns(asked)}


def assumed(experiment: Experiment, systems: Sequence[str]) -> list[str]:
    """The units of tokenizers that only transcripts count."""
    units = {experiment.family_of(system).tokenizer.units for system in systems}
    return sorted(units & {"word", "char"})


def variants(experiment: Experiment, where: str, units: int | None) -> list[Variant]:
    """The experiment, and beside it the same with the paper's input features, where it trains without pitch."""
    every = [experiment]
    own = experiment.features
    if experiment.backbone.name == "conformer" and own.kind == "log_mel" and own.mels == FILTER_BANKS:
        every.append(with_features(experiment, WITH_PITCH))
    sizes = {name: vocabulary(experiment, name, units) for name in experiment.systems}
    return [Variant(each, checked_methods(each, where, None, sizes.__getitem__)) for each in every]


def with_features(experiment: Experiment, number: int) -> Experiment:
    """The experiment whose own family reads so many features a frame."""
    settings = {**experiment.backbone.settings, "input_dim": number}
    features = experiment.features.model_copy(update={"mels": number})
    backbone = BackboneEntry(name=experiment.backbone.name, settings=settings)
    return experiment.model_copy(update={"features": features, "backbone": backbone})


def vocabulary(experiment: Experiment, system: str, units: int | None) -> int:
    """Labels of a system."""
    tokenizer = experiment.family_of(system).tokenizer
    if tokenizer.units == "letter":
        return len(LETTERS if tokenizer.letters is None else Tokenizer.from_vocab(tokenizer.letters))
    if tokenizer.units == "bpe":
        return tokenizer.vocabulary + SPECIAL_TOKENS
    return (ASSUMED_UNITS if units is None else units) + SPECIAL_TOKENS


def printed_costs(method: Method, point: Point, costs: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The cells of a point, as far as they do not follow from weights that only training gives."""
    if method.costs_are_learned(point):
        known = () if method.outline() is None else ("parameters_stored", "parameters_nonzero", "stored_bytes")
        costs = {key: value for key, value in costs.items() if key in known}
    medians = {key: value["median"] for key, value in costs.items() if key in TIMES and value is not None}
    cells = {**costs, **medians, "parameters": costs.get("parameters_stored"), "audio_seconds": seconds}
    return {key: cells.get(key) for key in (*WEIGHTS, *COUNTED, *MEMORY, *TIMES, *MEASURED_ON)}


Printed = list[tuple[str, str, Row]]
"""Rows of papers' tables: the published table, the row's name, and what our row of that name shows."""


def published_rows(experiment: Experiment, system: str) -> Printed:
    """Those that show a system."""
    return [
        (table.published, key, row)
        for table in experiment.tables.values()
        for key, row in table.rows.items()
        if row.system == system and table.published is not None and key in published_table(table.published)
    ]


def published_cells(printed: Printed, alike: list[Point]) -> dict[str, str]:
    """What the papers print of points that cost the same."""
    found = [(table, key) for table, key, row in printed if any(shows(row, point) for point in alike)]
    rows = [f"{table} {key}" for table, key in found]
    features = [str(WITH_PITCH) for table, _ in found if table in OF_CONFORMERS]
    millions = [published_table(table)[key].get("params_millions", "") for table, key in found]
    cells = ("; ".join(dict.fromkeys(filter(None, each))) for each in (rows, features, millions))
    return dict(zip(PUBLISHED, cells, strict=True))


def shows(row: Row, point: Point) -> bool:
    """Whether a table's row may show a point."""
    if row.depth is not None:
        return point.is_path and point.offered and point.depth == row.depth
    return point.id == row.point if row.path is None else point.path == parse_path(row.path)
