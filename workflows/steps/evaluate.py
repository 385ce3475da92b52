"""Decoding one system: encoder outputs of all points through what they share, then every decode that applies to it."""

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analysis.scoring.trn import write_trn
from asr.backbones import Encoded
from asr.corpora import Utterance
from asr.decoding import greedy
from asr.precision import precision_of
from asr.search import BeamSearch
from asr.settings import DecodeSettings, Precision
from asr.tokenizer import Tokenizer
from common.errors import UserError
from common.files import sha256, write_json
from methods.contract import Point, TrainedSystem, all_points
from workflows.data import PreparedData
from workflows.experiment import Experiment
from workflows.steps.choice import Choice, Chooser, table_points, wanted_points
from workflows.steps.opened import open_trained
from workflows.systems import load_description

SCHEMA = 2
Transcripts = dict[str, dict[str, str]]
"""Point id -> utterance id -> words."""


def evaluate_system(experiment: Experiment, name: str, data_folder: Path, model: Path, out: Path) -> None:
    """Decode system `name`; nothing is written before everything is decoded."""
    sets = experiment.decoded_sets
    system, data, device = open_trained(experiment, name, data_folder, model, sets)
    offered = all_points(system.method, system.module, experiment.further_paths(name))
    points = wanted_points(experiment, name, offered) if experiment.systems[name].evaluate == "rows" else offered
    references = {each: {u.id: u.text for u in data.utterances(each)} for each in sets}
    chooser = Chooser(experiment, offered, references)
    decoded: dict[str, dict[str, Transcripts]] = {}
    choices: dict[str, list[Choice]] = {}
    # A model that recognises nothing yet has no points, and nothing is decoded.
    for decode, settings in covering_first(experiment.decodes_of(name)) if points else ():
        shown = points
        if settings.points == "own_tables":
            shown = table_points(experiment, name, points, chooser.chosen, experiment.rows_of(name, decode))
        elif settings.points == "tables" and decoded:
            shown = table_points(experiment, name, points, chooser.chosen)
        if not shown:
            raise UserError(
                f"{experiment.name}: decodes.{decode}: no table row names a point that '{name}' has; it is decoded at "
                f"{', '.join(point.label for point in points)}"
            )
        decoder = Decoder(system, data, settings, experiment.decoding_batch_seconds_of(name), device)
        decoded[decode] = {each: decoder.decode(each, shown) for each in sets}
        choices[decode] = chooser.choose(decode, decoded[decode])
    _write(experiment, model, offered, decoded, choices, references, data_folder, out)


def covering_first(decodes: dict[str, DecodeSettings]) -> list[tuple[str, DecodeSettings]]:
    """Decodes that cover all points before those of table points, whose paths they choose. Where none covers all
    points, the first one does."""
    return sorted(decodes.items(), key=lambda item: ["all", "tables", "own_tables"].index(item[1].points))


class Decoder:
    """One decode of one system."""

    def __init__(
        self,
        system: TrainedSystem,
        data: PreparedData,
        settings: DecodeSettings,
        batch_seconds: float,
        device: torch.device,
    ):
        self.system, self.data, self.settings, self.device = system, data, settings, device
        self.batch_seconds = batch_seconds
        self.known: dict[Utterance, dict[str, str]] = {}
        """What was decoded already: words by point."""

    @torch.inference_mode()
    def decode(self, name: str, points: list[Point]) -> Transcripts:
        """Words of each utterance of a set at each point. Utterances of a set that was decoded before are taken from
        there, if it was at the same points."""
        speech = self.data.speech_set(name, labelled=False)
        chosen = sorted(speech.round_the_speakers()[: self.settings.utterances])
        wanted = [speech.examples[index].utterance for index in chosen]
        missing = {each for each in wanted if not {point.id for point in points} <= self.known.get(each, {}).keys()}
        speech.keep([index for index, utterance in zip(chosen, wanted, strict=True) if utterance in missing])
        method, module = self.system.method, self.system.module
        for indices in speech.order(self.batch_seconds).in_order():
            batch = speech.batch(indices, self.device, labelled=False)
            utterances = [speech.examples[index].utterance for index in indices]
            encodings = method.encode_points(module, batch.inputs, batch.input_lengths, points)
            encodings = in_precision(encodings, self.settings.precision, self.device)
            for point, ids in self._greedy(encodings) if self.settings.kind == "greedy" else self._beam(encodings):
                for utterance, words in zip(utterances, map(self.data.tokenizer.decode, ids), strict=True):
                    self.known.setdefault(utterance, {})[point.id] = words
        return {point.id: {each.id: self.known[each][point.id] for each in wanted} for point in points}

    def _greedy(self, encodings: Iterable[tuple[Point, Encoded]]) -> Iterator[tuple[Point, list[list[int]]]]:
        for point, encoded in encodings:
            recogniser = self.system.method.at(self.system.module, point)
            yield point, greedy(recogniser.ctc_log_probs(encoded), encoded.lengths)

    def _beam(self, encodings: Iterable[tuple[Point, Encoded]]) -> Iterator[tuple[Point, list[list[int]]]]:
        def scorers(point: Point) -> dict[str, Any]:
            return self.system.method.at(self.system.module, point).scorers()

        return search_together(encodings, scorers, self.data.tokenizer, self.settings)


