"""Print the results folder of an experiment, as the Snakefile names it; for the Makefile.

python -m workflows.folder --experiment smoke
"""

import argparse
import sys

from common.errors import run
from workflows.runnable import load_runnable


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.folder", description="Print the results folder of an experiment."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    print(f"results/{load_runnable(parser.parse_args().experiment).name}")


if __name__ == "__main__":
    sys.exit(run(main))
