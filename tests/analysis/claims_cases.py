"""Predicates, errors and claims files that tests of claims are made of."""

import yaml

from analysis.inputs.results import Results
from analysis.verdicts.judge import judge_claims
from tests.analysis import claims_folder

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"
SPEAKERS = 40


def each(errors: int, wobble: int = 0) -> list[int]:
    """Errors (of 50 words, 2 points each) of every speaker, by turns more and fewer by `wobble`."""
    return [errors + wobble * (-1) ** speaker for speaker in range(SPEAKERS)]


def claims_file(folder, *predicates, **keys):
    """A claims file with these predicates."""
    stated = [
        {"id": f"c{n}", "source": "here", "statement": "it holds", "published": "yes", "holds_if": predicate}
        for n, predicate in enumerate(predicates)
    ]
    content = {"margin": {"absolute": 0.3, "relative": 0.02}, "tables": claims_folder.TABLES, "claims": stated, **keys}
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def judged(tmp_path, predicate, rows, trainings=3, file=None, **keys):
    """The one outcome of a predicate on rows given as `{row: errors of each speaker}`, equal in all trainings."""
    rows = {row: errors if isinstance(errors[0], list) else [[errors]] * trainings for row, errors in rows.items()}
    tmp_path.mkdir(exist_ok=True)
    folder = claims_folder.make(tmp_path / "made", rows, **keys)
    return judge_claims(Results(folder), claims_file(tmp_path, predicate, **(file or {}))).judged[0][1]


NO_LOSS = {"no_loss": {"row": "table1.S1", "against": "table1.1"}}
BETTER = {"better": {"row": "table1.S1", "than": "table1.1"}}
WORSE = {"worse_by": {"row": "table1.S1", "than": "table1.1", "at_least": {"relative": 0.5}}}
GAINS = {"gains_more": {"first": ["table1.F5", "table1.F3"], "second": ["table1.F3", "table1.F1"]}}
SPREAD = {"spread_below": {"row": "table1.S1", "below": {"absolute": 1.0}}}
FEWER = {"fewer_parameters": {"row": "table1.S1", "than": "table1.1", "at_least": 0.35}}
COST = {"costs_at_most": {"quantity": "stored_bytes", "row": "table1.S1", "of": "table1.1"}}


def spread_evenly(wer: str) -> list[int]:
    """The errors of 10 speakers that make a printed WER of 10 000 words."""
    errors = round(100 * float(wer))
    return [(n + 1) * errors // 10 - n * errors // 10 for n in range(10)]
