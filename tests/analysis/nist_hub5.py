"""Random GLM files, transcripts and recognisers for Hub-5 scoring, and what NIST's own programs make of them.

All of it is generated; nothing comes from a corpus. What the programs of Debian's package `sctk` say is also kept in
`nist_hub5_vectors.json`; after a change of the cases record it again with

    python -m tests.analysis.nist_hub5
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.analysis.nist import program

VECTORS = Path(__file__).parent / "nist_hub5_vectors.json"
PROGRAMS = ("rfilter1", "csrfilt.sh", "hubscr.pl", "sclite")
RULE_FILES, NETWORKS, FILTERED, CONVERSATIONS = 150, 400, 300, 5
GLM = """;; Rules made up for a test: order, contexts, splits, alternatives, and rules for one kind of input only.
* name = "test.glm"
* max_nrules = '50'
* case_sensitive = 'F'
UH-HUH  => %BCACK          / [ ] __ [ ] ;; a back-channel
UH      => %HESITATION     / [ ] __ [ ]
UM      => %HESITATION     / [ ] __ [ ]
GONNA   => GOING TO        / [ ] __ [ ]
AND THE => [N THE]         / [ ] __ [ ]
OKAY    => O. K.           / [ ] __ [ ]
WORLD   => GLOBE           / [THE ] __
;; INPUT_DEPENDENT_APPLICATION = "ctm"
HE'S    => [{HE IS / HE HAS}]           / [ ] __ [ ]
CAT'S   => [{CAT'S / CAT IS / CAT HAS}] / [ ] __ [ ]
;; INPUT_DEPENDENT_APPLICATION = "stm|trn"
HELLO   => [{ HELLO / HALLO YOU / @ }]  / [ ] __ [ ]
"""
WORDS = ["uh", "um", "gonna", "and", "the", "okay", "hello", "world", "word", "no", "Yes", "go"]
WORDS += ["uh-huh", "he's", "cat's", "x-y", "wor-", "a-b-c"]


def installed() -> bool:
    """Whether all of NIST's programs are there."""
    return all(map(program, PROGRAMS))


def run(name: str, *arguments: object, text: str = "", folder: Path | None = None) -> str:
    """What one of NIST's programs writes; its helpers are found beside it."""
    path = program(name)
    environment = {**os.environ, "PATH": f"{Path(path).parent}:/usr/lib/sctk/bin:{os.environ['PATH']}"}
    command = [*(["perl"] if name.endswith(".pl") else []), path, *map(str, arguments)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, cwd=folder, env=environment, timeout=60)
    return done.stdout.decode("utf-8", errors="replace")


def rule_file(seed: int) -> tuple[str, str]:
    """A GLM of overlapping rules over few letters, with contexts and brackets of any kind, and ten lines to rewrite."""
    rng = random.Random(seed)
    letters = "aabbc  "

    def part(least: int, most: int) -> str:
        text = "".join(rng.choice(letters) for _ in range(rng.randint(least, most)))
        draw = rng.random()
        return f"[{text}]" if draw < 0.6 else f'"{text}"' if draw < 0.7 else text.strip() or "a"

    lines = [";; made up", f"* case_sensitive = '{rng.choice('TF')}'"]
    for _ in range(rng.randint(1, 8)):
        target = "[{a / b c}]" if rng.random() < 0.3 else part(0, 4)
        contexts = ["", f" / {part(0, 2)} __ {part(0, 2)}", f" / __ {part(1, 2)}", f" / {part(1, 2)} _"]
        note = rng.choice(["", " ;; note / [a] __"])
        lines.append(part(1, 4) + rng.choice([" => ", "  =>  "]) + target + rng.choice(contexts) + note)
    texts = ["".join(rng.choice(letters + "ABC-") for _ in range(rng.randint(4, 30))) for _ in range(10)]
    return "\n".join(lines) + "\n", "".join(f"   {text}\n" for text in texts)  # no context reaches before a line


def filtered_lines() -> list[str]:
    """Lines with hyphens, hesitations, fragments, optional words and groups of them, mixed case."""
    rng = random.Random(7)
    lines = []
    for _ in range(FILTERED):
        words = []
        for _ in range(rng.randint(0, 9)):
            group = [rng.choice([*WORDS, "-ord", "The"]) for _ in range(rng.randint(1, 3))]
            space = rng.choice(["", " "])
            words.append(f"({space}{' '.join(group)}{space})" if rng.random() < 0.15 else group[0])
        lines.append(rng.choice([" ", "  "]).join(words))
    return lines


def networks() -> list[tuple[str, str]]:
    """References and hypotheses with alternatives inside alternatives, nulls, optional words, fragments."""
    rng = random.Random(3)
    pairs = [("a b", "a")]
    while len(pairs) < NETWORKS:
        pair = _line(rng, rng.randint(0, 5), 2), _line(rng, rng.randint(0, 5), rng.choice([0, 0, 1]))
        if max(map(len, pair)) < 90:  # sclite's buffer for one alternation
            pairs.append(pair)
    return pairs


def _line(rng: random.Random, words: int, depth: int) -> str:
    return " ".join(_choice(rng, depth) if depth and rng.random() < 0.25 else _word(rng) for _ in range(words))


