"""Is a foldable system better when it is run deeper? Each one's deepest offered depth against its seed depth.

python -m analysis.headline --experiment-folder results/smoke
"""

import argparse
import sys
from pathlib import Path

from common.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.headline", description=__doc__.split("\n\n")[0])
    parser.add_argument("--experiment-folder", type=Path, required=True, help="for example results/smoke")
    arguments = parser.parse_args()

    from analysis.inputs.results import Results  # numba and pydantic: not needed to answer --help
    from analysis.tables.headline import headlines

    for headline in headlines(Results(arguments.experiment_folder)):
        print(headline.sentence)


if __name__ == "__main__":
    sys.exit(run(main))
