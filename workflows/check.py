"""Check an experiment before any work: every method is imported and its settings are validated. Writes
`experiment.json`.

python -m workflows.check --experiment smoke --out results/smoke/experiment.json
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError, run
from common.files import write_json
from workflows.experiment import Experiment, load_experiment
from workflows.experiment.merging import experiment_file
from workflows.identity import Identities, identity
from workflows.normaliser import chosen_normaliser
from workflows.offers import check_offers

if TYPE_CHECKING:
    from asr.backbones import BackboneFactory
    from methods.contract import Method


def check_systems(experiment: Experiment, where: str) -> dict[str, dict]:
    """Make every method (no weights) with its settings; return the full settings of method and backbone by system.

    Raises `UserError` naming file and key.
    """
    rate = corpus_settings(experiment, where).get("sampling_rate")
    # The vocabulary is known after data preparation; no check depends on it.
    methods = checked_methods(experiment, where, rate, lambda system: 3)
    return {
        name: {
            "settings": method.config.model_dump(mode="json"),
            "backbone": {"name": method.backbone.name, "settings": method.backbone.config.model_dump(mode="json")},
        }
        for name, method in methods.items()
    }


def checked_methods(
    experiment: Experiment, where: str, rate: int | None, vocabulary: Callable[[str], int]
) -> "dict[str, Method]":
    """The methods of all systems, without weights, each knowing what it is derived from. `rate` (Hz) is the corpus's,
    where it is known; `vocabulary` gives the number of labels of a system.

    Raises `UserError` naming file and key for settings that do not fit together.
    """
    from asr.backbones import BackboneFactory
    from common.settings import parse
    from methods.contract import load_method, make_method
    from methods.shared.start import Start, check_start

    methods = {}
    for name, entry in experiment.systems.items():
        key = f"{where}: systems.{name}"
        backbone = BackboneFactory(**experiment.backbone_of(name), vocabulary=vocabulary(name), where=f"{key}.backbone")
        _check_family(experiment, name, backbone, rate, key)
        config = parse(load_method(entry.method, key, experiment.packages).Config, entry.settings, f"{key}.settings")
        method = make_method(entry.method, entry.settings, backbone, where=key, packages=experiment.packages)
        try:
            method.check_experiment(experiment.family_of(name).tokenizer)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
        needed = set(method.needs(config).values())
        if not needed <= set(experiment.needs(name)):
            missing = ", ".join(sorted(needed - set(experiment.needs(name))))
            raise UserError(f"{key}.settings: the method needs {missing}; name it as {{system: {missing}}}")
        for other in needed:
            if _inputs(experiment, other) != _inputs(experiment, name):
                raise UserError(f"{key}.settings: '{other}' reads other features than '{name}'")
        if isinstance(start := getattr(config, "start", None), Start):
            source = BackboneFactory(**experiment.backbone_of(start.system), vocabulary=3, where=f"{key}.settings")
            try:
                check_start(start, source.config.layers, backbone.config.layers)
            except UserError as error:
                raise UserError(f"{key}: {error}") from None
        methods[name] = method
    for name in sorted(methods, key=lambda name: len(experiment.lineage(name))):  # a source before what derives from it
        method = methods[name]
        try:
            method.check_sources({role: methods[other] for role, other in method.needs(method.config).items()})
        except UserError as error:
            raise UserError(f"{where}: systems.{name}: {error}") from None
    check_offers(experiment, methods, where)
    return methods


def _check_family(experiment: Experiment, system: str, backbone: "BackboneFactory", rate: Any, key: str) -> None:
    """Backbone, features, tokenizer and decodes of a system fit each other."""
    family, config = experiment.family_of(system), backbone.config
    entry = experiment.systems[system].family
    place = f"families.{entry}." if entry else ""
    if family.features.kind != backbone.module.INPUT:
        raise UserError(
            f"{key}.backbone: {backbone.name} reads {backbone.module.INPUT}, but {place}features.kind is "
            f"{family.features.kind}"
        )
    if family.features.kind == "log_mel" and config.input_dim != family.features.mels:
        raise UserError(
            f"{key}.backbone: input_dim is {config.input_dim}, but {place}features.mels gives {family.features.mels} "
            "features"
        )
    alone = getattr(backbone.module, "BATCH_NORM", False) and not config.mask_padding
    if alone and experiment.training_of(system).batch_norm == "global":
        raise UserError(
            f"{key}.training: batch_norm 'global' is that of real frames, and with backbone.mask_padding false padding "
            "counts too; set mask_padding to true, or batch_norm to 'local'"
        )
    if family.features.kind == "waveform" and rate is not None and config.sampling_rate != rate:
        raise UserError(
            f"{key}.backbone: sampling_rate is {config.sampling_rate}, but the corpus has {rate} Hz; set it to that"
        )
    if hasattr(config, "decoder_layers"):
        if family.tokenizer.units == "letter":
            raise UserError(f"{key}: {place}tokenizer.units 'letter' have no start for {backbone.name}'s decoder")
    else:
        for name, decode in experiment.decodes_of(system).items():
            if decode.kind == "beam":
                raise UserError(
                    f"{key}: decode '{name}' is a beam search, for which {backbone.name} has no decoder; name the "
                    f"others in {place}decodes"
                )


def _inputs(experiment: Experiment, system: str) -> dict[str, Any]:
    """What decides what a system reads, as far as another system could not read it too."""
    features = experiment.family_of(system).features.model_dump()
    return {key: value for key, value in features.items() if key not in ("speed_factors", "store")}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.check", description="Check an experiment before any work."
    )
    parser.add_argument("--experiment", required=True, help="name of a file in config/, or a YAML file")
    parser.add_argument("--out", type=Path, help="write the experiment with all defaults here")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    where = str(experiment_file(arguments.experiment))
    normaliser = chosen_normaliser(experiment, where)
    full = check_systems(experiment, where)
    if arguments.out:
        systems = {name: {**entry, **full[name]} for name, entry in experiment.resolved["systems"].items()}
        corpus = experiment.corpus.model_dump(mode="json") | {"settings": corpus_settings(experiment, where)}
        everything = {"systems": systems, "corpus": corpus, "normaliser": normaliser.model_dump()}
        write_json(arguments.out, {**experiment.resolved, **everything}, in_order=True)  # tables and rows in theirs
        recipe = Identities(experiment, arguments.out.parent).check_recipe()
        write_json(arguments.out.parent / "check.identity.json", identity(recipe, {}))
    else:
        print(
            f"{experiment.name}: settings, methods, depths and paths are in order; recordings were not looked for: "
            f"python -m workflows.preflight --experiment {arguments.experiment}"
        )


def corpus_settings(experiment: Experiment, where: str) -> dict:
    """The corpus's settings with all defaults. Raises `UserError` naming file and key."""
    from asr.corpora import settings_of

    found = settings_of(experiment.corpus.name, experiment.corpus.settings, f"{where}: corpus")
    return found.model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(run(main))
