"""Alignment where either side may be said in several ways, as NIST's sclite aligns it with `-F -D`.

    { going to / gonna / @ }   one of these; `@` is nothing at all
    (uh)                       an optionally deletable word: right, whether it was recognised or not
    wor-  -ord                 a fragment: right for every word that begins, or ends, with it

Both sides become networks of words. The cheapest pair of paths is found by dynamic programming over pairs of words: a
substitution costs 4, a deletion and an insertion 3, those of an optional word 2, those of `@` 0.001. Which of two
equally cheap ways is taken depends on the order in which sclite walks through its networks and on its 32-bit sums; both
are kept, so that the counts are its counts (SCTK 2.4.10: net_adt.c, net_dp.c, word.c).

An optional word that was left out counts as a correct reference word, as in sclite, on whichever side it stood. The
operations hold one entry for each word of the longest alternative of the reference, so that two systems can be compared
word by word whichever alternatives they took: what a shorter one lacks counts as correct there, and in no total.
"""

import re
from dataclasses import dataclass, field

import numba
import numpy as np

CORRECT, SUBSTITUTION, DELETION, INSERTION = range(4)  # as in analysis.scoring.alignment
NULL = b"@"
PLAIN, OPTIONAL, NOTHING = range(3)
COSTS = np.array([3.0, 2.0, 0.001], dtype=np.float32)  # of leaving out a word of each kind

Items = list  # of words (bytes) and choices (tuples of Items)


def parse(text: bytes) -> Items:
    """The words and choices of a line. Raises `ValueError` where braces do not pair, or a choice offers nothing."""
    tokens, depth = [], 0
    for piece in re.split(rb"([{}])", text):
        depth += (piece == b"{") - (piece == b"}")
        tokens += (piece.replace(b"/", b" / ") if depth > 0 else piece).split()
    return _parse(tokens, 0, inside=False)[0]


def _parse(tokens: list[bytes], position: int, inside: bool) -> tuple[Items, int]:
    """Items up to the end of the text or of an alternative, and where they end."""
    items: Items = []
    while position < len(tokens):
        token = tokens[position]
        if token == b"{":
            choice, position = _parse_choice(tokens, position + 1)
            items.append(choice)
            continue
        if token == b"}" or (token == b"/" and inside):
            if not inside:
                raise ValueError("a '}' without its '{'")
            break
        items.append(token)
        position += 1
    return items, position


def _parse_choice(tokens: list[bytes], position: int) -> tuple[tuple, int]:
    alternatives = []
    while True:
        items, position = _parse(tokens, position, inside=True)
        if items:
            alternatives.append(items)
        if position == len(tokens):
            raise ValueError("a '{' without its '}'")
        position += 1
        if tokens[position - 1] == b"}":
            break
    if not alternatives:
        raise ValueError("a '{ }' that offers nothing")
    return tuple(alternatives), position


def needs_lattice(items: Items) -> bool:
    """Whether the plain alignment would not do: a choice, an optional word, a fragment, a null."""
    return any(
        isinstance(item, tuple) or item == NULL or item[:1] == b"(" or item[:1] == b"-" or item[-1:] == b"-"
        for item in items
    )


def longest(items: Items) -> list[bytes]:
    """The words of the longest alternative of each choice."""
    words: list[bytes] = []
    for item in items:
        words += max(map(longest, item), key=len) if isinstance(item, tuple) else [item] if item != NULL else []
    return words


