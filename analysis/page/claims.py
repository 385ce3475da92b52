"""The verdicts of `claims.json` as the report shows them: in words, with a mark, with the interval drawn."""

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from analysis.inputs.results import Results
from analysis.tables.formats import Column, Table
from analysis.verdicts.judge import by_paper, expected_false
from analysis.verdicts.outcomes import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, REPRODUCED, shown_behind
from common.files import read_json
from common.settings import parse

MARKS = {REPRODUCED: "✓", CONTRADICTED: "✗", INCONCLUSIVE: "?", NOT_TESTED: "–"}
WIDTH, HEIGHT, MARGIN = 240, 34, 8  # of the drawn interval, in its own units


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Effect(_Read):
    name: str = ""
    value: float | None = None
    unit: str = ""
    interval: tuple[float, float] | None = None
    own_interval: tuple[float, float] | None = None
    half_width: float | None = None
    published: float | None = None

    @property
    def sign(self) -> str:
        """How its numbers are printed: a difference has its sign."""
        return "+" if self.unit == "points" else ""

    @property
    def measured(self) -> str:
        """For example `-5.44 points [-7.14, -3.86]`; an interval beside it that is not pooled too."""
        beside = [("[{}, {}]", self.interval), ("(not pooled {} to {})", self.own_interval)]
        said = [form.format(*(f"{end:{self.sign}.2f}" for end in ends)) for form, ends in beside if ends]
        return " ".join([self._value, *said])

    @property
    def text(self) -> str:
        """For example `-5.44 points (95 % interval -7.14 to -3.86)`."""
        if self.interval is None:
            return self._value
        low, high = self.interval
        own = self.own_interval
        beside = f"; not pooled {own[0]:{self.sign}.2f} to {own[1]:{self.sign}.2f}" if own else ""
        papers = "" if self.published is None else f"; the paper's {self.published:{self.sign}.2f}"
        return f"{self._value} (95 % interval {low:{self.sign}.2f} to {high:{self.sign}.2f}{beside}{papers})"

    @property
    def _value(self) -> str:
        if self.value is None:
            return ""
        digits = ".3g" if self.unit == "times" and abs(self.value) < 1 else ".2f"
        return f"{self.value:{self.sign}{digits}} {self.unit}".strip()


class Part(_Read):
    """One comparison of a claim that makes several."""

    model_config = ConfigDict(frozen=True, extra="allow")
    verdict: str = ""
    shown: str = ""
    points: Literal["for", "against", "neither"] = "neither"
    effect: Effect | None = None
    p: float | None = None
    words_needed: int | float | None = None
    seeds_needed: int | None = None
    seeds: list[int] = []
    words: int | None = None
    score: str = "words"
    """What is counted: words, or characters."""
    power: dict[str, float | None] | None = None
    """How surely it would be settled `now`, and the `words` or `seeds` for a power of 80 %."""
    reason: str | None = None

    @property
    def behind(self) -> str:
        """What is behind the verdict: `3 seeds (0, 1, 2), 30,120 words`; nothing where no training decides."""
        return shown_behind(self.seeds, self.words, self.score)

    @property
    def badge(self) -> str:
        """The verdict in words, and where an inconclusive one points."""
        pointing = self.verdict == INCONCLUSIVE and self.points != "neither"
        return (self.shown or self.verdict) + (f", points {self.points} it" if pointing else "")

    @property
    def name(self) -> str:
        """What the part is called, under whichever of the usual keys."""
        extra: dict[str, Any] = self.model_extra or {}
        return str(next((extra[key] for key in ("name", "statement", "id", "what") if extra.get(key)), ""))


