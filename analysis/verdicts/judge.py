"""The verdict on every claim of the papers, from what an experiment measured: `claims.json`, `claims.csv`, a section.

`analysis.render` writes them beside the tables. Claims are data: `analysis/claims.yaml`, or a file of one's own.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

SCHEMA = 4
OURS = "Claims of our own, which no paper makes"
PLUMBING = (
    "These verdicts show that the machinery works. They are plumbing, not evidence: the run is too small to say "
    "anything about the papers."
)
VARIANCES = {
    "own": "Intervals over several seeds have the variance of their own figure.",
    "pooled": "Intervals over several seeds have one variance for all systems of a table, where these were trained "
    "apart and Bartlett's test finds no difference; the interval with the own variance stands beside each.",
}


Judged = TypeVar("Judged")


def by_paper(claims: Iterable[tuple[str | None, Judged]], papers: Mapping[str, str]) -> list[tuple[str, list[Judged]]]:
    """Claims given with their papers, by heading: the papers as `papers` has them, then what none of them says."""
    found: dict[str | None, list[Judged]] = {name: [] for name in [*papers, None]}
    for paper, claim in claims:
        found[paper if paper in papers else None].append(claim)
    headings = {name: f"{name}: {title}" for name, title in papers.items()} | {None: OURS}
    return [(headings[name], some) for name, some in found.items() if some]


@dataclass(frozen=True)
class Verdicts:
    """The judged claims of an experiment: `(claim, outcome)` in the file's order. `papers` maps names to titles."""

    evidence: bool
    papers: Mapping[str, str]
    test_words: int
    seed_variance: str
    judged: tuple[tuple, ...]
    rate: str = "WER"
    score: str = "words"
    """What error rates are called, and of what they are made."""
    people: str = "speakers"
    """See `Experiment.people`."""

    @property
    def tally(self) -> str:
        """How many claims got each verdict, and where the inconclusive ones point, in one line."""
        from analysis.verdicts.outcomes import AGAINST, FOR, INCONCLUSIVE, VERDICTS

        found = Counter(outcome.verdict for _, outcome in self.judged)
        pointing = Counter(outcome.points for _, outcome in self.judged if outcome.verdict == INCONCLUSIVE)
        ways = {INCONCLUSIVE: f" ({pointing[FOR]} pointing for, {pointing[AGAINST]} against the claim)"}
        return ", ".join(f"{found[verdict]} {verdict}{ways.get(verdict, '')}" for verdict in VERDICTS if found[verdict])

    @property
    def by_interval(self) -> int:
        """How many claims an interval could have decided: of WERs, from three trainings on, over enough speakers."""
        return len(self._decided_by_interval)

    @property
    def comparisons(self) -> int:
        """How many intervals these claims have among them: a claim of several parts has one for each."""
        return sum(max(1, sum(map(_by_interval, claim.parts))) for claim in self._decided_by_interval)

    @property
    def _decided_by_interval(self) -> list:
        """Those of which an interval could decide a part: whichever part decides."""
        return [outcome for _, outcome in self.judged if any(map(_by_interval, outcome.parts or (outcome,)))]

    @property
    def false_ones(self) -> str:
        """How many wrong verdicts the level of the intervals lets one expect, as a sentence; empty where none is."""
        return expected_false(self.by_interval, self.comparisons)

    def to_json(self) -> dict:
        """The content of `claims.json`."""
        about = {"schema": SCHEMA, "evidence": self.evidence, "seed_variance": self.seed_variance}
        about |= {"judged_by_interval": self.by_interval, "compared_by_interval": self.comparisons}
        about["papers"] = self.papers
        return {**about, "claims": [_claim_json(*pair) for pair in self.judged]}


def _by_interval(outcome) -> bool:
    """Whether an interval could have decided it."""
    from analysis.verdicts.outcomes import ENOUGH_TRAININGS

    return (outcome.trainings or 0) >= ENOUGH_TRAININGS and outcome.enough_speakers


