"""What an evaluation would have chosen among the paths of a results folder's system: `choices` of `points.json`."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from analysis.inputs.schemas import Point
from analysis.scoring.alignment import align
from analysis.scoring.counts import Counts
from analysis.scoring.median import median_point
from analysis.scoring.trn import read_trn


def choices(
    decoded: Path, references: Mapping[str, Path], points: Sequence[dict], test_sets: Sequence[str], dev_set: str | None
) -> list[dict]:
    """Of each depth with several offered points. `decoded` is the folder of a decode, `references` files by set."""
    offered = [Point(**point, system="", seed=0) for point in points if point["offered"]]
    ordered = sorted(offered, key=lambda point: (point.depth, point.path))
    spoken = {name: read_trn(path) for name, path in references.items()}

    def median(candidates: list[Point], sets: Sequence[str]) -> str:
        heard = {point: [read_trn(decoded / name / f"{point.id}.trn") for name in sets] for point in candidates}
        counted = []
        for point, files in heard.items():
            counts = (align(spoken[name], file).counts for name, file in zip(sets, files, strict=True))
            counted.append((point, sum(counts, Counts.zero())))
        return median_point(counted).id

    found = []
    for depth, group in groupby(ordered, key=lambda point: point.depth):
        candidates = list(group)
        if len(candidates) > 1:
            on_dev = median(candidates, [dev_set]) if dev_set else None
            chosen = {"point": median(candidates, test_sets), "on_dev": on_dev, "chosen_by": decoded.name}
            found.append({"depth": depth, "candidates": [point.id for point in candidates], **chosen})
    return found
