"""Joint CTC/attention beam search over a test set: ours, all utterances together, and ESPnet's, one at a time.

    python -m benchmarks.beam                  the paper's decoder and beam of 20, one thread
    python -m benchmarks.beam --device cuda    more and longer utterances
    python -m benchmarks.beam --points 4       each utterance four times, as four points of a system

Encoder outputs are noise and weights are random, but far from flat, as both scorers' outputs are in use; hypotheses
may be 0.15 tokens a frame long, what speech has at 25 frames a second and 2002 pieces. Both sides search until then.
Transcripts are compared: equal ones are counted, then those whose scores differ by less than 1e-4.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.comparison import Bench, Row, compared, parser
from common.errors import run

FRAMES = {"cpu": (50, 75, 100, 125), "cuda": tuple(range(50, 370, 20))}
"""Of the test set's utterances, 25 a second."""
VOCABULARY = 2002
TOKENS_PER_FRAME = 0.15
PEAKS = 3
"""The weights of the output layers are so many times as large as they are drawn."""
CLOSE = 1e-4
REACH = {"cpu": 2.0, "cuda": 10.0}


class Pieces:
    """As much of a tokenizer as a search reads."""

    blank, sos_eos = 0, VOCABULARY - 1

    def __len__(self) -> int:
        return VOCABULARY


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("beam", __doc__)
    options.add_argument("--beam", type=int, default=20)
    options.add_argument("--ctc-weight", type=float, default=0.3)
    options.add_argument("--points", type=int, default=1, help="each utterance so often")
    options.add_argument("--hypotheses", type=int, default=320, help="searched together")
    options.add_argument("--repeats", type=int, default=5)
    arguments = options.parse_args(argv)
    bench = Bench(arguments)
    logging.getLogger("espnet.nets.beam_search").setLevel(logging.ERROR)  # it warns of hypotheses at their limit
    frames = (20, 9) if bench.quick else FRAMES[bench.device.type] * arguments.points
    return measure(bench, frames, arguments)


def measure(bench: Bench, frames: Sequence[int], arguments: Any) -> list[Row]:
    """One row, and how many transcripts are equal."""
    import torch

    from asr.backbones import BackboneFactory
    from asr.search import BeamSearch
    from asr.settings import DecodeSettings
    from benchmarks.espnet_search import EspnetSearch

    model = BackboneFactory("conformer", {"layers": 1}, VOCABULARY).build().eval().requires_grad_(False)
    model.ctc.ctc_lo.weight.mul_(PEAKS)
    model.decoder.output_layer.weight.mul_(PEAKS)
    model.to(bench.device)
    generator = torch.Generator().manual_seed(0)
    utterances = [torch.randn(length, model.config.width, generator=generator).to(bench.device) for length in frames]
    settings = DecodeSettings(
        kind="beam",
        beam=arguments.beam,
        ctc_weight=arguments.ctc_weight,
        max_length_ratio=TOKENS_PER_FRAME,
        batch_hypotheses=arguments.hypotheses,
    )
    ours = BeamSearch(model.scorers(), Pieces(), settings)
    theirs = EspnetSearch(model.scorers(), Pieces(), settings)
    found: dict[str, Any] = {}

    def together() -> None:
        found["ours"] = ours(utterances)

    def one_by_one() -> None:
        found["theirs"] = [theirs(each)[0] for each in utterances]

    pairs = bench.in_turn(together, one_by_one, arguments.repeats)
    facts = agreement([(each.tokens, each.score) for each in found["ours"]], found["theirs"])
    bench.report.say(**facts)
    work = (
        f"{len(frames)} utterances of {min(frames)} to {max(frames)} frames, beam {arguments.beam}, CTC "
        f"{arguments.ctc_weight:g}, {bench.where}; {facts['equal_transcripts']} transcripts equal, {facts['close']} "
        f"others within {CLOSE:g}, {facts['different']} different"
    )
    row = compared("beam search", "ESPnet's, one utterance at a time", pairs, work, REACH[bench.device.type])
    bench.report.add(row)
    return bench.report.rows


def agreement(ours: Sequence[tuple[list[int], float]], theirs: Sequence[tuple[list[int], float]]) -> dict[str, Any]:
    """Of tokens and scores of each utterance: how many transcripts are equal, how many others have scores within
    `CLOSE`, how many have not, and the largest difference of scores."""
    pairs = list(zip(ours, theirs, strict=True))
    differences = [abs(own[1] - other[1]) for own, other in pairs]
    equal = [own[0] == other[0] for own, other in pairs]
    close = sum(not same and difference < CLOSE for same, difference in zip(equal, differences, strict=True))
    return {
        "equal_transcripts": sum(equal),
        "close": close,
        "different": len(pairs) - sum(equal) - close,
        "largest_score_difference": max(differences),
    }


if __name__ == "__main__":
    sys.exit(run(main))
