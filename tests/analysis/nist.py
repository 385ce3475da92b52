"""Random recognisers, and what NIST's own programs say about them.

The programs come with Debian's package `sctk`. What they say about the generated cases is also kept in
`nist_vectors.json`, for machines that do not have them; after a change of the cases record it again with

    python -m tests.analysis.nist
"""

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from analysis.scoring.trn import write_trn

VECTORS = Path(__file__).parent / "nist_vectors.json"
GROUPS, SYSTEMS = 10, 8  # all pairs of 8 systems in 10 groups: 280 pairs
PAIR = re.compile(
    r"MTCH_PR_RESULTS \(systems: (\S+) (\S+)\) \(# segs: (\d+)\).*?"
    r"\(mean: *(\S+)\) \(std dev: *(\S+)\) \(Z Stat: *(\S+)\) \(Stat Diff: (\w+)\)"
)

Words = dict[str, list[str]]


def program(name: str) -> str | None:
    """The path of one of NIST's programs, or None where it is not installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/lib/sctk/bin")


def group(seed: int) -> tuple[Words, list[Words]]:
    """A reference and `SYSTEMS` hypotheses: repeated words, empty hypotheses, errors at both ends, mixed case."""
    rng = random.Random(seed)
    vocabulary = [f"w{n}" for n in range(rng.choice([2, 4, 12, 60]))]
    utterances = [f"s{n % 5}-{n:03d}" for n in range(rng.choice([1, 6, 40, 90]))]
    reference = {u: rng.choices(vocabulary, k=rng.choice([0, 1, 2, 5, 9, 14])) for u in utterances}
    reference[utterances[0]] = rng.choices(vocabulary, k=6)  # sclite wants a word somewhere
    systems = []
    for _ in range(SYSTEMS):
        rate = rng.choice([0.02, 0.1, 0.3, 0.7])
        heard = {u: _recognise(rng, words, vocabulary, rate) for u, words in reference.items()}
        if [w.lower() for words in heard.values() for w in words] == [w for words in reference.values() for w in words]:
            heard[utterances[0]] = []  # sc_stats crashes on two faultless systems
        systems.append(heard)
    return reference, systems


def _recognise(rng: random.Random, words: list[str], vocabulary: list[str], rate: float) -> list[str]:
    if rng.random() < 0.04:
        return []
    heard = rng.choices(vocabulary, k=rng.choice([1, 2])) if rng.random() < rate / 2 else []
    for word in words:
        draw = rng.random()
        if draw < rate / 3:
            continue
        heard.append(rng.choice(vocabulary) if draw < 2 * rate / 3 else word)
        if draw > 1 - rate / 3:
            heard.append(rng.choice([word, *vocabulary]))  # stuttering makes ties
    if rng.random() < rate / 2:
        heard += rng.choices(vocabulary, k=rng.choice([1, 3]))
    return [word.upper() if rng.random() < 0.2 else word for word in heard]


def write_group(folder: Path, reference: Words, systems: list[Words]) -> tuple[Path, list[Path]]:
    """Write a group as `.trn` files: the reference, and `sys0`, `sys1`, ..."""
    paths = [folder / name for name in ("ref", *(f"sys{n}" for n in range(len(systems))))]
    for path, side in zip(paths, [reference, *systems], strict=True):
        write_trn(path, [(utterance, " ".join(words)) for utterance, words in side.items()])
    return paths[0], paths[1:]


def sclite(reference: Path, hypothesis: Path, report: str = "sgml") -> str:
    """sclite's report on one hypothesis file of the same folder: its alignment in SGML, or another."""
    command = [program("sclite"), "-r", reference.name, "trn", "-h", hypothesis.name, "trn", "-i", "rm"]
    command += ["-o", report, "stdout"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=True, cwd=reference.parent, timeout=60
    )
    return done.stdout


def paths_of(sgml: str) -> dict[str, str]:
    """The alignment of each utterance as a string of C, S, D and I."""
    blocks = re.findall(r'<PATH id="\((\S+)\)"[^>]*>\n(.*?)</PATH>', sgml, re.DOTALL)
    return {utterance: "".join(re.findall(r"(?:^|:)([CSDI]),", path)) for utterance, path in blocks}


def sclite_totals(reference: Path, hypothesis: Path) -> dict[str, int]:
    """The counts of sclite's own summary, under the names of ours."""
    line = re.search(r"^ *\| *Sum .*$", sclite(reference, hypothesis, "rsum"), re.MULTILINE)[0]
    _, ref_words, _, sub, dele, ins, _, _ = map(int, re.findall(r"\d+", line))
    return {"sub": sub, "del": dele, "ins": ins, "ref_words": ref_words}


def sc_stats(sgml: str, folder: Path) -> dict[str, dict] | None:
    """The verdict on each pair of systems, by their file names; None where sc_stats crashes (it does on 0 segments)."""
    command = [program("sc_stats"), "-p", "-t", "mapsswe", "-v", "-n", "all"]
    done = subprocess.run(command, input=sgml, capture_output=True, text=True, cwd=folder, timeout=60, check=False)
    if done.returncode:
        return None
    found = PAIR.findall((folder / "all.stats.mapsswe").read_text())
    return {
        f"{a} {b}": {
            "segments": int(n),
            "mean": float(mean),
            "sd": float(sd),
            "z": float(z),
            "significant": yes == "Yes",
        }
        for a, b, n, mean, sd, z, yes in found
    }


def ask(reference: Words, systems: list[Words]) -> dict:
    """What sclite and sc_stats say about one group: the alignments of each system, the verdict on each pair."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference_path, paths = write_group(folder, reference, systems)
        sgml = [sclite(reference_path, path) for path in paths]
        return {
            "alignments": [paths_of(text) for text in sgml],
            "totals": [sclite_totals(reference_path, path) for path in paths],
            "pairs": sc_stats("".join(sgml), folder),
        }


def main() -> None:
    answers = [ask(*group(seed)) for seed in range(GROUPS)]
    VECTORS.write_text(json.dumps(answers, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{VECTORS}: {sum(len(answer['pairs']) for answer in answers)} pairs", file=sys.stderr)


if __name__ == "__main__":
    main()
