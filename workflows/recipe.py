"""Trials of a training recipe on speech that differs, from `config/recipe/trials.yaml`; docs/recipe.md says what for.

    python -m workflows.recipe --recipe char --conditions tune --until quarter
    python -m workflows.recipe --recipe char --conditions judge --seeds 0 1 2
    python -m workflows.recipe --page                                  the tables of docs/recipe.md from the log

Each trial is a training and a decoding by the commands that every experiment runs. What is there already is not run
again, and a training that was stopped at a quarter goes on from there. The rows go to `--log`.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run, unknown

LIST = Path("config/recipe/trials.yaml")
LOG = Path("results/reference/recipe/trials.csv")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.recipe", description="Try a training recipe.")
    parser.add_argument("--recipe", help="one of the list's recipes")
    parser.add_argument("--conditions", choices=("tune", "judge"))
    parser.add_argument("--only", nargs="*", default=[], help="of these conditions alone")
    parser.add_argument("--systems", nargs="*", default=[], help="of these systems alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--until", choices=("quarter", "end"), default="end", help="where trainings stop")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--list", type=Path, default=LIST, help="the list of trials (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/recipe"), help="default: %(default)s")
    parser.add_argument("--log", type=Path, default=LOG, help="default: %(default)s")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/recipe.md, and try nothing")
    arguments = parser.parse_args()
    if arguments.page:
        from workflows.steps.recipe_page import write_page

        write_page(arguments.log)
        return
    if arguments.recipe is None or arguments.conditions is None:
        parser.error("--recipe and --conditions say what to try")

    from workflows.steps.recipe_trials import Trials, run_trials

    trials = Trials(arguments.list, arguments.out)
    if arguments.recipe not in trials.recipes:
        raise unknown("recipe", arguments.recipe, trials.recipes, str(arguments.list))
    conditions = trials.conditions[arguments.conditions]
    for name in arguments.only:
        if name not in conditions:
            raise unknown("condition", name, conditions, str(arguments.list))
    chosen = arguments.only or list(conditions)
    wanted = [trials.condition(arguments.recipe, arguments.conditions, name, arguments.systems) for name in chosen]
    run_trials(wanted, arguments.seeds, arguments.until == "quarter", arguments.jobs, arguments.log)


if __name__ == "__main__":
    sys.exit(run(main))
