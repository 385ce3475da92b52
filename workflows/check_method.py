"""Check that a method keeps the contract, on a small backbone of each kind that it works on.

    python -m workflows.check_method baselines.low_rank
    python -m workflows.check_method mylab.low_rank --package mylab --settings '{"rank_share": 0.5}'

Takes some seconds and needs no experiment and no data. `tests/methods/test_contract.py` asks the same of every method
of this project.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from common.errors import UserError, run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.check_method", description="Check that a method keeps the contract."
    )
    parser.add_argument("method", help="module path, for example baselines.low_rank")
    parser.add_argument("--package", action="append", default=[], help="the package that holds it, beside this project")
    parser.add_argument("--settings", type=settings, default={}, help="JSON; the default is its least settings")
    arguments = parser.parse_args()

    from methods.contract import load_method
    from workflows.steps.contract_cases import case
    from workflows.steps.contract_checks import CHECKS

    kind = load_method(arguments.method, "method", arguments.package)
    broken = 0
    for backbone in kind.backbones or ("conformer", "wav2vec2"):
        made = case(arguments.method, backbone, arguments.settings, arguments.package)
        for check in CHECKS:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    check(made, Path(folder))
                print(f"{backbone}: {check.__doc__}")
            except Exception as error:  # the method's own code runs here: whatever it raises is its answer
                if os.environ.get("FOLDBENCH_TRACEBACK"):
                    raise
                broken += 1
                print(f"{backbone}: BROKEN: {said(error)} ({check.__name__})")
    if broken:
        raise UserError(
            f"{arguments.method}: the contract is broken in {broken} place{'s' if broken > 1 else ''} "
            "(FOLDBENCH_TRACEBACK=1 shows where the first is)"
        )


def said(error: Exception) -> str:
    """What is broken, in one line; errors of Python with their names."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (AssertionError, UserError)) else f"{type(error).__name__}: {text}"


def settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("not a mapping of settings")
    return found


if __name__ == "__main__":
    sys.exit(run(main))
