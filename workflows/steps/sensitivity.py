"""Leave-one-out sensitivity: all variants of a model with one layer left out, decoded together.

Variants share what they have in common: the front end, and all layers before the one that is missing. Twelve layers
need 78 layer executions for the full model and the twelve variants, where twelve full evaluations need 144.
"""

from collections.abc import Sequence
from pathlib import Path

from analysis.scoring.counts import Counts
from analysis.scoring.trn import write_trn
from asr.backbones import Backbone
from asr.settings import DecodeSettings
from common.errors import UserError
from common.files import write_json
from methods.contract import Point
from methods.paths import Path as LayerPath
from methods.paths import format_path
from workflows.experiment import Experiment
from workflows.steps.choice import counts_of
from workflows.steps.evaluate import Decoder
from workflows.steps.opened import open_trained
from workflows.systems import load_description

SCHEMA = 1
FULL = "full"


def leave_one_out(layers: int) -> list[Point]:
    """The full model, then one point for each layer that is left out, named by its number from 1."""
    ones = (1,) * layers
    paths: dict[str, LayerPath] = {FULL: ones}
    paths |= {f"without_{layer:02d}": ones[: layer - 1] + (0,) + ones[layer:] for layer in range(1, layers + 1)}
    return [Point(name, format_path(path), path, offered=False) for name, path in paths.items()]


def drop_order(errors: Sequence[int]) -> list[int]:
    """Layers, numbered from 1, by the errors made without them: the fewest first; of equals the later layer."""
    return sorted(range(1, len(errors) + 1), key=lambda layer: (errors[layer - 1], -layer))


def measure_sensitivity(experiment: Experiment, name: str, data_folder: Path, model: Path, out: Path) -> None:
    """Write the counts of the full model and of each variant, and the drop order, to `out`.

    Raises `UserError` for a system whose layers cannot be left out, or that is no recogniser.
    """
    system, data, device = open_trained(experiment, name, data_folder, model, [experiment.dev_set])
    if not isinstance(system.module, Backbone) or system.module.layers < 2:
        raise UserError(f"{model}: sensitivity needs a model with several layers to leave out")
    if not system.method.points(system.module):
        raise UserError(
            f"{model}: '{name}' recognises nothing yet; fine-tune it with a CTC layer and measure that system"
        )
    points = leave_one_out(system.module.layers)
    decode = DecodeSettings(kind="greedy")
    decoder = Decoder(system, data, decode, experiment.decoding_batch_seconds_of(name), device)
    words = decoder.decode(experiment.dev_set, points)
    references = {utterance.id: utterance.text for utterance in data.utterances(experiment.dev_set)}
    counts: dict[str, Counts] = {
        point: counts_of(references, found, experiment.score) for point, found in words.items()
    }
    folder = out.with_suffix("")
    for point, found in words.items():
        write_trn(folder / f"{point}.trn", list(found.items()))
    variants = [counts[point.id] for point in points if point.id != FULL]
    content = {
        "schema": SCHEMA,
        **load_description(model),
        "decode": decode.kind,
        "set": experiment.dev_set,
        "full": counts[FULL].to_json(),
        "without": [{"layer": layer, **found.to_json()} for layer, found in enumerate(variants, start=1)],
        "drop_order": drop_order([found.errors for found in variants]),
    }
    write_json(out, content)
