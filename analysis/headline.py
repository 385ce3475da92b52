"""Is a foldable system better when it is run deeper? Each one's deepest offered depth against its seed depth.

python -m analysis.headline --experiment-folder results/smoke
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from analysis.mapsswe import shown_p
from common.errors import run


@dataclass(frozen=True)
class Headline:
    """One system at two depths, first seed, all test sets pooled."""

    system: str
    seed_depth: int
    deepest_depth: int
    seed_wer: float
    deepest_wer: float
    low: float
    high: float
    speakers: int
    p: float
    segments: int
    significant: bool

    @property
    def sentence(self) -> str:
        """The answer in one line. The difference is deepest minus seed depth: negative when deeper is better."""
        difference = self.deepest_wer - self.seed_wer
        better = "better" if difference < 0 else "worse" if difference > 0 else "different"
        verdict = f"is {better}" if self.significant else f"is not significantly {better}"
        return (
            f"{self.system}: depth {self.deepest_depth} {verdict} {'from' if better == 'different' else 'than'} depth "
            f"{self.seed_depth}: WER {self.seed_wer:.2f} % to {self.deepest_wer:.2f} %, difference {difference:+.2f} "
            f"(95 % interval {self.low:+.2f} to {self.high:+.2f} over {self.speakers} speakers; "
            f"MAPSSWE p {shown_p(self.p)}, {self.segments} segments)"
        )


def headlines(results) -> list[Headline]:
    """The answer for the system asked for, then for every other of the depth curves that runs at several depths; where
    none of these does, for every system that does."""
    experiment = results.experiment
    asked = [(system, figure.decode) for figure in experiment.figures.values() for system in figure.systems]
    if experiment.headline is not None and experiment.headline not in dict(asked):
        asked.append((experiment.headline, _whole_decode(results, experiment.headline)))
    asked = sorted(dict.fromkeys(asked), key=lambda pair: pair[0] != experiment.headline)
    several = [pair for pair in asked if _runs_at_several(results, pair[0])]
    if not several:
        others = [system for system in experiment.systems if _runs_at_several(results, system)]
        several = [(system, _whole_decode(results, system)) for system in others]
    return [_headline(results, system, decode) for system, decode in several]


def _runs_at_several(results, system: str) -> bool:
    return len(results.points(system, results.experiment.seeds[0]).depths) > 1


def _whole_decode(results, system: str) -> str:
    """The decode of a system that no figure shows: one that covers all its points."""
    found = results.points(system, results.experiment.seeds[0])
    sizes = {
        decode: min((len(content.points) for content in decoded.sets.values()), default=0)
        for decode, decoded in found.decodes.items()
    }
    return max(sizes, key=sizes.get, default="")


def _headline(results, system: str, decode: str) -> Headline:
    from analysis.choice import choose
    from analysis.intervals import difference_interval
    from analysis.mapsswe import mapsswe
    from analysis.schemas import Row

    test_sets, seed = results.experiment.test_sets, results.experiment.seeds[0]
    depths = results.points(system, seed).depths
    points = [
        choose(results, Row(system=system, depth=depth), seed, decode, f"figures: {system}").point
        for depth in (max(depths), min(depths))
    ]
    pairs = list(zip(*(results.alignments(point, decode, test_sets) for point in points), strict=True))
    test, interval = mapsswe(pairs), difference_interval(pairs)
    deepest, shallowest = (results.counts(point, decode, test_sets).wer for point in points)
    return Headline(
        system=system,
        seed_depth=min(depths),
        deepest_depth=max(depths),
        seed_wer=shallowest,
        deepest_wer=deepest,
        low=interval.low,
        high=interval.high,
        speakers=interval.units,
        p=test.p,
        segments=test.segments,
        significant=test.significant,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.headline", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    arguments = parser.parse_args()

    from analysis.results import Results  # numba and pydantic: not needed to answer --help

    for headline in headlines(Results(arguments.experiment_folder)):
        print(headline.sentence)


if __name__ == "__main__":
    sys.exit(run(main))
