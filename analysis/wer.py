"""Word error rate of one hypothesis file against its reference, counted exactly as NIST's sclite counts.

python -m analysis.wer REF.trn HYP.trn [--json] [--normaliser NAME] [--glm FILE]
"""

import argparse
import json
import sys

from analysis.counts import Counts
from analysis.normalise import add_arguments, load_normaliser
from common.errors import UserError, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.wer", description=__doc__.split("\n\n")[0])
    parser.add_argument("reference", help="reference words, NIST .trn")
    parser.add_argument("hypothesis", help="recognised words of the same utterances, NIST .trn")
    parser.add_argument("--json", action="store_true", help="keys sub, del, ins, ref_words and wer (in percent)")
    add_arguments(parser)
    arguments = parser.parse_args()

    from analysis.scoring import Scorer  # numba: not needed to answer --help
    from analysis.trn import read_trn

    scorer = Scorer(load_normaliser(arguments.normaliser, arguments.glm, "--normaliser"))
    counts = scorer.align(read_trn(arguments.reference), read_trn(arguments.hypothesis)).counts
    if counts.wer is None:
        raise UserError(f"{arguments.reference}: holds no word, so there is no word error rate")
    print(json.dumps({**counts.to_json(), "wer": counts.wer}) if arguments.json else show(counts))


def show(counts: Counts) -> str:
    """The counts and their rate as a sentence."""
    return (
        f"WER {counts.wer:.2f} %  ({counts.errors} errors in {counts.ref_words} words: "
        f"{counts.sub} substitutions, {counts.dele} deletions, {counts.ins} insertions)"
    )


if __name__ == "__main__":
    sys.exit(run(main))
