"""Word error rate of one hypothesis file against its reference, counted exactly as NIST's sclite counts.

Its 95 % interval is the bootstrap's over speakers, who stand in a file beside the reference or in `--speakers`. Without
either it is over utterances, which is too narrow where the speakers have several each.

    python -m analysis.wer REF.trn HYP.trn [--json] [--speakers FILE] [--normaliser NAME] [--glm FILE]
    python -m analysis.wer REF.trn HYP.trn --score characters
"""

import argparse
import json
import sys
from pathlib import Path

from analysis.scoring.counts import Counts
from analysis.scoring.normalise import Normaliser, add_arguments, load_normaliser
from common.errors import UserError, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.wer", description=__doc__.split("\n\n")[0])
    parser.add_argument("reference", help="reference words, NIST .trn")
    parser.add_argument("hypothesis", help="recognised words of the same utterances, NIST .trn")
    parser.add_argument("--json", action="store_true", help="keys sub, del, ins, ref_words and wer or cer (in percent)")
    parser.add_argument(
        "--speakers",
        type=Path,
        metavar="FILE",
        help="JSON that maps each utterance id to its speaker; default: REF.speakers.json, where it is there",
    )
    add_arguments(parser)
    arguments = parser.parse_args()

    from analysis.scoring.score import Scorer  # numba: not needed to answer --help
    from analysis.scoring.speakers import name_speakers, speakers_file
    from analysis.scoring.trn import read_trn

    scorer = Scorer(load_normaliser(arguments.normaliser, arguments.glm, "--normaliser", arguments.score))
    reference, beside = read_trn(arguments.reference), speakers_file(Path(arguments.reference))
    if arguments.speakers or beside.exists():
        reference = name_speakers(reference, arguments.speakers or beside)
    alignment = scorer.align(reference, read_trn(arguments.hypothesis))
    counts = alignment.counts
    if counts.wer is None:
        raise UserError(f"{arguments.reference}: holds no word, so there is no error rate")
    if arguments.json:
        print(json.dumps({**counts.to_json(), scorer.normaliser.rate.lower(): counts.wer}))
    else:
        print(show(counts, scorer.normaliser), show_interval(alignment), sep="\n")


def show(counts: Counts, normaliser: Normaliser) -> str:
    """The counts and their rate as a sentence."""
    return (
        f"{normaliser.rate} {counts.wer:.2f} %  ({counts.errors} errors in {counts.ref_words} {normaliser.score}: "
        f"{counts.sub} substitutions, {counts.dele} deletions, {counts.ins} insertions)"
    )


def show_interval(alignment) -> str:
    """The interval of the rate, and what was resampled for it."""
    from analysis.significance.intervals import LEVEL, wer_interval

    interval = wer_interval([alignment])
    named = alignment.reference.speakers is not None
    units = (
        f"{interval.units} speakers" if named else f"{interval.units} utterances (no speakers known: see --speakers)"
    )
    return f"{100 * LEVEL:g} % interval {interval.low:.2f} to {interval.high:.2f}, bootstrap over {units}"


if __name__ == "__main__":
    sys.exit(run(main))
