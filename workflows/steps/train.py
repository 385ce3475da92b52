"""Training one system: the stages of its method through the one training loop."""

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.backbones import BackboneFactory, Batch
from asr.batch_norm import statistics_of
from asr.checkpoints import load_stage, save_stage
from asr.corpora.content import check_audio
from asr.loader import load
from asr.precision import what_runs
from asr.processes import ended_together
from asr.seeds import seed_step
from asr.settings import TrainingSettings
from asr.training import make_fabric, run_stage
from asr.training_log import read_log
from common.errors import UserError
from common.files import sha256, write_json, write_text
from common.settings import parse
from methods.contract import Method, Stage, Step, load_method, make_method
from workflows.accepted import FILE as ACCEPTED
from workflows.data import PreparedData, keep_for_validation, leave_out_too_long, open_data, training_on
from workflows.experiment import Experiment
from workflows.experiment.decides import training_configuration
from workflows.identity import Identities, identity
from workflows.provenance import commit, describe_run
from workflows.steps.stage_batches import stage_data
from workflows.steps.statistics import settle_statistics
from workflows.systems import load_inputs, save_system


@ended_together()
def train_system(
    experiment: Experiment, name: str, seed: int, data_folder: Path, out: Path, folders: dict[str, Path]
) -> None:
    """Train system `name` and write model, description, log and provenance into `out`; `folders` holds its inputs."""
    began, code = time.monotonic(), commit()
    torch.set_num_threads(experiment.threads)
    entry, where = experiment.systems[name], f"{experiment.name}: systems.{name}"
    check_audio(data_folder, ("train", experiment.dev_set))
    data = open_data(experiment, name, data_folder)
    training = training_on(experiment, name, data)
    fabric = make_fabric(training)
    backbone = BackboneFactory(
        **experiment.backbone_of(name), vocabulary=len(data.tokenizer), where=f"{where}.backbone"
    )
    kind = load_method(entry.method, where, experiment.packages)
    needs = kind.needs(parse(kind.Config, entry.settings, f"{where}.settings"))
    inputs = load_inputs(needs, folders, fabric.device, experiment.packages)
    method = make_method(entry.method, entry.settings, backbone, inputs, where, experiment.packages)
    identities = Identities(experiment, out.parent, data_folder)
    # Data, sources or an input system that were made anew are another identity too.
    made_from = identity(identities.training_recipe(name), identities.training_contents(name, folders))
    fingerprint = _plain({"identity": made_from, "seed": seed})
    work = out / "work"
    earlier = _seconds_so_far(work)
    run = _Run(fabric, method, data, training, experiment.dev_set, data.features.speed_factors, seed, work)
    module = run.all_stages(fingerprint).eval()
    frozen = sorted(name for name, parameter in module.named_parameters() if not parameter.requires_grad)
    seed_step(seed, "finish", 0, 0)
    calibration = Stage("finish", training)
    module = method.finish(module, _fixed_batches(data, method, module, calibration, fabric.device))
    if fabric.is_global_zero:
        running = statistics_of(module)
        statistics = settle_statistics(method, module, data, training, seed, experiment.statistics == "again")
        settings = method.config.model_dump(mode="json")
        description = {"name": name, "seed": seed, "method": entry.method, "settings": settings, "frozen": frozen}
        description["steps"] = _steps(method, training)
        save_system(out, module, method, {**description, "vocabulary": len(data.tokenizer)}, running)
        device = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "cpu"
        facts = describe_run(code, device, experiment.threads, earlier + time.monotonic() - began)
        configuration = {
            **training_configuration(experiment, name),
            "training": training.model_dump(mode="json"),
            "corpus": {"name": data.corpus["name"], "settings": data.corpus["settings"]},
            "backbone": {"name": backbone.name, "settings": backbone.config.model_dump(mode="json")},
            "settings": settings,
            "data": {file: sha256(data_folder / file) for file in experiment.input_files(entry.family)},
            "drop_orders": {role: system.drop_order for role, system in inputs.items()},
        }
        precision = describe_precision(method, training, fabric.device)
        made = {"identity": made_from, "configuration": configuration, "statistics": statistics, "seed": seed}
        _finish_files(out, work, {**made, "precision": precision, **facts})
    fabric.barrier()


def _steps(method: Method, training: TrainingSettings) -> int:
    """Steps of the last stage, after those of the system that this one derives from."""
    stages = method.stages(training)
    return method.source_steps + (stages[-1].training.steps if stages else 0)


