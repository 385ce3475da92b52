"""Decoding one system: encoder outputs of all points through what they share, then every decode that applies to it."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from analysis.trn import write_trn
from asr.decoding import greedy
from asr.settings import DecodeSettings
from common.files import write_json
from methods.contract import Point, TrainedSystem, all_points
from workflows.data import PreparedData, open_data
from workflows.experiment import Experiment
from workflows.steps.choice import table_points
from workflows.systems import load_description, load_system

SCHEMA = 1
Transcripts = dict[str, dict[str, str]]
"""Point id -> utterance id -> words."""


def evaluate_system(experiment: Experiment, name: str, data_folder: Path, model: Path, out: Path) -> None:
    """Decode system `name`; nothing is written before everything is decoded."""
    torch.set_num_threads(experiment.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    system = load_system(model, device, experiment.packages)
    data = open_data(experiment, name, data_folder)
    points = all_points(system.method, system.module, experiment.further_paths(name))
    sets = experiment.decoded_sets
    references = {each: {u.id: u.text for u in data.utterances(each)} for each in sets}
    decoded: dict[str, dict[str, Transcripts]] = {}
    # A model that recognises nothing yet has no points, and nothing is decoded.
    for decode, settings in experiment.decodes_of(name).items() if points else ():
        chosen = points
        if settings.points == "tables":
            first = next(iter(decoded.values()), None) or {}
            chosen = table_points(experiment, name, points, first, references) if first else points
        decoder = Decoder(system, data, settings, experiment.decoding_batch_seconds(name), device)
        decoded[decode] = {each: decoder.decode(each, chosen) for each in sets}
    _write(experiment, model, points, decoded, references, data_folder, out)


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
        self.searches: dict[str, Any] = {}

    @torch.inference_mode()
    def decode(self, name: str, points: list[Point]) -> dict[str, dict[str, str]]:
        """Words of each utterance of a set at each point."""
        speech = self.data.speech_set(name, labelled=False)
        speech.examples = speech.examples[: self.settings.utterances]
        found: Transcripts = {point.id: {} for point in points}
        method, module = self.system.method, self.system.module
        for indices in speech.order(self.batch_seconds).in_order():
            batch = speech.batch(indices, self.device, labelled=False)
            for point, encoded in method.encode_points(module, batch.inputs, batch.input_lengths, points):
                ids = self._token_ids(point, encoded)
                found[point.id] |= dict(zip(batch.ids, map(self.data.tokenizer.decode, ids), strict=True))
        in_order = [example.utterance.id for example in speech.examples]
        return {point: {utterance: words[utterance] for utterance in in_order} for point, words in found.items()}

    def _token_ids(self, point: Point, encoded: Any) -> Iterable[list[int]]:
        recogniser = self.system.method.at(self.system.module, point)
        if self.settings.kind == "greedy":
            return greedy(recogniser.ctc_log_probs(encoded), encoded.lengths)
        if point.id not in self.searches:
            from asr.backbones.conformer_search import BeamSearch  # loads ESPnet, which greedy decoding may not need

            self.searches[point.id] = BeamSearch(recogniser.scorers(), self.data.tokenizer, self.settings, self.device)
        search = self.searches[point.id]
        lengths = encoded.lengths.tolist()
        return [search(frames[:length]) for frames, length in zip(encoded.frames, lengths, strict=True)]


def _write(
    experiment: Experiment,
    model: Path,
    points: list[Point],
    decoded: dict[str, dict[str, Transcripts]],
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
            decodes[decode] = {"settings": experiment.decodes[decode].model_dump(), "sets": {}}
            for name, transcripts in sets.items():
                reference = data_folder / f"{name}.trn"
                if experiment.decodes[decode].utterances is not None:
                    reference = out / decode / f"{name}.reference.trn"
                    first = next(iter(transcripts.values()))
                    write_trn(stage / decode / reference.name, [(each, references[name][each]) for each in first])
                for point, words in transcripts.items():
                    write_trn(stage / decode / name / f"{point}.trn", list(words.items()))
                utterances = len(next(iter(transcripts.values()), {}))
                entry = {"reference": str(reference), "points": list(transcripts), "utterances": utterances}
                decodes[decode]["sets"][name] = entry
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
