"""Mutants: single random changes to the modules that decide numbers, each run against that module's own tests.

A change (a comparison, an arithmetic operator, a number, a truth value, a loop left out) that no test notices is a line
that may be wrong without anybody seeing it. cosmic-ray makes the changes; here they are drawn, with a fixed seed, and
each is run in a copy of the working tree. Places in annotations, decorators, error messages and `main` are not drawn:
they decide no number. What changes nothing that matters is explained in `tests/mutants.toml`, one by one.

    make mutants                                                        all modules: about an hour
    .mutants/bin/python -m tests.mutants --modules asr/schedules.py     one module (`make mutants` makes .mutants)

It resumes: outcomes are kept in `.mutants/outcomes.jsonl`, and hold as long as no Python file changes but the tests of
other modules.
"""

import argparse
import ast
import dataclasses
import difflib
import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.marked import write_between

ROOT = Path(__file__).parents[1]
EXPLAINED = ROOT / "tests/mutants.toml"
OUTCOMES = ROOT / ".mutants/outcomes.jsonl"
MEMORY_BYTES = 12 * 2**30
LEAST_SECONDS, TIMES_AS_LONG = 60, 5  # a change that makes the tests so much slower loops for ever

STATISTICS = "tests/analysis/test_numbers_that_decide.py"
OWN_TESTS = {
    "analysis/scoring/alignment.py": ["tests/analysis/test_alignment.py", "tests/analysis/test_nist.py", STATISTICS],
    "analysis/significance/mapsswe.py": ["tests/analysis/test_mapsswe.py", STATISTICS],
    "analysis/scoring/segments.py": ["tests/analysis/test_mapsswe.py", STATISTICS],
    "analysis/significance/exact.py": ["tests/analysis/test_significance.py", STATISTICS],
    "analysis/significance/intervals.py": ["tests/analysis/test_intervals.py", STATISTICS],
    "analysis/significance/contrasts.py": ["tests/analysis/test_contrasts.py", STATISTICS],
    "analysis/verdicts/outcomes.py": ["tests/analysis/test_verdicts.py", STATISTICS],
    "analysis/significance/variances.py": ["tests/analysis/test_contrasts.py", STATISTICS],
    "analysis/significance/comparison.py": ["tests/analysis/test_comparison.py"],
    "analysis/verdicts/predicates.py": ["tests/analysis/test_claims.py"],
    "analysis/verdicts/wer_predicates.py": ["tests/analysis/test_trainings.py", "tests/analysis/test_claims.py"],
    "analysis/scoring/counts.py": ["tests/analysis/test_counts.py"],
    "analysis/scoring/median.py": ["tests/analysis/test_choice.py", STATISTICS],
    "methods/paths/__init__.py": ["tests/methods/test_paths.py"],
    "methods/shared/packed.py": ["tests/methods/test_packed.py", "tests/methods/test_usmlite.py"],
    "asr/portable/packed.py": ["tests/methods/test_packed.py", "tests/methods/test_usmlite.py"],
    "methods/shared/fakequant.py": ["tests/methods/test_usmlite.py"],
    "methods/shared/nm.py": ["tests/methods/test_usmlite.py"],
    "methods/usmlite.py": ["tests/methods/test_usmlite.py"],
    "methods/shared/derived.py": ["tests/methods/test_derived.py"],
    "methods/unfolding.py": ["tests/methods/test_unfolding.py", "tests/methods/test_passes_that_decide.py"],
    "methods/shared/divergence.py": ["tests/methods/test_passes_that_decide.py"],
    "asr/training.py": ["tests/asr/test_training.py", "tests/asr/test_steps_that_decide.py"],
    "asr/processes.py": ["tests/asr/test_processes.py"],
    "asr/checkpoints.py": ["tests/asr/test_training.py", "tests/asr/test_checkpoints.py"],
    "asr/batch_norm.py": ["tests/asr/test_batch_norm.py"],
    "asr/batches.py": ["tests/asr/test_speakers.py", "tests/asr/test_batches.py"],
    "asr/schedules.py": ["tests/asr/test_steps_that_decide.py"],
    "asr/features.py": ["tests/asr/test_features.py", "tests/asr/test_lengths.py"],
    "asr/decoding.py": ["tests/asr/test_decoding.py"],
    "asr/backbones/__init__.py": ["tests/asr/test_too_short.py", "tests/asr/test_backbone.py"],
    "asr/backbones/conformer.py": ["tests/asr/test_conformer_edges.py", "tests/asr/test_conformer.py"],
}

ARITHMETIC, BITS = ("Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"), ("BitOr", "BitAnd", "BitXor")
ORDER, IDENTITY = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"), ("Is", "IsNot")
CHANGES = [
    *(f"ReplaceBinaryOperator_{a}_{b}" for kind in (ARITHMETIC, BITS) for a, b in itertools.permutations(kind, 2)),
    *(f"ReplaceComparisonOperator_{a}_{b}" for kind in (ORDER, IDENTITY) for a, b in itertools.permutations(kind, 2)),
    *(f"ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Not", "Invert")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop"),
]
"""cosmic-ray's names, without what only makes the code stop: a shift of floats, an exception of another class."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A module with one change: the changed lines as they were and as they are, without indentation."""

    module: str
    line: int
    was: str
    now: str
    source: str


