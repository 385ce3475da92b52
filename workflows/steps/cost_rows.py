"""What the points of an experiment's systems cost before anything is trained, a row each, the papers' numbers beside.

Parameters are counted on outlines, shapes without weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.inputs.published import published_table
from asr.settings import TokenizerSettings
from asr.tokenizer import LETTERS, Tokenizer
from methods.contract import Method, Point, all_points, number_of_weights
from workflows.check import checked_methods
from workflows.experiment import Experiment
from workflows.experiment.entries import BackboneEntry, Row
from workflows.steps.wanted import wanted_points

FILTER_BANKS, WITH_PITCH = 80, 83
"""Input features of the Conformers of arXiv 2505.21237. The paper does not say; the parameters that it prints are those
of 80 filter banks with ESPnet's three pitch features (analysis/published/param_counts.csv)."""
OF_CONFORMERS = ("paper_table1", "paper_table4")
SPECIAL_TOKENS = 2
"""Of a decoder's list of tokens: blank, and start and end."""
ASSUMED_UNITS = 30
"""Where units come from transcripts: about as many as there are letters."""
COLUMNS = ("system", "point", "depth", "input_features", "vocabulary", "parameters")
PUBLISHED = ("published_rows", "published_input_features", "published_parameters_millions")


@dataclass(frozen=True)
class Variant:
    """An experiment as it is, or with other input features, and its methods by system."""

    experiment: Experiment
    methods: dict[str, Method]

    def features_of(self, system: str) -> int | None:
        """Numbers a frame; None for models that read the waveform."""
        features = self.experiment.family_of(system).features
        return features.mels if features.kind == "log_mel" else None


def variants(experiment: Experiment, where: str, units: int | None) -> list[Variant]:
    """The experiment, and beside it the same with the paper's input features, where it trains without pitch."""
    every = [experiment]
    own = experiment.features
    if experiment.backbone.name == "conformer" and own.kind == "log_mel" and own.mels == FILTER_BANKS:
        every.append(with_features(experiment, WITH_PITCH))
    return [
        Variant(each, checked_methods(each, where, None, lambda system: vocabulary(experiment, system, units)))
        for each in every
    ]


def with_features(experiment: Experiment, number: int) -> Experiment:
    """The experiment whose own family reads so many features a frame."""
    settings = {**experiment.backbone.settings, "input_dim": number}
    features = experiment.features.model_copy(update={"mels": number})
    backbone = BackboneEntry(name=experiment.backbone.name, settings=settings)
    return experiment.model_copy(update={"features": features, "backbone": backbone})


def vocabulary(experiment: Experiment, system: str, units: int | None) -> int:
    """Labels of a system. `units`: so many words or characters do the transcripts hold, special tokens aside."""
    tokenizer: TokenizerSettings = experiment.family_of(system).tokenizer
    if tokenizer.units == "letter":
        return len(LETTERS if tokenizer.letters is None else Tokenizer.from_vocab(tokenizer.letters))
    if tokenizer.units == "bpe":
        return tokenizer.vocabulary + SPECIAL_TOKENS
    return (units or ASSUMED_UNITS) + SPECIAL_TOKENS


def parameter_rows(
    experiment: Experiment, where: str, systems: Sequence[str], units: int | None
) -> Iterator[dict[str, Any]]:
    """A row for every point that costs something else."""
    every = variants(experiment, where, units)
    for system in systems:
        printed = published_rows(experiment, system)
        for variant in every if any(table in OF_CONFORMERS for table, _, _ in printed) else every[:1]:
            method = variant.methods[system]
            outline = method.outline()
            weights = None if outline is None else number_of_weights(outline)
            shape = method.backbone.outline() if outline is None else outline
            points = all_points(method, shape, experiment.further_paths(system))
            for alike in points_by_cost(experiment, system, method, points):
                yield {
                    "system": system,
                    "point": alike[0].id,
                    "depth": alike[0].depth,
                    "input_features": variant.features_of(system) or "waveform",
                    "vocabulary": method.backbone.vocabulary,
                    "parameters": weights,
                    **published_cells(printed, alike),
                }


def points_by_cost(experiment: Experiment, system: str, method: Method, points: list[Point]) -> list[list[Point]]:
    """The points that tables ask for, those together that cost the same."""
    groups: dict[Any, list[Point]] = {}
    for point in wanted_points(experiment, system, points):
        groups.setdefault(method.cost_key(point), []).append(point)
    return list(groups.values())


Printed = list[tuple[str, str, Row]]


def published_rows(experiment: Experiment, system: str) -> Printed:
    """The rows of papers' tables that show a system: the published table, the row's name, and what it shows."""
    return [
        (table.published, key, row)
        for table in experiment.tables.values()
        for key, row in table.rows.items()
        if row.system == system and table.published is not None and key in published_table(table.published)
    ]


def published_cells(printed: Printed, alike: list[Point]) -> dict[str, str]:
    """What the paper prints of points that cost the same."""
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
    return point.id == row.point if row.path is None else point.path == tuple(map(int, row.path.split()))
