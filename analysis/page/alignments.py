"""Which words two systems heard differently: the alignments behind the report's viewer.

Every point that stands in a table can be set beside every other. Where there are few utterances all of them are taken
along, else those on which some pair differs most; the sound of the most telling ones is embedded.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from analysis.inputs.results import Results
from analysis.inputs.schemas import Point
from analysis.page.audio import embed, read_cuts, source
from analysis.scoring.alignment import CORRECT, DELETION, Alignment, align
from analysis.scoring.characters import in_characters
from analysis.scoring.trn import Transcript
from analysis.tables.formats import Column, Table
from analysis.tables.rows import measure

SHOWN = 10  # utterances shown for a pair
TRANSCRIPTS = 20_000  # utterances times points that are taken along
SOUNDS, SOUND_BYTES = 40, 2_500_000  # embedded at most
LETTERS = np.array(["C", "S", "D", "I"])
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Heard:
    """One point with its alignments on every test set."""

    point: Point
    decode: str
    alignments: Sequence[Alignment]
    several_seeds: bool

    @property
    def label(self) -> str:
        """For example `f6 at depth 12 (2 2 2 2 2 2)`; of several seeds, which."""
        point, seed = self.point, f", seed {self.point.seed}" if self.several_seeds else ""
        where = (
            f"{point.system} at depth {point.depth} ({point.shown})" if point.depth else f"{point.system} {point.shown}"
        )
        return where + seed

    @property
    def errors(self) -> np.ndarray:
        """Errors of each utterance, set after set."""
        return np.concatenate([alignment.errors for alignment in self.alignments])


def viewer(results: Results) -> dict[str, Any] | None:
    """All that the viewer needs, ready for JSON; None where fewer than two points stand in the tables."""
    heard = _heard(results)
    if len(heard) < 2:
        return None
    order = _order(results, heard)
    errors = np.stack([one.errors for one in heard])
    keys = [
        (test_set, utterance)
        for test_set, alignment in _sets(results, heard)
        for utterance in alignment.reference.lines
    ]
    kept = _kept(errors, order)
    folder = results.folder / "data" / results.experiment.corpus.name
    cuts = {test_set: read_cuts(folder, test_set) for test_set in results.experiment.test_sets}
    wanted = ((number, cuts[keys[number][0]].get(keys[number][1])) for number in ranked(errors, order, set(kept)))
    sounds = embed(folder, wanted, SOUNDS, SOUND_BYTES)
    texts = [_texts(results, one) for one in heard]
    references = _references(heard[0])
    return {
        "points": [{"label": one.label, "system": one.point.system} for one in heard],
        "first": [order[0][0], order[0][1]],
        "shown": SHOWN,
        "utterances": [
            {
                "set": keys[number][0],
                "id": keys[number][1],
                "words": references[number],
                "sound": sounds.get(number),
                "file": source(cuts[keys[number][0]].get(keys[number][1])),
                "heard": [text[number] for text, _ in texts],
            }
            for number in kept
        ],
        "all_utterances": len(keys),
        "plain": any(plain for _, plain in texts),
    }


def ranked(errors: np.ndarray, pairs: Sequence[tuple[int, int]], among: set[int] | None = None) -> Iterator[int]:
    """Utterances in the order in which they are worth a look, each once; `errors` is (points, utterances).

    First the SHOWN utterances on which the first pair differs most, then the best of every pair, the second of every
    pair, and so on.
    """
    seen: set[int] = set()
    tops = []
    for a, b in pairs:
        gap = np.abs(errors[a] - errors[b])
        best = np.lexsort((-(errors[a] + errors[b]), -gap))[: 2 * SHOWN]
        tops.append([int(number) for number in best if gap[number] > 0])
    rounds = [top[rank] for rank in range(2 * SHOWN) for top in tops if rank < len(top)]
    for number in [*(tops[0][:SHOWN] if tops else []), *rounds]:
        if number not in seen and (among is None or number in among):
            seen.add(number)
            yield number


def example_table(content: dict[str, Any], experiment: str) -> Table:
    """The utterances on which the first pair differs most, as a table."""
    a, b = content["first"]
    rows = []
    for utterance in content["utterances"]:
        errors = [utterance["heard"][point][2] for point in (a, b)]
        if errors[0] != errors[1]:
            words = [hypothesis(utterance["words"], *utterance["heard"][point][:2]) for point in (a, b)]
            rows.append(
                {"errors_a": errors[0], "errors_b": errors[1], "a": words[0], "b": words[1], **_named(utterance)}
            )
    rows.sort(key=lambda row: (-abs(row["errors_a"] - row["errors_b"]), -row["errors_a"] - row["errors_b"]))
    labels = [content["points"][point]["label"] for point in (a, b)]
    columns = [Column("utterance", "utterance", numeric=False), Column("reference", "reference", numeric=False)]
    columns += [Column("a", labels[0], numeric=False), Column("errors_a", "errors")]
    columns += [Column("b", labels[1], numeric=False), Column("errors_b", "errors")]
    return Table("examples", f"Where {labels[0]} and {labels[1]} differ most ({experiment})", columns, rows[:SHOWN])


def hypothesis(reference: Sequence[str], operations: str, words: Sequence[str]) -> str:
    """The recognised words again, from the reference, the operations and the words of substitutions and insertions."""
    said, heard, out = iter(reference), iter(words), []
    for operation in operations:
        if operation == "I":
            out.append(next(heard))
            continue
        word = next(said)
        if operation != "D":
            out.append(word if operation == "C" else next(heard))
    return " ".join(out)


def _named(utterance: dict[str, Any]) -> dict[str, str]:
    return {"utterance": utterance["id"], "reference": " ".join(utterance["words"])}


def _heard(results: Results) -> list[Heard]:
    """Every point that a table reports, of the first seed, once, in the tables' order."""
    found: dict[tuple[str, str], Heard] = {}
    for name, spec in results.experiment.tables.items():
        for row in measure(results, name, spec).values():
            point = row.first.point
            alignments = results.alignments(point, spec.decode, results.experiment.test_sets)
            found.setdefault((point.system, point.id), Heard(point, spec.decode, alignments, len(row.choices) > 1))
    return [*found.values()]