def expected_false(claims: int, comparisons: int) -> str:
    """What is said of so many claims that intervals could decide, by so many comparisons. Those that stayed undecided
    count too: of claims that are looked at, each has its chance to be decided wrongly.

    A claim stands where all its parts clear their bounds, in half of ALPHA of all experiments at most if each stands
    right at its bound; it falls where one of them clears its bound on the other side, for each in half of ALPHA.
    """
    from analysis.significance.exact import ALPHA

    if not claims:
        return ""
    of = "one each" if comparisons == claims else f"by {comparisons} comparisons"
    return (
        f"Intervals of {100 * (1 - ALPHA):.0f} % judged {claims} claims, whole or in part, from three trainings on, "
        f"{of}: if each effect stood right at its bound, {(claims + comparisons) * ALPHA / 2:.2g} false verdicts would "
        "be expected at most, a fortieth for each claim and each comparison."
    )


def judge_claims(results, path: Path | None = None) -> Verdicts:
    """Judge every claim of a file. Raises `UserError` when it names what does not exist."""
    from analysis.verdicts.claims_file import CLAIMS, gather, read_claims

    path = path or CLAIMS
    file = read_claims(path)
    evidence = gather(results, file, path)
    judged = tuple((claim, claim.holds_if.outcome(evidence)) for claim in file.claims)
    about = (results.experiment.evidence, file.papers, evidence.test_words, file.seed_variance)
    return Verdicts(*about, judged, evidence.rate, evidence.score, results.experiment.people)


def _claim_json(claim, outcome) -> dict:
    about = {key: getattr(claim, key) for key in ("id", "paper", "source", "statement", "published")}
    parts = [
        {"id": f"{claim.id}.{number}", "statement": part.name, **part.to_json()}
        for number, part in enumerate(outcome.parts, start=1)
    ]
    return {**about, **outcome.to_json(), "parts": parts}


def claims_table(verdicts: Verdicts):
    """One line for each claim and, in CSV alone, for each of its parts."""
    from analysis.tables.formats import Column, Table

    columns = [
        Column("id"),
        Column("paper"),
        Column("source"),
        Column("statement"),
        Column("published"),
        *[Column(key) for key in ("verdict", "shown", "points", "trainings", "seeds", "words")],
        *[Column(key) for key in ("effect_name", "effect", "unit", "low", "high", "half_width", "own_low", "own_high")],
        *[Column(key) for key in ("published_effect", "margin", "p", "words_needed", "seeds_needed")],
        *[Column(key) for key in ("power", "words_for_power", "seeds_for_power")],
        Column("reason"),
        Column("evidence"),
    ]
    rows = []
    for claim in verdicts.to_json()["claims"]:
        rows += [_cells(found, verdicts.evidence) for found in (claim, *claim["parts"])]
    table = Table("claims", "Claims", columns, rows)
    return table.of_characters() if verdicts.score == "characters" else table


def _cells(found: dict, evidence: bool) -> dict:
    effect = found["effect"] or dict.fromkeys(("name", "value", "unit", "interval", "own_interval", "published"))
    figures = {"effect_name": effect["name"], "effect": effect["value"], "unit": effect["unit"]}
    figures |= {"half_width": effect.get("half_width"), "seeds": ", ".join(map(str, found["seeds"]))}
    power = found["power"] or dict.fromkeys(("now", "words", "seeds"))
    figures |= {"power": power["now"], "words_for_power": power["words"], "seeds_for_power": power["seeds"]}
    figures["low"], figures["high"] = effect["interval"] or (None, None)
    figures["own_low"], figures["own_high"] = effect["own_interval"] or (None, None)
    return {**found, **figures, "published_effect": effect["published"], "evidence": int(evidence)}


