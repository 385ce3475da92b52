"""The verdict on every claim of the papers, from what an experiment measured.

    python -m analysis.claims --experiment-folder results/smoke

Prints the verdicts. `analysis.render` writes them beside the tables. Claims are data: `analysis/claims.yaml`, or the
file that `--claims` names.
"""

import argparse
import sys
from pathlib import Path

from common.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.claims", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    parser.add_argument("--claims", type=Path, help="another claims file")
    arguments = parser.parse_args()

    from analysis.inputs.results import Results  # numba and pydantic: not needed to answer --help
    from analysis.verdicts.judge import PLUMBING, judge_claims, shown_effect
    from analysis.verdicts.outcomes import INCONCLUSIVE

    verdicts = judge_claims(Results(arguments.experiment_folder), arguments.claims)
    for claim, outcome in verdicts.judged:
        pointing = f", pointing {outcome.points}" if outcome.verdict == INCONCLUSIVE else ""
        print(f"{outcome.shown}{pointing}: {claim.statement}")
        for line in (shown_effect(outcome), outcome.reason, f"published: {claim.published}"):
            print(f"    {line}" if line else "", end="\n" if line else "")
    print(verdicts.tally + ("" if verdicts.evidence else f"\n{PLUMBING}"))


if __name__ == "__main__":
    sys.exit(run(main))