def _choice(rng: random.Random, depth: int) -> str:
    inner = depth - 1 if rng.random() < 0.3 else 0
    offers = ["@" if rng.random() < 0.2 else _line(rng, rng.randint(1, 3), inner) for _ in range(rng.randint(1, 3))]
    return "{ " + " / ".join(offers) + " }"


def _word(rng: random.Random) -> str:
    word, draw = rng.choice(["a", "b", "c", "ab", "abc", "bc"]), rng.random()
    word = f"{word}-" if draw < 0.08 else f"-{word}" if draw < 0.12 else word
    return f"({word})" if rng.random() < 0.12 else word


def conversations(seed: int) -> tuple[str, str]:
    """STM and CTM of two recordings with two channels: words at borders, ignored segments, lines in no order."""
    rng = random.Random(seed)
    stm, ctm = [], []
    for recording in ("sw_1", "en_2"):
        for channel in "AB":
            time, own = 0.0, []
            for _ in range(rng.randint(3, 15)):
                words = rng.choices(WORDS, k=rng.randint(0, 8))
                end = time + len(words) * 0.5 + 1
                said = [f"({word})" if word != "hello" and rng.random() < 0.15 else word for word in words]
                if rng.random() < 0.06:
                    said = ["IGNORE_TIME_SEGMENT_IN_SCORING", "x"]
                speaker = f"spk{rng.randint(1, 2)}_{recording}{channel}"
                stm.append(f"{recording} {channel} {speaker} {time:.2f} {end:.2f} <o,f0> {' '.join(said)}")
                own += _heard(rng, time, words)
                time = end + rng.choice([0, 0.5])
            ctm += [f"{recording} {channel} {line}" for line in own or ["0.00 0.50 no"]]
    rng.shuffle(ctm)
    return "\n".join(stm) + "\n", "\n".join(ctm) + "\n"


def _heard(rng: random.Random, time: float, words: list[str]) -> list[str]:
    lines = []
    for word in words:
        draw = rng.random()
        if draw < 0.15:
            continue
        heard = [rng.choice(WORDS) if draw < 0.4 else word] + ([rng.choice(WORDS)] if draw > 0.9 else [])
        for spoken in heard:
            duration = rng.choice([0.25, 0.4, 0.7])
            lines.append(f"{time:.2f} {duration:.2f} {spoken.upper() if rng.random() < 0.2 else spoken}")
            time += duration
    return lines


def ask() -> dict:
    """What NIST's programs say about all cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test.glm").write_text(GLM)
        return {
            "rfilter1": [_rewritten(folder, *rule_file(seed)) for seed in range(RULE_FILES)],
            "csrfilt": _csrfilt(folder),
            "sclite": _sclite(folder),
            "hubscr": [_hubscr(folder, *conversations(seed)) for seed in range(CONVERSATIONS)],
        }


def _rewritten(folder: Path, rules: str, text: str) -> str:
    (folder / "rules.glm").write_text(rules)
    return run("rfilter1", folder / "rules.glm", text=text)


def _csrfilt(folder: Path) -> dict:
    lines = filtered_lines()
    trn = "".join(f"{line} (s-{number})\n" for number, line in enumerate(lines))
    ctm = "".join(f"f A {number}.000 1.000 {word}\n" for number, word in enumerate(WORDS))
    written = run("csrfilt.sh", "-dh", "-i", "trn", folder / "test.glm", text=trn).splitlines()
    words = run("csrfilt.sh", "-dh", "-i", "ctm", folder / "test.glm", text=ctm).splitlines()
    return {
        "trn": [line[: line.rindex("(s-")].strip() for line in written],
        "ctm": [line.split()[4] for line in words],
    }


def _sclite(folder: Path) -> list[list[int]]:
    for side, path in enumerate(("ref.trn", "hyp.trn")):
        (folder / path).write_text("".join(f"{pair[side]} (s-{n})\n" for n, pair in enumerate(networks())))
    sides = ["-r", "ref.trn", "trn", "-h", "hyp.trn", "trn"]
    report = run("sclite", *sides, "-i", "rm", "-F", "-D", "-o", "pralign", "stdout", folder=folder)
    found = re.findall(r"id: \(s-(\d+)\)\nScores: \(#C #S #D #I\) (.*)", report)
    counts = {int(number): [*map(int, figures.split())] for number, figures in found}
    return [counts[number] for number in range(NETWORKS)]


def _hubscr(folder: Path, stm: str, ctm: str) -> dict[str, list[int]]:
    """For each speaker: segments, reference words, correct words, substitutions, deletions, insertions."""
    (folder / "r.stm").write_text(stm)
    (folder / "h.ctm").write_text(ctm)
    run("hubscr.pl", "-g", "test.glm", "-l", "english", "-h", "hub5", "-r", "r.stm", "h.ctm", folder=folder)
    rows = re.findall(r"^ *\| *(\S+) *\|([\d |]+)\|", (folder / "h.ctm.filt.raw").read_text(), re.MULTILINE)
    figures = {name: [*map(int, re.findall(r"\d+", row))][:6] for name, row in rows}
    return {name.lower(): row for name, row in figures.items() if name.startswith("spk")}


def main() -> None:
    VECTORS.write_text(json.dumps(ask(), separators=(",", ":"), sort_keys=True) + "\n")
    print(VECTORS, file=sys.stderr)


if __name__ == "__main__":
    main()
