"""Is a foldable system better when it is run deeper? Each one's deepest offered depth against its seed depth."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.significance.mapsswe import shown_p

if TYPE_CHECKING:
    from analysis.significance.comparison import Comparison


@dataclass(frozen=True)
class Headline:
    """One system at two depths, all test sets pooled."""

    system: str
    seed_depth: int
    deepest_depth: int
    seed_wer: float
    deepest_wer: float
    rate: str
    """What the error rate is called: WER, or CER."""
    comparison: "Comparison"
    """The deepest depth against the seed depth: negative where deeper is better."""

    @property
    def sentence(self) -> str:
        """The answer in one line."""
        found, (low, high) = self.comparison, self.comparison.interval
        better = "better" if found.difference < 0 else "worse" if found.difference > 0 else "different"
        verdict = f"is {better}" if found.significant else f"is not significantly {better}"
        return (
            f"{self.system}: depth {self.deepest_depth} {verdict} {'from' if better == 'different' else 'than'} depth "
            f"{self.seed_depth}: {self.rate} {self.seed_wer:.2f} % to {self.deepest_wer:.2f} %, "
            f"difference {found.difference:+.2f} (95 % interval {low:+.2f} to {high:+.2f} "
            f"over {self._sample}; {self._tests})"
        )

    @property
    def _sample(self) -> str:
        seeds = f"{self.comparison.seeds} seeds and " if self.comparison.seeds > 1 else ""
        return seeds + self.comparison.units

    @property
    def _tests(self) -> str:
        """What is relied on: with one seed its test, with several the contrast; then in how many MAPSSWE agrees."""
        found = self.comparison
        if found.seeds > 1:
            agree = sum(test.significant and test.mapsswe.mean * found.difference > 0 for test in found.tests)
            return f"p {shown_p(found.p)}; significant by MAPSSWE in {agree} of {found.seeds} seeds"
        (test,) = found.tests
        name = "MAPSSWE p" if test.exact_p is None else "exact p"
        return f"{name} {shown_p(test.p)}, {test.mapsswe.segments} segments"


def headlines(results) -> list[Headline]:
    """The answer for the system asked for, then for every other of the depth curves that runs at several depths; where
    none of these does, for every system that does."""
    experiment = results.experiment
    figures = experiment.depth_figures.values()
    asked = [(system, _shown_decode(results, system, figure.decode)) for figure in figures for system in figure.systems]
    if experiment.headline is not None and experiment.headline not in dict(asked):
        asked.append((experiment.headline, _whole_decode(results, experiment.headline)))
    asked = sorted(dict.fromkeys(asked), key=lambda pair: pair[0] != experiment.headline)
    several = [pair for pair in asked if len(_depths(results, *pair)) > 1]
    if not several:
        others = [(system, _whole_decode(results, system)) for system in experiment.systems]
        several = [pair for pair in others if len(_depths(results, *pair)) > 1]
    return [_headline(results, system, decode) for system, decode in several]


def _depths(results, system: str, decode: str) -> list[int]:
    """The depths that a system offers and that were decoded: of some only those of table rows are."""
    found = results.first_points(system)
    sets = results.experiment.test_sets
    decoded = [point for point in found.points if all(results.decoded(point, decode, name) for name in sets)]
    return sorted({point.depth for point in decoded if point.stands_for_depth})


def _shown_decode(results, system: str, decode: str) -> str:
    """The decode of the tables where it holds several depths of a system: a figure's may be of fewer utterances."""
    from analysis.tables.rows import table_decode

    of_tables = table_decode(results, system) or decode
    return of_tables if len(_depths(results, system, of_tables)) > 1 else decode


def _whole_decode(results, system: str) -> str:
    """The decode of a system that no figure shows: one that covers all its points."""
    found = results.first_points(system)
    sizes = {
        decode: min((len(content.points) for content in decoded.sets.values()), default=0)
        for decode, decoded in found.decodes.items()
    }
    return max(sizes, key=sizes.get, default="")


def _headline(results, system: str, decode: str) -> Headline:
    from analysis.tables.rows import measure_depth

    depths = _depths(results, system, decode)
    deepest, shallowest = (measure_depth(results, system, depth, decode) for depth in (max(depths), min(depths)))
    return Headline(
        system=system,
        seed_depth=min(depths),
        deepest_depth=max(depths),
        seed_wer=shallowest.wer(),
        deepest_wer=deepest.wer(),
        rate=results.experiment.rate,
        comparison=deepest.against(shallowest),
    )
