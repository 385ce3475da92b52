"""Trials of training recipes: experiments made of a trial, a recipe and a condition, run by the ordinary commands."""

import csv
import dataclasses
import io
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from analysis.scoring.normalise import load_normaliser
from analysis.scoring.score import Scorer
from analysis.scoring.trn import read_trn
from asr.corpora import read_cuts
from asr.tokenizer import Tokenizer
from asr.training_log import read_log
from common.errors import UserError
from common.files import read_json, read_yaml, write_text
from workflows.experiment.merging import merge
from workflows.provenance import commit, processor

ALMOST_ALL = 0.95
"""Blank frames: from here on a model is on the plateau."""
KEY = ("recipe", "conditions", "condition", "system", "seed")
COLUMNS = (
    *KEY,
    *("steps", "units", "quarter_blank", "quarter_nats_a_token", "log_units", "off_plateau", "end_nats_a_token"),
    *("dev_wer_seed", "dev_wer_deep", "test_wer_seed", "test_wer_deep", "seconds", "commit", "processor"),
)


@dataclasses.dataclass(frozen=True)
class Condition:
    """One condition under one recipe: the experiment file that says all of it, and where its corpus is prepared."""

    recipe: str
    conditions: str
    name: str
    experiment: Path
    data: Path
    steps: int
    systems: tuple[str, ...]

    def folder(self, system: str, seed: int) -> Path:
        """Where a system is trained."""
        return self.experiment.with_suffix("") / system / f"seed{seed}"


class Trials:
    """The list of trials in `path`; what they make goes below `out`."""

    def __init__(self, path: Path, out: Path):
        found = read_yaml(path, "list of trials")
        self.trial, self.conditions, self.recipes = found["trial"], found["conditions"], found["recipes"]
        self.out = out

    def recipe(self, name: str) -> dict[str, Any]:
        """What a recipe says of an experiment, with those that it starts from."""
        says = {key: value for key, value in self.recipes[name].items() if key not in ("of", "why")}
        return merge(self.recipe(self.recipes[name]["of"]), says) if "of" in self.recipes[name] else says

    def condition(self, recipe: str, conditions: str, name: str, systems: Iterable[str] = ()) -> Condition:
        """Write the experiment of a recipe under a condition. `systems`: of these alone, all where there are none."""
        says = merge({**self.trial, "corpus": self.conditions[conditions][name]}, self.recipe(recipe))
        for_all = says.pop("foldable", {})
        for system in ("f6", "f4"):
            says["systems"][system] = merge(says["systems"][system], for_all)
        file_name = re.sub(r"\W+", "_", name)
        path = self.out / recipe / conditions / f"{file_name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(says, sort_keys=False))
        data = self.out / "data" / conditions / f"{file_name}_{says['tokenizer']['units']}"
        steps = says["training"]["steps"]
        return Condition(recipe, conditions, name, path, data, steps, tuple(systems or says["systems"]))


def run_trials(conditions: list[Condition], seeds: list[int], quarter: bool, jobs: int, log: Path) -> None:
    """Run what is missing, so many at a time, and write a row a trial into the log as each is done."""
    code = commit()
    with ThreadPoolExecutor(jobs) as pool:
        prepared = {each: pool.submit(_prepare, each) for each in conditions}
        tasks = [(each, system, seed) for seed in seeds for each in conditions for system in each.systems]
        done = [pool.submit(_trial, *task, quarter, prepared[task[0]]) for task in tasks]
        for task, future in zip(tasks, done, strict=True):
            future.result()
            row = row_of(*task, f"{code['commit']}{'+' if code['modified'] else ''}")
            write_rows(log, [row])
            print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def _prepare(condition: Condition) -> None:
    if (condition.data / "inputs.identity.json").exists():
        return
    asked = ["--experiment", str(condition.experiment)]
    _call("workflows.prepare", *asked, "--out", str(condition.data))
    _call("workflows.inputs", *asked, "--data", str(condition.data))


def _trial(condition: Condition, system: str, seed: int, quarter: bool, prepared: Future) -> None:
    prepared.result()
    folder = condition.folder(system, seed)
    asked = ["--experiment", str(condition.experiment), "--system", system, "--data", str(condition.data)]
    if not (folder / "provenance.json").exists():
        stop = condition.steps // 4 if quarter else None
        if stop is None or not _rows_at(folder, stop):
            _call("workflows.train", *asked, "--seed", str(seed), "--out", str(folder), folder=folder, until=stop)
    if not quarter and not (folder / "eval" / "points.json").exists():
        _call("workflows.evaluate", *asked, "--model", str(folder), "--out", str(folder / "eval"))


