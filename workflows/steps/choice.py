"""Which path stands for a depth that has several, and which points the tables of an experiment then show.

Middle depths are never trained, and the paper reports the path with the median WER. With `paths_chosen_on: test` it is
chosen on the test sets, as in the paper; the path that the same rule picks on the development set stands beside it,
because a choice made on the test data flatters nobody here (it is the median, not the best) but could not be made in
use. With `paths_chosen_on: dev` that one stands for the depth: a path is then fixed before any test word is heard, and
so is what an interval is about. The best path, where a row asks for it, is always that of the development set. Words
are counted as recognised, without a normaliser, so that how results are scored decides neither what is decoded nor what
is trained.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from analysis.scoring.alignment import align
from analysis.scoring.characters import CHARACTERS, spelled
from analysis.scoring.counts import Counts
from analysis.scoring.median import median_point
from analysis.scoring.trn import Transcript
from asr.paths import parse_path
from methods.contract import Point
from workflows.experiment import Experiment
from workflows.experiment.entries import Row
from workflows.steps.wanted import wanted_points

Decoded = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Set -> point id -> utterance id -> words."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The point that stands for a depth of a system."""

    depth: int
    candidates: tuple[Point, ...]
    """All offered points of the depth, in path order."""
    on_test: Point
    """The median one on the test sets."""
    on_dev: Point
    """The median one on the development set."""
    best_on_dev: Point
    """The one with the fewest errors there."""
    chosen_by: str
    """The decode whose errors were counted."""
    chosen_on: tuple[str, ...]
    """The sets that decided: the test sets, or the development set."""
    utterances: int
    """Of these sets, as the decode heard them."""
    by_dev: bool
    """Whether the development set decided."""

    @property
    def point(self) -> Point:
        """What stands for the depth."""
        return self.on_dev if self.by_dev else self.on_test

    def to_json(self) -> dict[str, Any]:
        """As `points.json` holds it."""
        return {
            "depth": self.depth,
            "candidates": [point.id for point in self.candidates],
            "point": self.point.id,
            "on_test": self.on_test.id,
            "on_dev": self.on_dev.id,
            "best_on_dev": self.best_on_dev.id,
            "chosen_by": self.chosen_by,
            "chosen_on": [*self.chosen_on],
            "utterances": self.utterances,
        }


class Chooser:
    """Chooses among the points of one system. `references` are the words of each decoded set."""

    def __init__(self, experiment: Experiment, points: Sequence[Point], references: Mapping[str, Mapping[str, str]]):
        self.experiment, self.references = experiment, references
        offered = [point for point in points if point.offered and point.is_path]
        ordered = sorted(offered, key=lambda point: (point.depth, point.path))
        groups = {depth: tuple(group) for depth, group in groupby(ordered, key=lambda point: point.depth)}
        self.candidates = {depth: group for depth, group in groups.items() if len(group) > 1}
        self.chosen: dict[int, Choice] = {}
        """The first decode's choice at each depth."""

    def choose(self, decode: str, decoded: Decoded) -> list[Choice]:
        """The choices of a decode. One that covers all points chooses for itself; one of table points has the choices
        that the first one made, as far as it holds the point, and makes its own where none was made before."""
        choices, covers = [], self.experiment.decodes[decode].points == "all"
        held = decoded[self.experiment.dev_set]
        for depth, candidates in self.candidates.items():
            if (covers or depth not in self.chosen) and all(point.id in held for point in candidates):
                choice = self._choice(depth, candidates, decode, decoded)
                self.chosen.setdefault(depth, choice)
                choices.append(choice)
            elif depth in self.chosen and self.chosen[depth].point.id in held:
                choices.append(self.chosen[depth])
        return choices

    def _choice(self, depth: int, candidates: tuple[Point, ...], decode: str, decoded: Decoded) -> Choice:
        test_sets, dev_set = self.experiment.test_sets, self.experiment.dev_set
        on_dev, by_dev = self._counted(candidates, [dev_set], decoded), self.experiment.paths_chosen_on == "dev"
        sets = (dev_set,) if by_dev else tuple(test_sets)
        return Choice(
            depth,
            candidates,
            on_test=median_point(self._counted(candidates, test_sets, decoded)),
            on_dev=median_point(on_dev),
            best_on_dev=min(on_dev, key=lambda pair: pair[1].errors)[0],  # of equal ones the first, in path order
            chosen_by=decode,
            chosen_on=sets,
            utterances=sum(len(decoded[name][candidates[0].id]) for name in sets),
            by_dev=by_dev,
        )

    def _counted(self, candidates: Sequence[Point], sets: list[str], decoded: Decoded) -> list[tuple[Point, Counts]]:
        counted = []
        for point in candidates:
            found = (decoded[name][point.id] for name in sets)
            score = self.experiment.score
            pooled = (counts_of(self.references[name], words, score) for name, words in zip(sets, found, strict=True))
            counted.append((point, sum(pooled, Counts.zero())))
        return counted


def table_points(
    experiment: Experiment,
    system: str,
    points: list[Point],
    chosen: Mapping[int, Choice],
    rows: Sequence[Row] | None = None,
) -> list[Point]:
    """The points that some rows (None: all of the system's) show: of several at one depth the one that was chosen, and
    the one chosen on the dev set, whose WER stands beside it; and the best one where a row asks for it."""
    asked = experiment.rows_of(system) if rows is None else rows
    named, best = {row.point for row in asked}, {row.depth for row in asked if row.choose == "best"}
    shown = {point.id for choice in chosen.values() for point in (choice.point, choice.on_dev)}
    shown |= {choice.best_on_dev.id for depth, choice in chosen.items() if depth in best}
    passed_over = {point.id for choice in chosen.values() for point in choice.candidates} - shown - named
    wanted = wanted_points(experiment, system, points, rows)
    further = {parse_path(row.path) for row in asked if row.path is not None}
    further |= set(experiment.further_paths(system)) if rows is None else set()
    return [point for point in wanted if point.id not in passed_over or point.path in further]


def counts_of(reference: Mapping[str, str], hypothesis: Mapping[str, str], score: str) -> Counts:
    """The counts of what was recognised of a set, both given as utterance id -> words, by words or by characters.
    Raises KeyError for an utterance that the reference lacks."""
    spoken = {utterance: reference[utterance] for utterance in hypothesis}
    return align(_transcript(spoken, score), _transcript(hypothesis, score)).counts


def _transcript(texts: Mapping[str, str], score: str) -> Transcript:
    parts = spelled if score == CHARACTERS else str
    return Transcript(Path("in memory"), {utterance: parts(text).encode() for utterance, text in texts.items()})
