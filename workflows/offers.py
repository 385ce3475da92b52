"""What an experiment asks of its systems against what their methods will offer, before anything is trained.

Table rows, further paths, figures, headline and sensitivity name depths, paths and points. A method knows most of its
points from its settings; where only training tells, nothing is said here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.paths import parse_path
from common.errors import UserError, closest
from methods.paths import check_shape
from workflows.experiment import Experiment
from workflows.experiment.entries import Row

if TYPE_CHECKING:
    from methods.contract import Method, Point

FEW = 12
"""So many points are named one by one."""


@dataclass(frozen=True)
class Offer:
    """What one system will offer."""

    system: str
    layers: int
    points: "list[Point] | None"
    """The method's, and the further paths that the experiment evaluates; None where only training tells."""

    @property
    def recognises(self) -> bool:
        return self.points is None or bool(self.points)

    @property
    def depths(self) -> list[int]:
        """Depths that the method itself offers, and that say which path is run; widths and precisions have names."""
        return sorted({point.depth for point in self.points or [] if point.offered and point.is_path})

    @property
    def takes_paths(self) -> bool:
        """Whether the system can be run at a path."""
        return self.points is None or any(point.path is not None for point in self.points if point.offered)

    @property
    def shown_points(self) -> str:
        names = [point.id for point in self.points or []]
        return ", ".join(names) if len(names) <= FEW else f"{len(names)} points, {names[0]} to {names[-1]}"

    @property
    def shown_depths(self) -> str:
        """What is offered, as the end of a message."""
        if self.depths:
            return f"its depths: {', '.join(map(str, self.depths))}"
        return f"a depth names none of its points, name one of them with `point`: {self.shown_points}"


def check_offers(experiment: Experiment, methods: "Mapping[str, Method]", where: str) -> None:
    """Raise `UserError`, naming file and key, for a depth, path or point that no trained system will have."""
    offers = {name: _offer(experiment, name, method, where) for name, method in methods.items()}
    for table, entry in experiment.tables.items():
        for key, row in entry.rows.items():
            _check_row(offers[row.system], row, f"{where}: tables.{table}.rows.{key}")
    for figure, entry in experiment.depth_figures.items():
        for key, systems in (("systems", entry.systems), ("baselines", entry.baselines)):
            for system in systems:
                _check_curve(offers[system], f"{where}: figures.{figure}.{key}")
        if entry.sensitivity is not None:
            _check_sensitivity(offers[entry.sensitivity], f"{where}: figures.{figure}.sensitivity")
    for system in experiment.shown_weight_errors:
        _check_disturbed(offers[system], methods[system], f"{where}: figures: weight errors")
    for name in experiment.systems:
        for source in experiment.needs_sensitivity(name):
            _check_sensitivity(offers[source], f"{where}: systems.{name}.settings")
    if experiment.headline is not None:
        _check_headline(offers, experiment.headline, f"{where}: headline")


def _offer(experiment: Experiment, name: str, method: "Method", where: str) -> Offer:
    from methods.contract import path_points  # torch: not for those who only ask for help

    layers, points = method.backbone.config.layers, method.expected_points()
    offer = Offer(name, layers, points)
    for path in experiment.systems[name].paths:
        _check_path(offer, path, f"{where}: systems.{name}.paths")
    if points is None or not offer.takes_paths:
        return offer
    known = {point.path for point in points}
    further = [path for path in experiment.further_paths(name) if len(path) == layers and path not in known]
    return Offer(name, layers, points + path_points(further, (), offered=False))


def _check_row(offer: Offer, row: Row, key: str) -> None:
    _check_recognises(offer, key)
    if row.path is not None:
        _check_path(offer, row.path, f"{key}.path")
    elif offer.points is None:
        return
    elif row.depth is not None and row.depth not in offer.depths:
        raise UserError(f"{key}.depth: '{offer.system}' is not offered at depth {row.depth}; {offer.shown_depths}")
    elif row.point is not None and row.point not in (names := [point.id for point in offer.points]):
        hint = closest(row.point, names)
        raise UserError(f"{key}.point: '{offer.system}' has no point '{row.point}'{hint} (known: {offer.shown_points})")


def _check_path(offer: Offer, path: str, key: str) -> None:
    if not offer.takes_paths:
        raise UserError(f"{key}: '{offer.system}' is not run at paths; its points: {offer.shown_points}")
    try:
        check_shape(parse_path(path), offer.layers)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _check_curve(offer: Offer, key: str) -> None:
    _check_recognises(offer, key)
    if offer.points is not None and not offer.depths:
        raise UserError(
            f"{key}: '{offer.system}' has no depths that a curve could be drawn over; its points: {offer.shown_points}"
        )


def _check_disturbed(offer: Offer, method: "Method", key: str) -> None:
    _check_recognises(offer, key)
    if method.packed:
        raise UserError(f"{key}: the weights of '{offer.system}' are packed; errors are added to dense ones")
    if offer.points is not None and not any(point.trained and point.path is not None for point in offer.points):
        raise UserError(f"{key}: '{offer.system}' is trained at no path; its points: {offer.shown_points}")


def _check_sensitivity(offer: Offer, key: str) -> None:
    _check_recognises(offer, f"{key}: sensitivity")
    if offer.layers < 2:
        raise UserError(f"{key}: '{offer.system}' has one layer; sensitivity needs several, to leave out one at a time")


def _check_headline(offers: Mapping[str, Offer], system: str, key: str) -> None:
    offer = offers[system]
    _check_recognises(offer, key)
    if offer.points is not None and len(offer.depths) < 2:
        several = [name for name, other in offers.items() if len(other.depths) > 1]
        raise UserError(
            f"{key}: '{system}' does not run at several depths, so there is nothing to compare; "
            + (
                f"systems that do: {', '.join(several)}"
                if several
                else "no system of this experiment does: leave it out"
            )
        )


def _check_recognises(offer: Offer, key: str) -> None:
    if not offer.recognises:
        raise UserError(
            f"{key}: '{offer.system}' recognises nothing yet: it has no points; name one that is fine-tuned from it"
        )