class Claim(Part):
    id: str
    paper: str | None = None
    source: str = ""
    statement: str
    published: Any = None
    margin: Any = None
    parts: list[Part] = []

    @property
    def mark(self) -> str:
        return MARKS.get(self.verdict, "•")

    @property
    def short(self) -> str:
        """The id as words."""
        return self.id.replace("_", " ")

    @property
    def deciding_margin(self) -> float | None:
        """The margin of an error rate; a direction is judged against zero, and has none. A bound of what is counted or
        measured is none."""
        return self.margin if self.behind and isinstance(self.margin, int | float) else None

    @property
    def drawing(self) -> dict[str, float] | None:
        """Where the interval, the value, zero and the margin stand in a drawing of WIDTH by HEIGHT."""
        if self.effect is None or self.effect.value is None or self.effect.interval is None:
            return None
        low, high = self.effect.interval
        margin = self.deciding_margin
        marks = [low, high, self.effect.value, 0.0, *([margin] if margin else [])]
        start, stop = min(marks), max(marks)
        scale = (WIDTH - 2 * MARGIN) / ((stop - start) or 1.0)

        def place(value: float) -> float:
            return round(MARGIN + (value - start) * scale, 1)

        places = {"low": place(low), "high": place(high), "value": place(self.effect.value), "zero": place(0.0)}
        return places | ({"margin": place(margin)} if margin else {})


class Claims(_Read):
    evidence: bool = False
    papers: dict[str, str] = {}
    judged_by_interval: int = 0
    compared_by_interval: int | None = None
    """How many comparisons these claims consist of; a file of an earlier version does not say it."""
    claims: list[Claim]

    @property
    def false_ones(self) -> str:
        """How many wrong verdicts are to be expected, as a sentence; empty where no interval decides."""
        return expected_false(self.judged_by_interval, self.compared_by_interval or self.judged_by_interval)

    @property
    def by_paper(self) -> list[tuple[str, list[Claim]]]:
        """The claims of each paper under its heading, our own last."""
        return by_paper(((claim.paper, claim) for claim in self.claims), self.papers)

    @property
    def tally(self) -> list[tuple[str, str, int]]:
        """How many claims got each verdict: `(verdict, mark, claims)`, for the verdicts that occur."""
        found = Counter(claim.verdict for claim in self.claims)
        order = [*(verdict for verdict in MARKS if verdict in found), *sorted(found.keys() - MARKS)]
        return [(verdict, MARKS.get(verdict, "•"), found[verdict]) for verdict in order]

    @property
    def pointing(self) -> str:
        """Where the inconclusive claims point."""
        ways = Counter(claim.points for claim in self.claims if claim.verdict == INCONCLUSIVE)
        return f"{ways['for']} pointing for, {ways['against']} against the claim"


def claims_table(found: Claims, experiment: str) -> Table:
    """One line for each claim."""
    columns = [Column(key) for key in ("id", "paper", "source", "verdict")]
    columns += [Column("shown", "verdict", numeric=False), Column("points", "points", numeric=False)]
    columns += [Column("statement", "claim", numeric=False)]
    columns += [Column("published", "published", numeric=False), Column("effect", "effect", numeric=False)]
    columns += [Column("behind", "seeds and words", numeric=False)]
    columns += [Column("margin", "margin"), Column("p", "p"), Column("words_needed", "words needed")]
    columns += [Column("seeds_needed", "trainings needed")]
    columns += [Column("reason", "reason", numeric=False)]
    rows = [
        {
            **claim.model_dump(include={column.key for column in columns}),
            "effect": claim.effect and claim.effect.text,
            "behind": claim.behind,
        }
        for claim in found.claims
    ]
    title = f"Verdicts on the claims ({experiment})" + ("" if found.evidence else ": plumbing, not evidence")
    table = Table("claims", title, columns, rows)
    return table.of_characters() if any(claim.score == "characters" for claim in found.claims) else table


def claims(results: Results) -> Claims | None:
    """The verdicts of the experiment; None where no claim was judged."""
    path = results.folder / "claims.json"
    return parse(Claims, read_json(path), str(path)) if path.exists() else None
