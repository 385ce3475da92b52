"""Write down which systems of an experiment are made and up to date: what analysis shows; the others it names.

    python -m workflows.made --experiment smoke --systems f6=0 a12=0,1 --studies 'weight errors of f6=0' \\
        --out results/smoke/made.json

The workflow calls it before analysis, with the systems and seeds that it has just made or found up to date. Others are
among them only where everything beside them says so.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run
from common.files import write_json
from workflows.experiment import load_experiment
from workflows.part import of_words, ordered, the_whole
from workflows.why import SHOWN_OF_SYSTEMS, Plan

SCHEMA = 2


def what_changed(plan: Plan, system: str) -> str | None:
    """Why a system is not up to date with all that tables show of it, as `workflows.why` says it first; None where
    something of it is not there."""
    kinds, seeds = ("train", *SHOWN_OF_SYSTEMS), plan.experiment.seeds_of(system)
    found = [plan.reasons.get(f"{kind} {system}, seed {seed}") for seed in seeds for kind in kinds]
    return next((str(reason) for reason in found if reason is not None and not reason.missing), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.made", description="Write down which systems are made and up to date."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--systems", nargs="*", default=[], help="those that are, with their seeds: f6=0,1")
    studies = "what figures show beside WERs, as far as it is: 'sensitivity of w12=0'"
    parser.add_argument("--studies", nargs="*", default=[], help=studies)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write, in the experiment's folder")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    made = ordered(experiment, of_words(arguments.systems), of_words(arguments.studies))
    others: dict[str, str | None] = {}
    if made.systems != the_whole(experiment).systems:
        plan = Plan(experiment, arguments.out.parent)
        made = plan.shown(made)
        others = {name: what_changed(plan, name) for name in experiment.systems if name not in made.systems}
    found = {"systems": made.systems, "studies": made.studies, "not_made": others}
    write_json(arguments.out, {"schema": SCHEMA, **found})


if __name__ == "__main__":
    sys.exit(run(main))