def _call(module: str, *arguments: str, folder: Path | None = None, until: int | None = None) -> None:
    """Run a command; a training is stopped once its log holds the validation of step `until`. Raises `UserError` with
    what it said."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        while until is not None and child.poll() is None:
            time.sleep(0.1)
            if _rows_at(folder, until) and list(folder.glob("work/stage0/*.pt")):
                child.send_signal(signal.SIGKILL)
        said = child.stderr.read()
    if child.returncode and not (until is not None and child.returncode == -signal.SIGKILL):
        raise UserError(f"{' '.join(command)}: {said.strip()[-2000:]}")


def _rows_at(folder: Path, step: int) -> dict[str, Any]:
    """The validation at a step, of a training that is over or not; empty where it is not there."""
    for path in (folder / "log.jsonl", folder / "work" / "stage0" / "log.jsonl"):
        for row in read_log(path):
            if row["step"] == step and "dev.blank_fraction" in row:
                return row
    return {}


def row_of(condition: Condition, system: str, seed: int, code: str) -> dict[str, Any]:
    """What a trial gave; what was not asked is empty."""
    folder = condition.folder(system, seed)
    steps = condition.steps
    tokenizer = Tokenizer.load(condition.data / "tokenizer.json")
    dev = read_cuts(condition.data / "dev.jsonl.gz")
    tokens = sum(len(tokenizer.encode(each.text)) for each in dev) / len(dev)
    quarter, end = (_rows_at(folder, step) for step in (steps // 4, steps))
    units = len(tokenizer) - 2
    nats, blank = _worst_nats(quarter, tokens), quarter["dev.blank_fraction"]
    row = dict.fromkeys(COLUMNS, "") | {
        **dict(zip(KEY, (condition.recipe, condition.conditions, condition.name, system, seed), strict=True)),
        "steps": steps,
        "units": units,
        "quarter_blank": round(blank, 3),
        "quarter_nats_a_token": round(nats, 3),
        "log_units": round(math.log(units), 3),
        "off_plateau": int(blank < ALMOST_ALL and nats < math.log(units)),
        "seconds": (end or quarter)["seconds"],
        "commit": code,
        "processor": processor(),
    }
    if end:
        row["end_nats_a_token"] = round(_worst_nats(end, tokens), 3)
    if (folder / "eval" / "points.json").exists():
        row |= _rates(condition, folder)
    return row


def _worst_nats(row: dict[str, Any], tokens: float) -> float:
    """The CTC loss a token, of the depth at which it is highest."""
    return max(value for name, value in row.items() if re.fullmatch(r"dev\.((deep|seed)\.)?ctc", name)) / tokens


def _rates(condition: Condition, folder: Path) -> dict[str, float]:
    """WER in per cent at the depths that were trained, lowest and deepest: on dev, and on test of judged ones."""
    points = read_json(folder / "eval" / "points.json")["points"]
    trained = sorted((point for point in points if point["trained"]), key=lambda point: point["depth"])
    scorer = Scorer(load_normaliser("identity-1"))
    rates = {}
    for name in ("dev", "test") if condition.conditions == "judge" else ("dev",):
        reference = read_trn(condition.data / f"{name}.trn")
        for which, point in (("seed", trained[0]), ("deep", trained[-1])):
            heard = read_trn(folder / "eval" / "greedy" / name / f"{point['id']}.trn")
            rates[f"{name}_wer_{which}"] = round(scorer.align(reference, heard).counts.wer, 2)
    return rates


def read_rows(log: Path) -> list[dict[str, str]]:
    """The rows of a log, as texts."""
    return list(csv.DictReader(io.StringIO(log.read_text(encoding="utf-8")))) if log.exists() else []


def write_rows(log: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a log; one of the same trial is replaced."""
    kept = {tuple(row[key] for key in KEY): row for row in read_rows(log)}
    kept |= {tuple(str(row[key]) for key in KEY): row for row in rows}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept.values())
    log.parent.mkdir(parents=True, exist_ok=True)
    write_text(log, text.getvalue())