def draw(module: str, source: str, number: int, seed: int) -> list[Mutant]:
    """At most `number` mutants, of different places, each place as likely as another; more of them begin with these."""
    rng = random.Random(f"{seed} {module}")
    places = _places(source)
    order = sorted(places)
    rng.shuffle(order)
    found = (mutant for place in order if (mutant := _mutant(module, source, rng.choice(places[place]))))
    return list(itertools.islice(found, number))


def _places(source: str) -> dict[tuple[int, int], list[tuple[type, int]]]:
    """The changes by the line and column of what they change: `(operator, its occurrence in the file)`."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.operators.provider import OperatorProvider

    silent, nodes = silent_spans(source), list(ast_nodes(get_ast(source)))
    places = defaultdict(list)
    for operator in (OperatorProvider()[name] for name in CHANGES):
        positions = [begin for node in nodes for begin, _ in operator().mutation_positions(node)]
        for occurrence, position in enumerate(positions):
            if not any(begin <= position < end for begin, end in silent):
                places[position].append((operator, occurrence))
    return places


def silent_spans(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Begin and end (line, column) of all that decides no number: annotations, decorators, what is raised, `main`."""
    silent = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            silent.append(node)
        if isinstance(node, ast.Raise) or (isinstance(node, ast.If) and "__name__" in ast.dump(node.test)):
            silent.append(node)
        silent += [part for name in ("annotation", "returns") if (part := getattr(node, name, None)) is not None]
        silent += getattr(node, "decorator_list", [])
    return [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in silent]


def _mutant(module: str, source: str, change: tuple[type, int]) -> Mutant | None:
    """The mutant of one change; None where the result is no Python or means the same."""
    from cosmic_ray.mutating import mutate_code

    operator, occurrence = change
    mutated = mutate_code(source, operator(), occurrence)
    try:
        if mutated is None or ast.dump(ast.parse(mutated)) == ast.dump(ast.parse(source)):
            return None
    except SyntaxError:
        return None
    before, after = source.splitlines(), mutated.splitlines()
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    (line, was, now) = next((a, before[a:b], after[c:d]) for tag, a, b, c, d in blocks if tag != "equal")
    return Mutant(module, line + 1, *(" ".join(" ".join(part).split()) for part in (was, now)), mutated)


def copy_tree(to: Path) -> None:
    """The files that git tracks, and those it would, as they stand."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def run_tests(tree: Path, tests: Sequence[str], limit: float, unchanged: bool = False) -> tuple[str, float]:
    """`passed`, `failed` or `time` (killed after `limit` seconds), and the seconds it took."""
    shutil.rmtree(
        tree / ".hypothesis", ignore_errors=True
    )  # an example found by one mutant must not help with the next
    caches = {"NUMBA_CACHE_DIR": str(tree.parent / "numba"), "PYTHONDONTWRITEBYTECODE": "1"}
    plugins = ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]  # others only make the start slow
    options = ["-x", "-q", *plugins, "--hypothesis-seed=0", f"--basetemp={tree.parent / 'pytest'}"]
    began = time.monotonic()
    process = subprocess.Popen(
        [str(ROOT / ".venv/bin/python"), "-m", "pytest", *options, *tests],
        cwd=tree,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **caches},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES)),
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "time", time.monotonic() - began
    if unchanged and process.returncode in (3, 4, 5):  # a change that no file can be imported with is caught
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{output[-2000:]}")
    return "passed" if process.returncode == 0 else "failed", time.monotonic() - began


class Session:
    """Outcomes of mutants, run or remembered."""

    def __init__(self, jobs: int):
        files = sorted(path for folder in _folders() for path in folder.rglob("*.py"))
        self.code_digest = _digest([path for path in files if not path.name.startswith("test_")])
        lines = OUTCOMES.read_text().splitlines() if OUTCOMES.exists() else []
        self.known = {row["key"]: row for row in map(json.loads, lines)}
        self.jobs = jobs
        self.writing = threading.Lock()
        self.stopped = threading.Event()

    def outcomes(self, mutants: dict[str, list[Mutant]]) -> dict[Mutant, str]:
        """`caught`, `time` or `survived` for every mutant. Ends with a message where a module's own tests fail."""
        with tempfile.TemporaryDirectory(prefix="mutants") as folder:
            trees = [Path(folder) / str(job) / "tree" for job in range(self.jobs)]
            for tree in trees:
                copy_tree(tree)
            with ThreadPoolExecutor(self.jobs) as pool:
                shares = [list(mutants)[job :: self.jobs] for job in range(self.jobs)]
                found = pool.map(lambda tree, modules: list(self._share(tree, modules, mutants)), trees, shares)
                try:
                    return dict(pair for share in found for pair in share)
                except BaseException:
                    self.stopped.set()  # what runs now ends, and is remembered
                    raise

    def _share(
        self, tree: Path, modules: Sequence[str], mutants: dict[str, list[Mutant]]
    ) -> Iterator[tuple[Mutant, str]]:
        for module in modules:
            outcome, seconds = self._run(tree, module, None, 3600.0)
            if outcome != "passed":
                sys.exit(f"the tests of {module} fail without any change: {' '.join(OWN_TESTS[module])}")
            limit = LEAST_SECONDS + TIMES_AS_LONG * seconds
            for mutant in mutants[module]:
                if self.stopped.is_set():
                    return
                outcome, _ = self._run(tree, module, mutant, limit)
                yield mutant, {"passed": "survived", "failed": "caught", "time": "time"}[outcome]

    def _run(self, tree: Path, module: str, mutant: Mutant | None, limit: float) -> tuple[str, float]:
        source = (ROOT / module).read_text() if mutant is None else mutant.source
        tests = _digest([ROOT / test for test in OWN_TESTS[module]])
        key = hashlib.sha256(f"{self.code_digest} {tests} {module} {source}".encode()).hexdigest()
        if key not in self.known:
            (tree / module).write_text(source)
            outcome, seconds = run_tests(tree, OWN_TESTS[module], limit, unchanged=mutant is None)
            shutil.copy2(ROOT / module, tree / module)
            row = {"key": key, "outcome": outcome, "seconds": round(seconds, 1), "module": module}
            if mutant is not None:
                row |= {"line": mutant.line, "was": mutant.was, "now": mutant.now}
            with self.writing, OUTCOMES.open("a") as file:
                file.write(json.dumps(row) + "\n")
            self.known[key] = row
            print(_shown(row), file=sys.stderr, flush=True)
        return self.known[key]["outcome"], self.known[key]["seconds"]


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _folders() -> list[Path]:
    return [ROOT / name for name in ("common", "asr", "methods", "baselines", "analysis", "workflows", "tests")]


