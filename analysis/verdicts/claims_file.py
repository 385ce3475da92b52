"""Reads `claims.yaml`: each claim of a paper as a predicate, checked before anything is judged.

A key, a predicate, a table or a row that does not exist is one clear error with the closest name that does.
"""

from pathlib import Path

from analysis.inputs.published import FOLDER, published_table
from analysis.inputs.results import Results
from analysis.verdicts.evidence import Evidence
from analysis.verdicts.frame import Frame
from analysis.verdicts.predicates import AnyPredicate
from common.errors import UserError, unknown
from common.files import read_yaml
from common.settings import Settings, parse

CLAIMS = Path(__file__).parents[1] / "claims.yaml"


class Claim(Settings):
    """One statement of a paper, what was published for it, and when it holds. Of our own `paper` is None."""

    id: str
    paper: str | None = None
    source: str
    statement: str
    published: str
    holds_if: AnyPredicate


class ClaimsFile(Frame):
    """The whole file. `papers` maps what papers are called to their titles."""

    papers: dict[str, str] = {}
    claims: list[Claim]


def read_claims(path: Path) -> ClaimsFile:
    """Read and check a claims file by itself. Raises `UserError` naming file, claim and key."""
    values = read_yaml(path)
    found = parse(ClaimsFile, values, str(path))
    names = [claim.id for claim in found.claims]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: two claims have the id '{name}'")
    for claim in found.claims:
        if claim.paper is not None and claim.paper not in found.papers:
            raise unknown("paper", claim.paper, found.papers, f"{path}: claim '{claim.id}'")
    published = [file.stem for file in FOLDER.glob("*.csv") if file.stem != "slips"]
    for table, name in found.tables.items():
        if name is None:
            continue
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
        if (name := file.tables.get(table)) is None:
            raise unknown("published table", table, [key for key, name in file.tables.items() if name], where)
        cells = next(iter(published_table(name).values()))
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