@dataclass
class _Network:
    """Nodes by number, 0 the start and 1 the end; the arcs into and out of each node in sclite's order."""

    words: list[bytes | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """For each arc, which item of the line it belongs to."""
    ends: list[tuple[int, int]] = field(default_factory=list)
    into: list[list[int]] = field(default_factory=lambda: [[], []])
    out: list[list[int]] = field(default_factory=lambda: [[], []])

    def node(self) -> int:
        self.into.append([])
        self.out.append([])
        return len(self.into) - 1

    def arc(self, word: bytes | None, start: int, end: int, token: int) -> None:
        self.out[start].append(len(self.words))
        self.into[end].append(len(self.words))
        self.words.append(word)
        self.tokens.append(token)
        self.ends.append((start, end))

    def chain(self, items: Items, start: int, end: int, token: int | None = None) -> None:
        """Put `items` between two nodes, the alternatives of a choice side by side."""
        for position, item in enumerate(items):
            target = end if position == len(items) - 1 else self.node()
            belongs = position if token is None else token
            if isinstance(item, tuple):
                for alternative in item:
                    self.chain(alternative, start, target, belongs)
            else:
                self.arc(item, start, target, belongs)
            start = target

    def in_order(self) -> list[int]:
        """The arcs as sclite numbers them: by node, a node once all arcs into it are done."""
        waiting = [len(arcs) for arcs in self.into]
        ready, order = [0], []
        for node in ready:  # grows while it is walked through
            for arc in self.out[node]:
                target = self.ends[arc][1]
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
            order += self.out[node]
        return order


@dataclass(frozen=True, eq=False)
class _Side:
    """One network as arrays. Arc 0 is a head without a word."""

    words: list[bytes]
    tokens: list[int]
    kinds: np.ndarray
    before: np.ndarray
    """The arcs that end where an arc begins, those of all arcs one after the other."""
    starts: np.ndarray
    last: np.ndarray
    """The arcs that reach the end."""


def _side(items: Items) -> _Side:
    network = _Network()
    first = network.node() if items else 1
    network.arc(None, 0, first, -1)
    network.chain(items, first, 1)
    order = network.in_order()
    number = {arc: position for position, arc in enumerate(order)}
    before = [[number[arc] for arc in network.into[network.ends[arc][0]]] for arc in order]
    starts = np.cumsum([0, *map(len, before)])
    words = [network.words[arc] or b"" for arc in order]
    return _Side(
        words,
        [network.tokens[arc] for arc in order],
        np.array([_kind(word) for word in words], dtype=np.uint8),
        np.array([arc for arcs in before for arc in arcs], dtype=np.int64),
        starts.astype(np.int64),
        np.array([number[arc] for arc in network.into[1]], dtype=np.int64),
    )


def _kind(word: bytes) -> int:
    return NOTHING if word == NULL else OPTIONAL if word[:1] == b"(" and word[-1:] == b")" else PLAIN


def align_items(reference: Items, hypothesis: Items) -> tuple[list[int], list[int], list[bytes]]:
    """Align one utterance, words in one case.

    Returns the operations; the number of correct words, substitutions, deletions and insertions; and the word heard at
    each operation but the deletions (`@` where a shorter alternative was right).
    """
    ours, theirs = _side(reference), _side(hypothesis)
    same = _same_words(ours.words, theirs.words)
    steps = _best_steps(
        ours.kinds, ours.before, ours.starts, ours.last, theirs.kinds, theirs.before, theirs.starts, theirs.last, same
    )
    slots = [len(longest([item])) for item in reference]
    operations: list[int] = []
    totals, heard = [0, 0, 0, 0], []
    token, used = -1, 0

    def pad() -> None:
        """Complete the item that the reference is at to the length of its longest alternative."""
        missing = slots[token] - used if token >= 0 else 0
        operations.extend([CORRECT] * missing)
        heard.extend([NULL] * missing)

    for step, a, b in steps.tolist():
        if step == INSERTION:
            kind = theirs.kinds[b]
        else:
            kind = ours.kinds[a]
            if ours.tokens[a] != token:
                pad()
                token, used = ours.tokens[a], 0
        if kind == NOTHING and (step in (DELETION, INSERTION) or theirs.kinds[b] == NOTHING):
            continue
        outcome = CORRECT if kind == OPTIONAL and step in (DELETION, INSERTION) else step
        totals[outcome] += 1
        if step != INSERTION or outcome == INSERTION:  # an optional word of the hypothesis stands beside no word
            operations.append(outcome)
            used += step != INSERTION
            if outcome != DELETION:
                heard.append(ours.words[a] if step == DELETION else theirs.words[b])
    pad()
    return operations, totals, heard


def _same_words(reference: list[bytes], hypothesis: list[bytes]) -> np.ndarray:
    """Which pairs of words count as the same: bool, (reference arcs, hypothesis arcs)."""
    known: dict[bytes, int] = {}
    numbers = [
        np.array([known.setdefault(_bare(word), len(known)) for word in words]) for words in (reference, hypothesis)
    ]
    same = numbers[0][:, None] == numbers[1][None, :]
    cut_a, cut_b = ([_is_fragment(word) for word in words] for words in (reference, hypothesis))
    for i, a in enumerate(reference):
        for j, b in enumerate(hypothesis):
            if (cut_a[i] or cut_b[j]) and i and j:
                same[i, j] = _same_fragment(_bare(a), _bare(b))
    return same


def _bare(word: bytes) -> bytes:
    """A word without the parentheses that make it optional."""
    return word[1:-1] if _kind(word) == OPTIONAL else word


def _is_fragment(word: bytes) -> bool:
    return word[-1:] == b"-" or word[:1] == b"-" or (_kind(word) == OPTIONAL and word[-2:-1] == b"-")


def _same_fragment(a: bytes, b: bytes) -> bool:
    """Fragments as word.c compares them: the first side that is one decides; a lone `-` is a word."""
    for cut, whole in ((a, b), (b, a)):
        if len(cut) > 1 and cut[:1] == b"-":
            return whole.endswith(cut[1:])
        if len(cut) > 1 and cut[-1:] == b"-":
            return whole.startswith(cut[:-1])
    return a == b


@numba.njit(cache=True)
def _best_steps(kinds_a, before_a, starts_a, last_a, kinds_b, before_b, starts_b, last_b, same):
    """The cheapest way through both networks: int64, rows of (operation, reference arc, hypothesis arc)."""
    rows, columns = len(kinds_a), len(kinds_b)
    cost = np.empty((rows, columns), dtype=np.float32)  # the order of 32-bit sums decides ties
    back = np.empty((rows, columns, 2), dtype=np.int64)
    for a in range(rows):
        for b in range(columns):
            if a == 0 and b == 0:
                cost[a, b] = np.float32(0.0)
                continue
            insertion, deletion, diagonal = np.float32(np.inf), np.float32(np.inf), np.float32(np.inf)
            from_b, from_a, both_a, both_b = 0, 0, 0, 0
            if b > 0:
                for k in range(starts_b[b], starts_b[b + 1]):
                    if cost[a, before_b[k]] < insertion:
                        insertion, from_b = cost[a, before_b[k]], before_b[k]
                insertion = np.float32(insertion + COSTS[kinds_b[b]])
            if a > 0:
                for k in range(starts_a[a], starts_a[a + 1]):
                    if cost[before_a[k], b] < deletion:
                        deletion, from_a = cost[before_a[k], b], before_a[k]
                deletion = np.float32(deletion + COSTS[kinds_a[a]])
            if a > 0 and b > 0:
                for k in range(starts_a[a], starts_a[a + 1]):
                    for m in range(starts_b[b], starts_b[b + 1]):
                        if cost[before_a[k], before_b[m]] < diagonal:
                            diagonal = cost[before_a[k], before_b[m]]
                            both_a, both_b = before_a[k], before_b[m]
                if kinds_a[a] == NOTHING and kinds_b[b] == NOTHING:
                    step = np.float32(1.0)
                elif same[a, b]:
                    step = np.float32(0.0)
                else:
                    step = np.float32(4.0)
                diagonal = np.float32(diagonal + step)
            if diagonal <= deletion and diagonal <= insertion:
                cost[a, b], back[a, b, 0], back[a, b, 1] = diagonal, both_a, both_b
            elif deletion < insertion:
                cost[a, b], back[a, b, 0], back[a, b, 1] = deletion, from_a, b
            else:
                cost[a, b], back[a, b, 0], back[a, b, 1] = insertion, a, from_b
    a, b = last_a[0], last_b[0]
    for i in last_a:
        for j in last_b:
            if cost[i, j] < cost[a, b]:
                a, b = i, j
    return _trace_back(back, same, a, b)


@numba.njit(cache=True)
def _trace_back(back, same, a, b):
    steps = np.empty((a + b, 3), dtype=np.int64)  # every step moves at least one arc back
    count = 0
    while a > 0 or b > 0:
        if back[a, b, 0] == a:
            operation = INSERTION
        elif back[a, b, 1] == b:
            operation = DELETION
        elif same[a, b]:
            operation = CORRECT
        else:
            operation = SUBSTITUTION
        steps[count] = operation, a, b
        count += 1
        a, b = back[a, b]
    return steps[:count][::-1].copy()
