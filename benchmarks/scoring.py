"""How fast we score, beside NIST's own programs: WER of 20 systems and MAPSSWE of all 190 pairs on 5000 utterances.

Both sides start from the same `.trn` files and are whole processes: reading, aligning, testing. Before a ratio is
printed, the error totals and all verdicts of the two sides are compared.

    python -m benchmarks.scoring [--systems 20] [--utterances 5000]
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from benchmarks.comparison import Bench, Row, compared, parser
from common.errors import UserError, run
from tests.analysis import nist

WORDS_IN_UTTERANCE = (5, 25)
SPEAKERS = 100
VOCABULARY = 2000
REPEATS = 3


def make(folder: Path, systems: int, utterances: int) -> tuple[Path, list[Path]]:
    """Write a reference and systems with error rates from 5 to 15 %."""
    rng = random.Random(0)
    words = [f"w{n}" for n in range(VOCABULARY)]
    reference = {
        f"s{n % SPEAKERS:03d}-{n:05d}": rng.choices(words, k=rng.randint(*WORDS_IN_UTTERANCE))
        for n in range(utterances)
    }
    heard = [_recognise(rng, reference, words, 0.05 + 0.1 * n / systems) for n in range(systems)]
    return nist.write_group(folder, reference, heard)


def _recognise(rng: random.Random, reference: nist.Words, words: list[str], rate: float) -> nist.Words:
    def hear(word: str) -> list[str]:
        if rng.random() > rate:
            return [word]
        return rng.choice([[], [rng.choice(words)], [rng.choice(words)], [word, rng.choice(words)]])

    return {utterance: [heard for word in said for heard in hear(word)] for utterance, said in reference.items()}


def score(reference: Path, hypotheses: list[Path]) -> dict:
    """Our side, run in a process of its own: errors of each system, segments and decision of each pair."""
    from analysis.scoring.alignment import align
    from analysis.scoring.trn import read_trn
    from analysis.significance.mapsswe import mapsswe

    words = read_trn(reference)
    ours = {path.name: align(words, read_trn(path)) for path in hypotheses}
    tests = {f"{a} {b}": mapsswe([(ours[a], ours[b])]) for a, b in combinations(ours, 2)}
    return {
        "errors": {name: alignment.counts.errors for name, alignment in ours.items()},
        "pairs": {names: [test.segments, test.significant] for names, test in tests.items()},
    }


def score_in_a_process(reference: Path, hypotheses: list[Path]) -> dict:
    """Our side as a whole process: starting Python, reading, aligning, testing."""
    command = [sys.executable, "-m", "benchmarks.scoring", "--score", str(reference), *map(str, hypotheses)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def ask_nist(reference: Path, hypotheses: list[Path]) -> tuple[list[str], dict]:
    """NIST's side: sclite for each system, sc_stats once for all pairs."""
    sgml = [nist.sclite(reference, path) for path in hypotheses]
    return sgml, nist.sc_stats("".join(sgml), reference.parent)


def found_by_nist(hypotheses: list[Path], sgml: list[str], verdicts: dict) -> dict:
    """NIST's answer in the form of `score`."""
    errors = {
        path.name: sum(len(operations) - operations.count("C") for operations in nist.paths_of(text).values())
        for path, text in zip(hypotheses, sgml, strict=True)
    }
    return {"errors": errors, "pairs": {names: [v["segments"], v["significant"]] for names, v in verdicts.items()}}


def timed(function: Callable, *arguments: object) -> tuple[float, float, object]:
    """Wall seconds, CPU seconds of the processes started, and the result. CPU time bears a busy machine better."""
    start, before = time.perf_counter(), os.times()
    result = function(*arguments)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu, result


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("scoring", __doc__)
    options.add_argument("--systems", type=int, default=20)
    options.add_argument("--utterances", type=int, default=5000)
    options.add_argument("--score", type=Path, nargs="+", metavar="TRN", help="only score: reference, then systems")
    arguments = options.parse_args(argv)
    if arguments.score:
        print(json.dumps(score(arguments.score[0], arguments.score[1:])))
        return []
    if not (nist.program("sclite") and nist.program("sc_stats")):
        raise UserError("sclite and sc_stats are not installed (Debian: apt-get install sctk)")
    systems, utterances = (3, 60) if arguments.quick else (arguments.systems, arguments.utterances)
    report = Bench(arguments).report
    with tempfile.TemporaryDirectory() as folder:
        reference, hypotheses = make(Path(folder), systems, utterances)
        score_in_a_process(reference, hypotheses[:2])  # compiles, once for all runs to come
        turns = [
            (timed(score_in_a_process, reference, hypotheses), timed(ask_nist, reference, hypotheses))
            for _ in range(1 if arguments.quick else REPEATS)
        ]
        if any(ours[2] != found_by_nist(hypotheses, *theirs[2]) for ours, theirs in turns):
            raise AssertionError("the two sides do not agree")
    pairs = len(turns[0][0][2]["pairs"])
    for position, clock in enumerate(("wall time", "CPU time")):
        times = [(ours[position], theirs[position]) for ours, theirs in turns]
        work = f"{systems} systems, {utterances} utterances, {pairs} pairs, {clock}"
        report.add(compared("WER and all-pairs MAPSSWE", "sclite and sc_stats", times, work))
    return report.rows


if __name__ == "__main__":
    sys.exit(run(main))