def section(verdicts: Verdicts) -> list[str]:
    """The section of RESULTS.md: the tally, one line a claim by paper, and how to read it."""
    from analysis.tables.formats import escape_markdown

    parts = ["## Claims", f"**{verdicts.tally}.**", *([verdicts.false_ones] if verdicts.false_ones else [])]
    parts += [] if verdicts.evidence else [escape_markdown(PLUMBING)]
    judged = ((claim.paper, (claim, outcome)) for claim, outcome in verdicts.judged)
    for heading, some in by_paper(judged, verdicts.papers):
        parts += [f"### {escape_markdown(heading)}", _markdown(some, verdicts.evidence, verdicts.score)]
    now = f" ({verdicts.test_words:,} {verdicts.score} now)" if verdicts.test_words else ""
    notes = [
        "An interval points for a claim when the whole of it lies on the claimed side of its bound, against it when it "
        "lies on the other side, of that bound and, of a margin, of the effect in points that the paper found. An "
        f"interval against a share of a {verdicts.rate} alone has that one's chance too, and is not the difference's "
        "in the tables. From three trainings on that is the verdict, "
        f"reproduced or contradicted; with fewer the verdict on a {verdicts.rate} is inconclusive, for they say too "
        f"little of what another seed would give. Fewer than 10 {verdicts.people} point nowhere; no loss is never read "
        "out of a missing significance.",
        f"{verdicts.score.capitalize()} that would settle a verdict assume that the effect stays and that "
        f"{verdicts.people} are added{now}; they and the trainings that would settle it are for a power of 80 %. "
        f"{VARIANCES[verdicts.seed_variance]}",
    ]
    parts += ["\n".join(f"- {escape_markdown(note)}" for note in notes)]
    links = "[claims.csv](claims.csv) and [claims.json](claims.json)"
    return [*parts, f"Every part of every claim, with effect, interval and p: {links}."]


def _markdown(judged: Iterable[tuple], evidence: bool, score: str) -> str:
    """One line for each claim."""
    from analysis.tables.formats import Column, Table, markdown_body

    title = "verdict" if evidence else "verdict (not evidence)"
    columns = [
        Column("verdict", title, numeric=False),
        Column("points", "points", numeric=False),
        Column("statement", "claim", numeric=False),
        Column("source", "where", numeric=False),
        Column("published", "published", numeric=False),
        Column("effect", "what decides [95 % interval]", numeric=False),
        Column("behind", f"seeds and {score}", numeric=False),
        Column("reason", "why", numeric=False),
    ]
    rows = [
        {
            "statement": claim.statement,
            "source": claim.source,
            "published": claim.published,
            "verdict": outcome.shown,
            "points": outcome.points,
            "effect": shown_effect(outcome),
            "behind": outcome.behind,
            "reason": outcome.reason,
        }
        for claim, outcome in judged
    ]
    return markdown_body(Table("claims", "Claims", columns, rows))


def claims_files(verdicts: Verdicts, folder: Path) -> dict[Path, bytes]:
    """The content of `claims.json` and `claims.csv`; nothing is written yet."""
    from analysis.tables.formats import to_csv

    text = json.dumps(verdicts.to_json(), indent=1, ensure_ascii=False) + "\n"
    return {folder / "claims.json": text.encode(), folder / "claims.csv": to_csv(claims_table(verdicts)).encode()}


def shown_effect(outcome) -> str:
    """The deciding figure in words: `WER of a minus b: -0.22 points [-0.41, -0.02]`."""
    effect = outcome.effect
    if effect is None:
        return ""
    sign = "+" if effect.unit == "points" else ""
    interval = f" [{effect.interval[0]:{sign}.2f}, {effect.interval[1]:{sign}.2f}]" if effect.interval else ""
    if effect.own_interval:
        interval += f", not pooled [{effect.own_interval[0]:{sign}.2f}, {effect.own_interval[1]:{sign}.2f}]"
    return f"{effect.name}: {effect.value:{sign}.2f} {effect.unit}{interval}"
