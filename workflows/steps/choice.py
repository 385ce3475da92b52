"""Which path stands for a depth that has several, and which points the tables of an experiment then show.

Middle depths are never trained, and the paper reports the path with the median WER. It is chosen on the test sets, as
in the paper; the path that the same rule picks on the development set stands beside it, because a choice made on the
test data flatters nobody here (it is the median, not the best) but could not be made in use. Words are counted as
recognised, without a normaliser, so that how results are scored decides neither what is decoded nor what is trained.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from analysis.scoring.alignment import align
from analysis.scoring.counts import Counts
from analysis.scoring.median import median_point
from analysis.scoring.trn import Transcript
from methods.contract import Point
from workflows.experiment import Experiment
from workflows.steps.wanted import table_rows, wanted_points

Decoded = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Set -> point id -> utterance id -> words."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The point that stands for a depth of a system."""

    depth: int
    candidates: tuple[Point, ...]
    """All offered points of the depth, in path order."""
    point: Point
    on_dev: Point
    """What the development set would have chosen."""
    chosen_by: str
    """The decode whose errors were counted."""

    def to_json(self) -> dict[str, Any]:
        """As `points.json` holds it."""
        return {
            "depth": self.depth,
            "candidates": [point.id for point in self.candidates],
            "point": self.point.id,
            "on_dev": self.on_dev.id,
            "chosen_by": self.chosen_by,
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
        """The choices of a decode: its own where it holds all candidates of a depth; else that of the first decode that
        does, if this one holds the point."""
        choices = []
        for depth, candidates in self.candidates.items():
            if all(point.id in decoded[self.experiment.dev_set] for point in candidates):
                choice = Choice(
                    depth,
                    candidates,
                    self._median(candidates, self.experiment.test_sets, decoded),
                    self._median(candidates, [self.experiment.dev_set], decoded),
                    decode,
                )
                self.chosen.setdefault(depth, choice)
                choices.append(choice)
            elif depth in self.chosen and self.chosen[depth].point.id in decoded[self.experiment.dev_set]:
                choices.append(self.chosen[depth])
        return choices

    def _median(self, candidates: Sequence[Point], sets: list[str], decoded: Decoded) -> Point:
        counted = []
        for point in candidates:
            found = (decoded[name][point.id] for name in sets)
            pooled = (counts_of(self.references[name], words) for name, words in zip(sets, found, strict=True))
            counted.append((point, sum(pooled, Counts.zero())))
        return median_point(counted)


def table_points(experiment: Experiment, system: str, points: list[Point], chosen: Mapping[int, Choice]) -> list[Point]:
    """The points that table rows show: of several at one depth the one that was chosen, and the one chosen on the dev
    set, whose WER stands beside it."""
    named = {row.point for row in table_rows(experiment, system)}
    shown = {point.id for choice in chosen.values() for point in (choice.point, choice.on_dev)}
    passed_over = {point.id for choice in chosen.values() for point in choice.candidates} - shown - named
    further = set(experiment.further_paths(system))
    wanted = wanted_points(experiment, system, points)
    return [point for point in wanted if point.id not in passed_over or point.path in further]


def counts_of(reference: Mapping[str, str], hypothesis: Mapping[str, str]) -> Counts:
    """The counts of what was recognised of a set, both given as utterance id -> words. Raises KeyError for an utterance
    that the reference lacks."""
    spoken = {utterance: reference[utterance] for utterance in hypothesis}
    return align(_transcript(spoken), _transcript(hypothesis)).counts


def _transcript(texts: Mapping[str, str]) -> Transcript:
    return Transcript(Path("in memory"), {utterance: text.encode() for utterance, text in texts.items()})