def search_together(
    encodings: Iterable[tuple[Point, Encoded]],
    scorers_of: Callable[[Point], dict[str, Any]],
    tokenizer: Tokenizer,
    settings: DecodeSettings,
) -> Iterator[tuple[Point, list[list[int]]]]:
    """Token ids of the utterances of a batch at each point. Points that have decoder and CTC layer in common are
    searched together."""
    together: dict[tuple[int, int], tuple[BeamSearch, list[tuple[Point, list[Tensor]]]]] = {}
    for point, encoded in encodings:
        search = BeamSearch(scorers_of(point), tokenizer, settings)
        search, outputs = together.setdefault((id(search.decoder), id(search.ctc)), (search, []))
        lengths = encoded.lengths.tolist()
        outputs.append((point, [row[:length] for row, length in zip(encoded.frames, lengths, strict=True)]))
    for search, outputs in together.values():
        found = iter(search([frames for _, utterances in outputs for frames in utterances]))
        for point, utterances in outputs:
            yield point, [next(found).tokens for _ in utterances]


def in_precision(
    encodings: Iterable[tuple[Point, Encoded]], precision: Precision, device: torch.device
) -> Iterator[tuple[Point, Encoded]]:
    """Encoder outputs that are made in `precision`, for labels that are found from float32."""
    encodings = iter(encodings)
    while True:
        with precision_of(precision, device):
            point, encoded = next(encodings, (None, None))
        if point is None:
            return
        yield point, dataclasses.replace(encoded, frames=encoded.frames.float())


def _write(
    experiment: Experiment,
    model: Path,
    points: list[Point],
    decoded: dict[str, dict[str, Transcripts]],
    choices: dict[str, list[Choice]],
    references: dict[str, dict[str, str]],
    data_folder: Path,
    out: Path,
) -> None:
    """Everything beside its place first, so that a full disk leaves an earlier evaluation as it was; `points.json` goes
    first and comes last: its existence means that all transcripts are there."""
    description = load_description(model)
    stage = out / ".writing"
    shutil.rmtree(stage, ignore_errors=True)
    decodes: dict[str, Any] = {}
    try:
        for decode, sets in decoded.items():
            settings = experiment.decodes[decode].model_dump()
            chosen = [choice.to_json() for choice in choices[decode]]
            decodes[decode] = {"settings": settings, "choices": chosen, "sets": {}}
            for name, transcripts in sets.items():
                reference = data_folder / f"{name}.trn"
                if experiment.decodes[decode].utterances is not None:
                    reference = out / decode / f"{name}.reference.trn"
                    first = next(iter(transcripts.values()))
                    write_trn(stage / decode / reference.name, [(each, references[name][each]) for each in first])
                for point, words in transcripts.items():
                    write_trn(stage / decode / name / f"{point}.trn", list(words.items()))
                written = stage / decode / reference.name
                decodes[decode]["sets"][name] = {
                    "reference": str(reference),
                    "reference_sha256": sha256(written if written.exists() else reference),
                    "points": list(transcripts),
                    "sha256": {point: sha256(stage / decode / name / f"{point}.trn") for point in transcripts},
                    "utterances": len(next(iter(transcripts.values()), {})),
                }
        listed = _listed(points)
        write_json(stage / "points.json", {"schema": SCHEMA, **description, "points": listed, "decodes": decodes})
        (out / "points.json").unlink(missing_ok=True)
        for folder in out.iterdir():  # decodes of an earlier experiment file among them
            if folder.is_dir() and folder != stage:
                shutil.rmtree(folder)
        for decode in decoded:
            (stage / decode).replace(out / decode)
        (stage / "points.json").replace(out / "points.json")
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _listed(points: list[Point]) -> list[dict[str, Any]]:
    return [
        {
            "id": point.id,
            "label": point.label,
            "path": None if point.path is None else list(point.path),
            "depth": point.depth,
            "settings": dict(point.settings),
            "offered": point.offered,
            "trained": point.trained,
        }
        for point in points
    ]
