"""The model card, `README.md`: what the system is, what each depth costs and how well it recognises, how to load it."""

import importlib
import json
from pathlib import Path
from typing import Any

from analysis.inputs.schemas import Costs
from analysis.significance.intervals import LEVEL, wer_interval
from analysis.tables.formats import Column, Table, escape_markdown, markdown_body
from asr.backbones.conformer import Conformer
from methods.contract import Point
from methods.paths import Path as Counts
from methods.paths import format_path
from methods.shared.bitmap import bitmaps
from methods.shared.matrices import packed_matrices
from methods.shared.packed import Packed
from workflows.steps.export.loading import how_to_load
from workflows.steps.export.onnx import OnnxFile
from workflows.steps.export.system import Evaluation, ExportedSystem
from workflows.steps.export.weights import bits_a_weight, packed_alike


def write_card(system: ExportedSystem, out: Path, name: str, onnx: OnnxFile | None, espnet: Counts | None) -> None:
    """Write the card of the files in `out`, a folder that will be called `name`."""
    size = (out / "model.safetensors").stat().st_size
    parts = [
        _front_matter(),
        f"# {system.name}\n",
        _what_it_is(system, size),
        _weights(system, size),
        "## How to load it\n",
        how_to_load(system, out, name, onnx is not None),
        "## Depths\n",
        _depths(system),
        *(["## Other formats\n", _other_formats(system, onnx, espnet)] if onnx or espnet else []),
        "## Where it comes from\n",
        _origin(system),
        "## Licence\n",
        _licence(system),
    ]
    (out / "README.md").write_text("\n".join(parts), encoding="utf-8")


def _front_matter() -> str:
    return "---\nlibrary_name: transformers\npipeline_tag: automatic-speech-recognition\n---\n"


def _what_it_is(system: ExportedSystem, size: int) -> str:
    title = _family_title(system)
    depths = [*system.chosen]
    runs = f"runs at depth {depths[0]}" if len(depths) == 1 else f"runs at depths {', '.join(map(str, depths))}"
    lines = [
        f"A speech recogniser with a {system.method.backbone.name} backbone that {runs}. A depth counts layer "
        f"executions. {_layers(system)}, whose weights are stored once: `model.safetensors` has {size / 1e6:.2f} MB, "
        f"whatever the depth. It expects mono speech at {system.sampling_rate} Hz."
    ]
    if title:
        lines.insert(0, f"{escape_markdown(title)}\n")
    experiment = system.evaluation and system.evaluation.results.experiment
    if experiment and not experiment.evidence:
        lines.append(f"\n**Its numbers are no evidence.** {escape_markdown(experiment.note)}")
    return "\n".join(lines) + "\n"


def _layers(system: ExportedSystem) -> str:
    return "There is one physical layer" if system.module.layers == 1 else f"{system.module.layers} layers are physical"


def _family_title(system: ExportedSystem) -> str:
    """What the experiment says of the system's family, in words; empty where it has none."""
    if system.evaluation is None:
        return ""
    experiment = json.loads((system.evaluation.results.folder / "experiment.json").read_text(encoding="utf-8"))
    family = experiment["systems"][system.name].get("family")
    return experiment.get("families", {}).get(family, {}).get("title", "") if family else ""


def _weights(system: ExportedSystem, size: int) -> str:
    """How the weights are held, and what they take."""
    held = "; ".join(_few_bits(held, parts) for held, parts in packed_alike(system.module).items())
    count = system.method.parameters(system.module, system.offered[0])
    stored = system.method.stored_bytes(system.module, system.offered)
    lines = [f"`model.safetensors` has {size:,} bytes, {stored:,} of them tensors with {count.stored:,} parameters."]
    if held:
        lines.append(f"Packed, scales included: {held}; everything else is float32. They are unpacked when they run.")
    if pruned := list(bitmaps(system.module).values()):
        lines.append(
            f"Of {_matrices(pruned)} the weights that are not zero are stored, in float32, with a bit for each weight: "
            f"{bits_a_weight(pruned):.2f} bits a weight. They are unpacked when they run."
        )
    if len(system.chain) > 1:
        sparse = any(part.m is not None for part in packed_matrices(system.module).values())
        others = "other zeros" if pruned else "zeros"
        zeros = "of N:M matrices only what is kept is stored" if sparse else f"{others} are stored as all others are"
        lines.append(f"{count.nonzero:,} parameters are not zero; {zeros}.")
    return " ".join(lines) + "\n"


