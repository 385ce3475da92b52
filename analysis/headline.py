"""Is a foldable system better when it is run deeper? Each one's deepest offered depth against its seed depth.

python -m analysis.headline --experiment-folder results/smoke
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

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
        """The answer in one line. The difference is the deepest minus the seed depth, negative when deeper is better."""
        if self.deepest_wer == self.seed_wer:
            verdict = "makes as many errors"
        elif self.significant:
            verdict = "is better" if self.deepest_wer < self.seed_wer else "is WORSE"
        else:
            verdict = f"is not significantly {'better' if self.deepest_wer < self.seed_wer else 'worse'}"
        return (
            f"{self.system}: depth {self.deepest_depth} {verdict} than depth {self.seed_depth}: "
            f"WER {self.seed_wer:.2f} % -> {self.deepest_wer:.2f} %, difference {self.deepest_wer - self.seed_wer:+.2f} "
            f"(95 % interval {self.low:+.2f} to {self.high:+.2f} over {self.speakers} speakers; "
            f"MAPSSWE p = {self.p:.2g}, {self.segments} segments)"
        ).replace("as many errors than", "as many errors as")


def headlines(results) -> list[Headline]:
    """The answer for every system of the experiment's depth curves."""
    from analysis.choice import choose
    from analysis.intervals import difference_interval
    from analysis.mapsswe import mapsswe
    from analysis.results import Row

    experiment, found = results.experiment, []
    seed = experiment.seeds[0]
    for figure in experiment.figures.values():
        for system in figure.systems:
            depths = [point.depth for point in results.points(system, seed).points if point.offered and point.depth]
            choices = [
                choose(results, Row(system=system, depth=depth), seed, figure.decode, f"figures: {system}")
                for depth in (max(depths), min(depths))
            ]
            sides = [results.alignments(choice.point, figure.decode, experiment.test_sets) for choice in choices]
            pairs = list(zip(*sides, strict=True))
            test, interval = mapsswe(pairs), difference_interval(pairs)
            deepest, shallowest = (
                results.counts(choice.point, figure.decode, experiment.test_sets).wer for choice in choices
            )
            found.append(
                Headline(
                    system,
                    min(depths),
                    max(depths),
                    shallowest,
                    deepest,
                    interval.low,
                    interval.high,
                    interval.units,
                    test.p,
                    test.segments,
                    test.significant,
                )
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.headline", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    arguments = parser.parse_args()

    from analysis.results import Results  # numba and pydantic: not needed to answer --help

    for headline in headlines(Results(arguments.experiment_folder)):
        print(headline.sentence)


if __name__ == "__main__":
    sys.exit(run(main))