def _order(results: Results, heard: Sequence[Heard]) -> list[tuple[int, int]]:
    """All pairs. First the headline system's deepest against its shallowest point, then the others."""
    own = [n for n, one in enumerate(heard) if one.point.system == results.experiment.headline and one.point.depth]
    own = own or [*range(len(heard))]
    depths = {n: heard[n].point.depth or 0 for n in own}
    first = (max(own, key=depths.get), min(own, key=depths.get))
    first = first if first[0] != first[1] else (0, 1)
    return [first, *(pair for pair in combinations(range(len(heard)), 2) if set(pair) != set(first))]


def _sets(results: Results, heard: Sequence[Heard]) -> list[tuple[str, Alignment]]:
    return list(zip(results.experiment.test_sets, heard[0].alignments, strict=True))


def _kept(errors: np.ndarray, order: Sequence[tuple[int, int]]) -> list[int]:
    """The utterances to take along, in their own order."""
    points, utterances = errors.shape
    room = max(SHOWN, TRANSCRIPTS // points)
    if utterances <= room:
        return [*range(utterances)]
    return sorted(number for number, _ in zip(ranked(errors, order), range(room), strict=False))


def _references(heard: Heard) -> list[list[str]]:
    return [
        list(map(_clean, alignment.reference.words(utterance)))
        for alignment in heard.alignments
        for utterance in alignment.reference.lines
    ]


def _texts(results: Results, heard: Heard) -> tuple[list[tuple[str, list[str], int]], bool]:
    """For each utterance its operations, the words that are not the reference's, and its errors as scored.

    A normaliser may score other words than were recognised. Then the recognised ones are aligned once more, as they
    stand, for people to see; the second value says so.
    """
    folder = results.system_folder(heard.point.system, heard.point.seed) / "eval" / heard.decode
    texts, plain = [], False
    for test_set, scored in zip(results.experiment.test_sets, heard.alignments, strict=True):
        transcript = results.transcript(Path(folder / test_set / f"{heard.point.id}.trn"))
        shown, transcript = scored, in_characters(transcript) if scored.of_characters else transcript
        if not _same_words(scored, transcript):
            shown, plain = align(scored.reference, transcript), True
        for number, utterance in enumerate(scored.reference.lines):
            operations = _operations(shown, number)
            words = iter(transcript.words(utterance))
            spoken = [(step, next(words)) for step in operations if step != DELETION]
            changed = [_clean(word) for step, word in spoken if step != CORRECT]
            texts.append(("".join(LETTERS[operations]), changed, int(scored.errors[number])))
    return texts, plain


def _operations(alignment: Alignment, number: int) -> np.ndarray:
    return alignment.operations[alignment.starts[number] : alignment.starts[number + 1]]


def _same_words(alignment: Alignment, transcript: Transcript) -> bool:
    """Whether the operations stand for just the words of the transcript."""
    return all(
        int(np.sum(_operations(alignment, number) != DELETION)) == len(transcript.lines[utterance].split())
        for number, utterance in enumerate(alignment.reference.lines)
    )


def _clean(word: str) -> str:
    """A word without characters that cannot be seen."""
    return CONTROL.sub("\ufffd", word)
