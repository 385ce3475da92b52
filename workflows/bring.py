"""Take the committed results of an experiment as done: the first step of `make reproduce`.

    python -m workflows.bring --experiment mini_cpu

Puts each system of `results/reference/<experiment>` that is not in the results folder there, with the references and
the digests of the recordings that it heard. Nothing is trained, decoded or measured again for it, though its weights
may be missing. Where source code or packages are others than those that made it, the difference is accepted: it is
written into its provenance and stands under the tables. So are features of the same recordings that another processor
rounded otherwise. Where settings or recordings are others, it is not: the run says so before it trains anything, and
`python -m workflows.why --accept SYSTEM` keeps the system all the same.

What is there already is left as it is; what was brought before another was committed is brought again. Nothing is said
where there is nothing to bring.
"""

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

from asr.corpora.content import content_file
from common.errors import run
from workflows.acceptance import accept_today, note_difference
from workflows.accepted import is_brought, is_unsettled, write_brought
from workflows.experiment import Experiment
from workflows.identity import Contents, changes
from workflows.kept import REFERENCE, copy_files, data_files, is_older, piece, unpack
from workflows.not_here import recordings_are_here
from workflows.products import Product
from workflows.runnable import load_runnable
from workflows.why import Plan


def bring(experiment: Experiment, reference: Path, results: Path) -> list[str]:
    """Take what is committed in `reference` into `results`, the experiment's folders; return what was done, in
    lines."""
    committed = [each for each in experiment.trainings if (piece(reference, *each) / "system.json").is_file()]
    missing = [each for each in committed if not (piece(results, *each) / "system.json").is_file()]
    begun = [each for each in missing if (piece(results, *each) / "work").exists()]
    older = [each for each in committed if is_older(piece(results, *each), piece(reference, *each))]
    brought = [each for each in committed if each in older or each in missing and each not in begun]
    lines = [
        f"note: {system}, seed {seed}: a training was begun here; the committed one is left" for system, seed in begun
    ]
    lines += [f"note: {system}, seed {seed}: another was committed since it was brought" for system, seed in older]
    earlier = [each for each in experiment.trainings if is_brought(piece(results, *each)) and each not in older]
    if not brought and not earlier:
        return lines
    bring_data(experiment, reference, results)
    for each in brought:
        unpack(piece(reference, *each), piece(results, *each))
    unsettled = [each for each in (*earlier, *brought) if is_unsettled(piece(results, *each))]
    folders = {piece(results, *each) for each in unsettled}
    accept_what_differs(Plan(experiment, results), folders, {piece(results, *each) for each in earlier} - folders)
    if not folders:
        return lines
    plan = Plan(experiment, results)
    reasons = {name: why for name, why in plan.reasons.items() if plan.products[name].folder in folders}
    others = [f"  {name}: {why}" for name, why in reasons.items() if not why.missing]
    hint = f"  (python -m workflows.why --experiment {experiment.name} --accept all keeps them as they were made)"
    return [*lines, f"{_count(folders)} of {reference}: taken as done", *others, *([hint] if others else [])]


def accept_what_differs(plan: Plan, brought: Collection[Path], earlier: Collection[Path]) -> None:
    """Accept for the systems in the folders `brought` what the checkout has changed, and for these and those that were
    brought `earlier` other features of the same recordings: another processor rounds otherwise."""
    recordings = recordings_are_here(plan.identities.data, plan.experiment.decoded_sets)
    for product in plan.products.values():
        if product.folder in brought or product.folder in earlier:
            _accept(product, product.folder, product.folder in brought)
        elif not recordings and product.kind.startswith(("data", "inputs")):
            _accept(product, plan.identities.data, bool(brought))
    for folder in brought:
        write_brought(folder, settled=True)


def bring_data(experiment: Experiment, reference: Path, results: Path) -> None:
    """Take references and digests into `results`, unless the corpus was prepared there."""
    corpus = experiment.corpus.name
    source, target = reference / "data" / corpus, results / "data" / corpus
    if (target / "corpus.json").is_file() or (target / content_file("train")).is_file():
        return
    copy_files(source, target, data_files(experiment, source))


def _accept(product: Product, folder: Path, checkout: bool) -> None:
    """Accept what differs of a product, if that is features of the same recordings, and with `checkout` what the
    checkout runs."""
    if product.written is None or not (found := changes(product.written, product.today)):
        return
    earlier, today = product.written, product.today
    same = earlier["recipe"]["settings"] == today["recipe"]["settings"]
    same = same and (checkout or earlier["recipe"] == today["recipe"])
    if same and _without_features(earlier["contents"]) == _without_features(today["contents"]):
        accept_today(product, folder)
        if product.system:
            note_difference(folder, product.kind, found)


def _without_features(contents: Contents) -> Contents:
    """What was read, features and their statistics apart."""
    names = {name: Path(name).name for name in contents}
    return {key: contents[key] for key, name in names.items() if not name.startswith(("features_", "cmvn."))}


def _count(folders: Collection[Path]) -> str:
    systems = {folder.parent.name for folder in folders}
    return f"{len(folders)} training{'s' * (len(folders) > 1)} of {len(systems)} system{'s' * (len(systems) > 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.bring", description="Take the committed results of an experiment as done."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all results")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder of all committed results")
    arguments = parser.parse_args()
    experiment = load_runnable(arguments.experiment)
    lines = bring(experiment, arguments.reference / experiment.name, arguments.results / experiment.name)
    sys.stderr.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(run(main))
