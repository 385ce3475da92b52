"""Matched Pair Sentence Segment Word Error test between two systems, exactly as NIST's sc_stats computes it.

python -m analysis.mapsswe REF.trn A.trn B.trn [--json] [--normaliser NAME] [--glm FILE]
"""

import argparse
import json
import sys

from analysis.scoring.normalise import add_arguments, load_normaliser
from common.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.mapsswe", description=__doc__.split("\n\n")[0])
    parser.add_argument("reference", help="reference words, NIST .trn")
    parser.add_argument("a", help="words recognised by system A")
    parser.add_argument("b", help="words recognised by system B")
    parser.add_argument("--json", action="store_true", help="keys segments, mean, sd, z, p, significant")
    add_arguments(parser)
    arguments = parser.parse_args()

    from analysis.scoring.score import Scorer  # numba: not needed to answer --help
    from analysis.scoring.trn import read_trn
    from analysis.significance.mapsswe import mapsswe, warnings

    scorer = Scorer(load_normaliser(arguments.normaliser, arguments.glm, "--normaliser", arguments.score))
    reference = read_trn(arguments.reference)
    result = mapsswe([tuple(scorer.align(reference, read_trn(path)) for path in (arguments.a, arguments.b))])
    if arguments.json:
        print(json.dumps(result.to_json()))
    else:
        verdict = "significant" if result.significant else "not significant"
        print(
            f"{result.segments} segments, mean difference {result.mean:+.3f} errors (sd {result.sd:.3f}), "
            f"Z {result.z:.3f}, p {result.p:.4g}: {verdict} at the 5 % level"
        )
    for warning in warnings(result):
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
