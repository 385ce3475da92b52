"""Reads `claims.yaml`: each claim of a paper as a predicate, checked before anything is judged.

A key, a predicate, a table or a row that does not exist is one clear error with the closest name that does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from analysis.inputs.published import FOLDER, published_table
from analysis.inputs.results import Results
from analysis.verdicts.evidence import Evidence
from analysis.verdicts.predicates import AnyPredicate
from analysis.verdicts.statements import Margin
from common.errors import UserError, unknown
from common.files import read_yaml
from common.settings import Settings, parse

CLAIMS = Path(__file__).parents[1] / "claims.yaml"


class Claim(Settings):
    """One statement of a paper, what was published for it, and when it holds."""

    id: str
    source: str
    statement: str
    published: str
    holds_if: AnyPredicate


class PublishedWers(Settings):
    """Where a published table prints its WERs, which the published effects are computed from."""

    pooled: str | dict[str, int] = {}
    """The column of the WER over all test sets; or those of the test sets, each with its reference words."""
    by_set: dict[str, str] = {}
    """The columns of single sets, by the names that claims use."""

    def columns(self, sets: Sequence[str] | None) -> Mapping[str, float] | None:
        """The columns to average and their weights, for some sets or all test sets; None where none are printed."""
        if sets is None:
            return {self.pooled: 1} if isinstance(self.pooled, str) else self.pooled or None
        columns = [self.by_set.get(one) for one in sets]
        if None in columns:
            return None
        words = {} if isinstance(self.pooled, str) else self.pooled
        if len(columns) > 1 and not all(column in words for column in columns):
            return None
        return {column: words.get(column, 1) for column in columns}

    @property
    def named(self) -> list[str]:
        """All columns that are named."""
        return [*([self.pooled] if isinstance(self.pooled, str) else self.pooled), *self.by_set.values()]


class ClaimsFile(Settings):
    """The whole file. `tables` maps the names that claims use to published tables; `margin` is the default one; `rows`
    are the rows of ours that claims name beside the published ones, by table."""

    margin: Margin
    seed_variance: Literal["own", "pooled"] = "own"
    """Whether an interval over seeds has the figure's own variance or one of all systems of its table."""
    tables: dict[str, str]
    rows: dict[str, list[str]] = {}
    published_wers: dict[str, PublishedWers] = {}
    """By table. Without them nothing counts as published, and only the statement itself can be contradicted."""
    claims: list[Claim]


def read_claims(path: Path) -> ClaimsFile:
    """Read and check a claims file by itself. Raises `UserError` naming file, claim and key."""
    values = read_yaml(path)
    found = parse(ClaimsFile, values, str(path))
    names = [claim.id for claim in found.claims]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: two claims have the id '{name}'")
    published = [file.stem for file in FOLDER.glob("*.csv") if file.stem != "slips"]
    for table, name in found.tables.items():
        if name not in published:
            raise unknown("published table", name, published, f"{path}: tables.{table}")
        published_table(name)
    for table in found.rows:
        if table not in found.tables:
            raise unknown("table", table, found.tables, f"{path}: rows")
    _check_columns(found, path)
    return found


def _check_columns(file: ClaimsFile, path: Path) -> None:
    for table, wers in file.published_wers.items():
        where = f"{path}: published_wers.{table}"
        if table not in file.tables:
            raise unknown("table", table, file.tables, where)
        cells = next(iter(published_table(file.tables[table]).values()))
        for column in wers.named:
            if column not in cells:
                raise unknown("column", column, cells, where)


def gather(results: Results, file: ClaimsFile, path: Path) -> Evidence:
    """What an experiment has for the claims. Raises `UserError` for a row or set that neither a paper nor it knows."""
    evidence = Evidence(results, file)
    for claim in file.claims:
        for key, name, sets in claim.holds_if.rows():
            where = f"{path}: claim '{claim.id}', {claim.holds_if.kind}.{key}"
            table, dot, row = name.partition(".")
            if not dot:
                raise UserError(f"{where}: '{name}' names no row; write it as table.row, for example table1.S1")
            if table not in file.tables:
                raise unknown("table", table, file.tables, where)
            if row not in (known := evidence.known_rows(table) | {*file.rows.get(table, ())}):
                raise unknown("row", row, known, f"{where}: {table}")
            for one in sets:
                if one not in evidence.known_sets:
                    raise unknown("set", one, evidence.known_sets, where)
    return evidence