def _few_bits(held: str, parts: list[Packed]) -> str:
    return f"{_matrices(parts)} in {held}, {bits_a_weight(parts):.2f} a weight"


def _matrices(parts: list[Any]) -> str:
    return "1 matrix" if len(parts) == 1 else f"{len(parts)} matrices"


def _depths(system: ExportedSystem) -> str:
    """The table: a line for each depth."""
    evaluation = system.evaluation
    costs = evaluation and evaluation.results.costs(evaluation.system, evaluation.seed)
    decode = evaluation.decode if evaluation else None
    test_sets = evaluation.results.experiment.test_sets if decode else []
    rate = evaluation.results.experiment.rate if decode else ""
    columns = [
        Column("depth", "depth"),
        Column("path", "path", numeric=False),
        Column("trained", "trained", numeric=False),
        *[Column(f"wer.{test_set}", f"{rate} % {test_set}") for test_set in test_sets],
        Column("rtf", "real-time factor"),
        Column("memory", "peak memory MB"),
        Column("parameters", "executed parameters"),
    ]
    rows = []
    for depth, point in system.chosen.items():
        row = {"depth": depth, "path": format_path(point.path), "trained": "yes" if point.trained else "no"}
        row |= {f"wer.{test_set}": _wer(evaluation, point, decode, test_set) for test_set in test_sets}
        rows.append(row | _costs(evaluation, costs, point))
    notes = [
        "A path says how often each physical layer runs. Where a depth has several, the one that stands here is the "
        "one that was trained, else the one with the median errors on the development set; model.path takes any of "
        "them.",
        *_notes(system, decode, costs),
    ]
    return markdown_body(Table("depths", "Depths", columns, rows, notes))


def _notes(system: ExportedSystem, decode: str | None, costs: Costs | None) -> list[str]:
    notes = []
    if decode is None:
        notes.append("This system was not evaluated: its word error rates are not known.")
    else:
        experiment = system.evaluation.results.experiment
        settings = experiment.decodes[decode]
        own = "what the pipeline above does" if settings.get("kind") == "greedy" else "not what the pipeline above does"
        notes.append(
            f"{experiment.rate} by '{decode}' ({settings.get('kind')}, {own}), normalised by "
            f"{experiment.normaliser.name}, with {100 * LEVEL:g} % bootstrap intervals over {experiment.resampled}."
        )
    if costs is None:
        notes.append("Its costs were not measured.")
    else:
        notes.append(
            f"Costs of {costs.audio_seconds:g} s of audio on {costs.device}, {costs.threads} thread(s). Real-time "
            "factor: processing time by audio time. 1 MB = 1 000 000 bytes."
        )
    return notes


def _wer(evaluation: Evaluation, point: Point, decode: str, test_set: str) -> str | None:
    """`12.34 [11.20, 13.40]`; None where the point was not decoded."""
    scored = evaluation.scored(point)
    if scored is None or not evaluation.results.decoded(scored, decode, test_set):
        return None
    alignment = evaluation.results.alignment(scored, decode, test_set)
    interval = wer_interval([alignment])
    return f"{alignment.counts.wer:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _costs(evaluation: Evaluation | None, costs: Costs | None, point: Point) -> dict[str, str]:
    """Cells of a point; any measured point of its depth that uses the same layers costs the same."""
    if costs is None:
        return {}
    points = evaluation.results.points(evaluation.system, evaluation.seed).points
    settings = tuple(sorted(point.settings.items()))
    alike = [
        each.id
        for each in points
        if each.path is not None
        and each.settings == settings
        and sum(each.path) == point.depth
        and [count > 0 for count in each.path] == [count > 0 for count in point.path]
    ]
    measured = next((costs.points[each] for each in alike if each in costs.points), None)
    if measured is None:
        return {}
    cells = {"parameters": f"{measured.parameters_executed:,}"}
    if measured.real_time_factor is not None:  # a seed that was timed
        cells["rtf"] = f"{measured.real_time_factor.median:.4f}"
    if measured.peak_memory_bytes is not None:
        cells["memory"] = f"{measured.peak_memory_bytes / 1e6:.1f}"
    return cells


