"""Prepare an experiment's corpus: recordings, manifests, reference transcripts. Prints what it holds.

    python -m workflows.prepare --experiment smoke --out results/smoke/data/synth

Where results were taken from elsewhere (`workflows.bring`), the digests of the recordings that they heard are there
already: recordings that are others end the command, after they were written.

Where the length of trainings follows from the corpus, it is known now: so many steps, and how long they will take, from
a step of each system with random weights.
"""

import argparse
import sys
from pathlib import Path

from analysis.scoring.speakers import speakers_file, with_units
from analysis.scoring.trn import read_trn
from analysis.significance.intervals import FEW_UNITS
from asr.corpora.content import content_file, set_content
from asr.corpora.preparation import summary_lines
from common.errors import UserError, run
from common.files import write_json
from common.wording import counted
from workflows.experiment import Experiment, load_experiment
from workflows.experiment.merging import experiment_file
from workflows.identity import Identities, identity
from workflows.part import chosen_part


def heard_elsewhere(experiment: Experiment, folder: Path) -> dict[str, str]:
    """The digests of sets whose recordings are not here, only their content: results that were made elsewhere heard
    them."""
    names = ["train", *experiment.decoded_sets]
    known = [name for name in names if (folder / content_file(name)).is_file()]
    return {name: set_content(folder, name) for name in known if not (folder / f"{name}.jsonl.gz").is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.prepare", description="Prepare an experiment's corpus.")
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the corpus")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)

    from workflows.steps.prepare import prepare_corpus

    made_from = identity(Identities(experiment, arguments.out, arguments.out).data_recipe(), {})
    heard = heard_elsewhere(experiment, arguments.out)
    corpus = prepare_corpus(experiment, arguments.out)
    write_json(arguments.out / "data.identity.json", made_from)
    if others := [name for name, content in heard.items() if set_content(arguments.out, name) != content]:
        raise UserError(
            f"{arguments.out}: the recordings made here are not those that the committed results heard (sets "
            f"{', '.join(others)}), as another processor or another version may give them; `python -m workflows.why "
            f"--experiment {arguments.experiment} --accept all` keeps the results and says so under the tables, "
            "`make reproduce` with FRESH=sources trains them here"
        )
    print("\n".join([*summary_lines(corpus), *few_speakers(experiment, arguments.out)]), flush=True)
    if any(experiment.training_of(name).passes for name in experiment.systems):
        print(foreseen(experiment, str(experiment_file(arguments.experiment)), arguments.out), flush=True)


def few_speakers(experiment: Experiment, data: Path) -> list[str]:
    """What few test speakers, or groups of them, mean, where the corpus names any, in words."""
    if experiment.intervals == "utterances":
        return []
    groups = experiment.corpus.speaker_groups
    paths = [data / f"{name}.trn" for name in experiment.test_sets]
    references = [with_units(read_trn(path), speakers_file(path), groups) for path in paths]
    units = {unit for reference in references for unit in (reference.speakers or {}).values()}
    if not 0 < len(units) < FEW_UNITS:
        return []
    one = (groups.over if groups else "speakers").removesuffix("s")
    return [f"{counted(len(units), one)} in test: claims about error rates get verdicts from {FEW_UNITS} on"]


def foreseen(experiment: Experiment, where: str, data: Path) -> str:
    """How long the trainings of an experiment on prepared data will take, in words."""
    from workflows.steps.preflight import step

    found = [each for each in step(experiment, where, chosen_part(experiment), data) if each.what == "time"]
    return "\n".join(f"training will take {each.needed}; {each.found}; decoding is not foreseen" for each in found)


if __name__ == "__main__":
    sys.exit(run(main))