def _shown(row: dict) -> str:
    change = f":{row['line']}  {row['was']}  ->  {row['now']}" if "line" in row else "  unchanged"
    return f"{row['outcome']:6} {row['seconds']:5.1f} s  {row['module']}{change}"


def explained() -> dict[tuple[str, str, str], str]:
    """Why a change decides nothing, by module and changed lines."""
    rows = tomllib.loads(EXPLAINED.read_text())["equivalent"]
    return {(row["module"], row["was"], row["now"]): row["why"] for row in rows}


def report(outcomes: dict[Mutant, str], reasons: dict[tuple[str, str, str], str], head: str) -> str:
    """The Markdown of `docs/reliability.md`: a table by module, the survivors, and the explained ones."""

    def kind(mutant: Mutant) -> str:
        same = outcomes[mutant] == "survived" and (mutant.module, mutant.was, mutant.now) in reasons
        return "equivalent" if same else outcomes[mutant]

    lines = [
        head,
        "",
        "| module | drawn | caught | of them by time | equivalent | survived |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    groups = {module: [kind(m) for m in outcomes if m.module == module] for module in OWN_TESTS}
    for name, kinds in {**groups, "**all**": [kind(mutant) for mutant in outcomes]}.items():
        if kinds:
            caught, by_time = len(kinds) - kinds.count("equivalent") - kinds.count("survived"), kinds.count("time")
            numbers = [len(kinds), caught, by_time, kinds.count("equivalent"), kinds.count("survived")]
            lines.append(f"| {name} | {' | '.join(map(str, numbers))} |")
    for title, wanted in (("Survived:", "survived"), ("Equivalent:", "equivalent")):
        chosen = [mutant for mutant in outcomes if kind(mutant) == wanted]
        lines += ["", title, ""] if chosen else []
        for mutant in chosen:
            why = f": {reasons[mutant.module, mutant.was, mutant.now]}" if wanted == "equivalent" else ""
            lines.append(f"- {mutant.module}:{mutant.line} `{mutant.was}` → `{mutant.now}`{why}")
    return "\n".join(lines)


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (", modified" if git("status", "--porcelain", "--", "*.py") else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument("--modules", nargs="+", default=list(OWN_TESTS), choices=OWN_TESTS, metavar="FILE")
    parser.add_argument("--each", type=int, default=8, help="mutants of each module (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once (default 2), in a copy of the tree each")
    parser.add_argument("--write", type=Path, help="a page whose table is replaced; otherwise it is printed")
    parser.add_argument("--list", action="store_true", help="show what is drawn and run nothing")
    arguments = parser.parse_args()
    drawn = {
        module: draw(module, (ROOT / module).read_text(), arguments.each, arguments.seed)
        for module in arguments.modules
    }
    if arguments.list:
        for mutant in itertools.chain(*drawn.values()):
            print(f"{mutant.module}:{mutant.line}  {mutant.was}  ->  {mutant.now}")
        return
    outcomes = Session(arguments.jobs).outcomes(drawn)
    ordered = {mutant: outcomes[mutant] for mutants in drawn.values() for mutant in mutants}
    head = f"Commit {commit()}, seed {arguments.seed}, at most {arguments.each} of each module."
    text = report(ordered, explained(), head)
    write_between(arguments.write, "mutants", f"{text}\n") if arguments.write else print(text)


if __name__ == "__main__":
    main()
