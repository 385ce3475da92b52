"""The trials of training recipes: their list, the real command on a tiny one, and the page."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from asr.training_log import read_log
from workflows.experiment import load_experiment
from workflows.recipe import LIST, LOG
from workflows.steps.recipe_page import PAGE, tables
from workflows.steps.recipe_trials import ALMOST_ALL, Trials, read_rows

TRIALS = yaml.safe_load(LIST.read_text())
RUN = {"sampling_rate": 8000, "voices": {"train": 2, "dev": 1, "test": 1}, "train": {"utterances": 12}}
TINY = {"name": "synth", "settings": {**RUN, "dev": {"utterances": 3}, "test_sets": {"test": {"utterances": 2}}}}


def test_judged_conditions_are_eight_others_and_real_speech_is_only_judged():
    tune, judge = TRIALS["conditions"]["tune"], TRIALS["conditions"]["judge"]
    tuned = {row["recipe"] for row in read_rows(LOG) if row["conditions"] == "tune"}
    assert len(tune) == len(judge) == 8 and 1 < len(tuned) <= 8 and tuned <= set(TRIALS["recipes"])
    assert not set(tune) & set(judge)
    assert [name for name, corpus in judge.items() if corpus["name"] == "fsdd"] == ["real digits 8k"]
    assert {corpus["name"] for corpus in tune.values()} == {"synth"}
    seeds = [
        {corpus["settings"].get("seed", 0) for corpus in each.values() if corpus["name"] == "synth"}
        for each in (tune, judge)
    ]
    assert seeds == [{0}, {1}], "other voices and texts"


def test_every_recipe_is_a_whole_experiment_and_follows_no_condition(tmp_path):
    trials = Trials(LIST, tmp_path)
    for recipe in trials.recipes:
        says = []
        for conditions, names in trials.conditions.items():
            for name in names:
                path = trials.condition(recipe, conditions, name).experiment
                says.append({key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "corpus"})
        assert all(each == says[0] for each in says)
        load_experiment(str(path))


def test_the_recipe_that_experiments_extend_is_one_that_was_judged(tmp_path):
    chosen, trials = yaml.safe_load(Path("config/recipe.yaml").read_text()), Trials(LIST, tmp_path)
    own = {"share_prefix": True, **trials.recipe("seed_first")["foldable"]["settings"]}
    assert [chosen["systems"][name]["settings"] for name in ("f8", "f6", "f4")] == [own] * 3
    tried = trials.recipe("seed_first")
    assert chosen["tokenizer"] == tried["tokenizer"]
    assert chosen["backbone"]["settings"] == tried["backbone"]["settings"]
    size = {"steps", "validate_every", "checkpoint_every"}
    assert chosen["training"] == {key: value for key, value in tried["training"].items() if key not in size}
    judged = [row for row in read_rows(LOG) if row["conditions"] == "judge" and row["recipe"] == "seed_first"]
    assert len({row["condition"] for row in judged}) == 8 and {row["seed"] for row in judged} == {"0", "1", "2"}


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A training of 12 steps that is stopped at a quarter, long before its end, and then gone on with."""
    folder = tmp_path_factory.mktemp("trials")
    content = {**TRIALS, "conditions": {"tune": {}, "judge": {"two voices": TINY}}}
    content["trial"] = {
        **content["trial"],
        "training": {**content["trial"]["training"], "steps": 12, "validate_every": 3},
    }
    content["trial"]["training"] |= {"batch_seconds": 6, "checkpoint_every": 3}
    (folder / "list.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "workflows.recipe", "--recipe", "char", "--conditions", "judge", "--systems", "f4"]
    command += ["--list", str(folder / "list.yaml"), "--out", str(folder / "out"), "--log", str(folder / "log.csv")]
    rows = []
    for until in ("quarter", "end"):
        subprocess.run([*command, "--until", until], check=True, capture_output=True)
        rows.append(read_rows(folder / "log.csv"))
    return folder, rows


def test_a_trial_stops_at_a_quarter_and_goes_on_to_the_end(tried):
    folder, (quarter, end) = tried
    assert len(quarter) == len(end) == 1, "the row of a trial is replaced"
    (before,), (after,) = quarter, end
    assert before["test_wer_deep"] == "" and before["end_nats_a_token"] == ""
    assert float(after["test_wer_deep"]) > 0 and float(after["end_nats_a_token"]) > 0
    assert after["quarter_nats_a_token"] == before["quarter_nats_a_token"]
    (log,) = folder.glob("out/char/judge/two_voices/f4/seed0/log.jsonl")
    first = next(row for row in read_log(log) if row["step"] == 3 and "dev.blank_fraction" in row)
    tokens = sum(len(text) for text in transcripts(folder)) / 3
    nats = max(first["dev.deep.ctc"], first["dev.seed.ctc"]) / tokens
    assert float(after["quarter_nats_a_token"]) == pytest.approx(nats, abs=1e-3)
    off = first["dev.blank_fraction"] < ALMOST_ALL and nats < math.log(int(after["units"]))
    assert after["off_plateau"] == str(int(off))


def transcripts(folder: Path) -> list[str]:
    """What is said on dev, a space counting as one character, as the tokenizer counts."""
    (path,) = folder.glob("out/data/judge/two_voices_char/dev.trn")
    return [line.rsplit(" (", 1)[0] for line in path.read_text().splitlines()]


def test_the_page_is_what_the_log_says():
    assert tables(read_rows(LOG)) in PAGE.read_text()


def test_a_row_on_the_plateau_is_bold_and_counted():
    names = ("recipe", "conditions", "condition", "system", "seed", "units", "log_units", "commit", "processor")
    row = dict(zip(names, ("r", "tune", "c", "f6", "0", "27", "3.3", "abcdefgh", "P"), strict=True))
    good = {**row, "quarter_blank": "0.5", "quarter_nats_a_token": "2.0", "off_plateau": "1"}
    bad = {**row, "system": "a12", "quarter_blank": "0.99", "quarter_nats_a_token": "3.5", "off_plateau": "0"}
    good, bad = ({**each, "seconds": seconds} for each, seconds in ((good, "10.5"), (bad, "9.1")))
    text = tables([good, bad, {**bad, "recipe": "r2"}])
    assert "2 trainings, P, commits abcdefg" in text, "of two recipes that agree on the baseline it is one"
    assert "| c | 3.3 | **99 % 3.5** · 50 % 2.0 | **99 % 3.5** |" in text
    assert "| off the plateau |  | 1 of 2 | 0 of 1 |" in text