def _other_formats(system: ExportedSystem, onnx: OnnxFile | None, espnet: Counts | None) -> str:
    packed = packed_alike(system.module)
    unpacked = "Its weights are float32, the values that the packed ones stand for. " if packed else ""
    lines = []
    if onnx is not None:
        lines.append(
            f"- `onnx/model.onnx`: depth {sum(onnx.path)}, path `{format_path(onnx.path)}`. Inputs `waveform` (batch, "
            f"samples; float32 at {system.sampling_rate} Hz, zero-padded) and `lengths` (batch, in samples; int64); "
            "outputs `log_probs` (batch, frames, tokens) and `frames` (batch). Features and normalisation are part of "
            f"it. `onnx/tokens.json` has the text of each token. {unpacked}Largest difference of a log-probability "
            f"from torch's: {onnx.largest_difference:.1e}."
        )
    if espnet is not None:
        lines.append(
            f"- `espnet/`: depth {sum(espnet)}, path `{format_path(espnet)}`, with a layer for each execution. It "
            f"reads {system.features.mels} log-mel features, not audio. {unpacked}".rstrip()
        )
    return "\n".join(lines) + "\n"


def _origin(system: ExportedSystem) -> str:
    configuration = system.provenance["configuration"]
    ancestors = [f"'{name}' ({_method(earlier)})" for name, earlier in system.ancestors.items()]
    facts = {
        "System": f"{system.name}, seed {system.seed}"
        + (f", of the experiment '{system.evaluation.results.experiment.name}'" if system.evaluation else ""),
        "Method": _method(configuration),
        "Chain": _chain(system),
        "Settings": f"`{json.dumps(configuration['settings'], sort_keys=True)}`",
        "Began with the weights of": ", which began with those of ".join(ancestors),
        "Objective": _objective(system),
        "Training data": _training_data(system),
        "Code": _code(system),
    }
    return "\n".join(f"- {name}: {text}" for name, text in facts.items() if text) + "\n"


def _chain(system: ExportedSystem) -> str:
    """What was done to it, in order; empty where it is derived from nothing."""
    links = [f"'{name}' ({method.kind}, `{type(method).__module__}`)" for name, method in system.chain]
    return " → ".join(links) if len(links) > 1 else ""


def _method(configuration: dict[str, Any]) -> str:
    """The method's module and the first paragraph of what it says of itself."""
    text, _, _ = (importlib.import_module(configuration["method"]).__doc__ or "").partition("\n\n")
    return f"`{configuration['method']}`: {escape_markdown(text)}"


def _objective(system: ExportedSystem) -> str:
    if isinstance(system.module, Conformer):
        return f"CTC ({system.module.ctc_weight:g}) and attention decoder ({1 - system.module.ctc_weight:g})"
    return "CTC"


def _training_data(system: ExportedSystem) -> str:
    corpus = system.corpus
    train = corpus["sets"].get("train", {})
    size = f", {train['seconds'] / 3600:.2f} h, {train['utterances']} utterances" if train else ""
    speakers = f", {train['speakers']} speakers" if train.get("speakers") else ""
    return f"the training set of '{corpus['name']}'{size}{speakers}, {corpus['sampling_rate']} Hz"


def _code(system: ExportedSystem) -> str:
    provenance = system.provenance
    commit = provenance.get("commit")
    changed = " with changes that were not committed" if provenance.get("modified") else ""
    versions = provenance.get("versions", {})
    named = [f"{name} {versions[name]}" for name in ("torch", "transformers", "espnet") if name in versions]
    return "; ".join(filter(None, [f"commit {commit}{changed}" if commit else "", ", ".join(named)]))


def _licence(system: ExportedSystem) -> str:
    lines = ["The code that made and loads these files is under the Apache Licence 2.0."]
    corpus = system.corpus
    if corpus.get("licence"):
        lines.append(f"The training data, '{corpus['name']}', are under: {escape_markdown(corpus['licence'])}.")
    for configuration in (system.provenance["configuration"], *system.ancestors.values()):
        source, revision = (configuration["settings"].get(key) for key in ("source", "revision"))
        if isinstance(source, str):
            at = f" at revision {revision}" if revision else ""
            lines.append(f"The weights began as the published model `{source}`{at}; its licence holds for them too.")
    lines.append("Whoever passes the weights on has to see to all of these and names a licence for the weights.")
    return "\n".join(lines) + "\n"