@dataclasses.dataclass
class _Run:
    """The stages of one system."""

    fabric: Fabric
    method: Method
    data: PreparedData
    training: TrainingSettings
    dev_set: str
    speeds: list[float]
    seed: int
    work: Path

    def all_stages(self, fingerprint: dict[str, Any]) -> nn.Module:
        """Run what is not yet done. A finished stage leaves `stage<n>.pt`, from which a resumed run goes on."""
        seed_step(self.seed, "build", 0, 0)
        module = self.method.build()
        for number, stage in enumerate(self.method.stages(self.training)):
            expected = {**fingerprint, "stage": stage.name}
            seed_step(self.seed, f"begin {stage.name}", 0, 0)
            done = self.work / f"stage{number}.pt"
            if done.exists():
                module = load_stage(done, self.method.rebuild, expected)
                continue
            module = module.to(self.fabric.device)
            fixed = _fixed_batches(self.data, self.method, module, stage, self.fabric.device)
            with contextlib.closing(fixed):  # who reads them ahead is not to stay for the length of the stage
                module = self.method.begin_stage(module, stage, fixed)
            self._run(module, stage, self.work / f"stage{number}", expected)
            if self.fabric.is_global_zero:
                save_stage(done, module, self.method.architecture(module), expected)
            self.fabric.barrier()
        return module.to(self.fabric.device)

    def _run(self, module: nn.Module, stage: Stage, folder: Path, fingerprint: dict[str, Any]) -> None:
        speeds = tuple(self.speeds) if stage.set == "train" else (1.0,)
        padding = stage.training.pad_to_seconds
        train = self.data.speech_set(stage.set, stage.labelled, speeds, padding)
        dev = self.data.speech_set(self.dev_set, stage.labelled, pad_to_seconds=padding)
        keep_for_validation(dev, stage.training.validation_seconds)  # first: the same for all systems of a family
        for speech, name in ((train, stage.set), (dev, self.dev_set)):
            said = self.fabric.is_global_zero
            leave_out_too_long(speech, lambda lengths: self.method.output_lengths(module, lengths), name, say=said)
        if not len(train):
            raise UserError(f"set '{stage.set}': no utterance is long enough for its transcript")
        batches = stage_data(train, dev, stage.training, self.seed, self.fabric.device, stage.labelled)
        objective = _AtStage(self.method, stage, self.seed)
        run_stage(self.fabric, module, objective, batches, stage.training, self.seed, folder, fingerprint, stage.name)


@dataclasses.dataclass
class _AtStage:
    """A method at one of its stages, as the training loop's objective."""

    method: Method
    stage: Stage
    seed: int

    def losses(
        self, module: nn.Module, batch: Batch, index: int, micro_batch: int, rank: int, training: bool
    ) -> dict[str, Tensor]:
        return self.method.losses(module, batch, self._step(index, training, micro_batch, rank))

    def after_step(self, module: nn.Module, index: int) -> None:
        self.method.after_step(module, self._step(index))

    def selection_term(self, terms: Collection[str]) -> str:
        return self.method.selection_term(terms)

    def parameter_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        return self.method.parameter_groups(module, self.stage)

    def _step(self, index: int, training: bool = True, micro_batch: int = 0, rank: int = 0) -> Step:
        settings = self.stage.training
        place = (index, self.seed, training, micro_batch, rank, settings.steps)
        return Step(self.stage.name, *place, same_layers=settings.batch_norm == "global")


def describe_precision(method: Method, training: TrainingSettings, device: torch.device) -> dict[str, Any]:
    """The precision that was asked for, and by stage what the device ran; no stage where nothing was trained."""
    ran = {stage.name: what_runs(stage.training.precision, device) for stage in method.stages(training)}
    return {"asked": training.precision, "ran": ran, "device": device.type}


def _seconds_so_far(work: Path) -> float:
    """Training seconds of earlier, interrupted processes, as far as their logs tell."""
    logs = [read_log(path) for path in work.glob("stage*/log.jsonl")]
    return sum(rows[-1]["seconds"] for rows in logs if rows)


def _fixed_batches(
    data: PreparedData, method: Method, module: nn.Module, stage: Stage, device: torch.device
) -> Iterator[Batch]:
    """Training batches in a fixed order that goes round the speakers, read lazily: as many as a method takes."""
    training = stage.training
    speech = data.speech_set(stage.set, stage.labelled, pad_to_seconds=training.pad_to_seconds)
    leave_out_too_long(speech, lambda lengths: method.output_lengths(module, lengths), stage.set)
    order = speech.order(training.batch_seconds, training.buckets, batch_utterances=training.batch_utterances)
    yield from load(speech, order.cut(speech.round_the_speakers()), device, stage.labelled, training)


def _finish_files(out: Path, work: Path, provenance: dict[str, Any]) -> None:
    """Log and provenance beside the model, provenance last; the checkpoints are no longer needed."""
    stages = sorted(folder for folder in work.glob("stage*") if folder.is_dir())
    logs = [folder / "log.jsonl" for folder in stages]
    write_text(out / "log.jsonl", "".join(path.read_text() for path in logs))
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    for folder in stages:
        if (folder / "tensorboard").exists():
            shutil.copytree(folder / "tensorboard", out / "tensorboard" / folder.name, dirs_exist_ok=True)
    (out / ACCEPTED).unlink(missing_ok=True)  # of the result that this one replaces
    write_json(out / "provenance.json", provenance)
    _remove_at_once(work)


def _remove_at_once(work: Path) -> None:
    """Under another name first: a kill on the way would leave half of the checkpoints to go on from."""
    removed = work.with_name(f".{work.name}")
    shutil.rmtree(removed, ignore_errors=True)
    if work.exists():  # a method without stages leaves none
        work.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _plain(value: Any) -> Any:
    """As JSON gives it back, so that a saved fingerprint compares equal."""
    return json.loads(json.dumps(value))
