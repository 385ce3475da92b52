"""Prints the unfold paths of a depth: `python -m methods.paths 6 8`."""

import argparse
import sys

from asr.paths import format_path
from common.errors import run
from methods.paths import enumerate_paths


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m methods.paths", description="Print the unfold paths of a depth.")
    parser.add_argument("physical", type=int, help="physical layers")
    parser.add_argument("depth", type=int, help="logical depth")
    parser.add_argument("--last", type=int, help="apply the rule among the last so many layers only")
    arguments = parser.parse_args()
    for path in enumerate_paths(arguments.physical, arguments.depth, arguments.last):
        print(format_path(path))


if __name__ == "__main__":
    sys.exit(run(main))
