"""A trained system and the data of its experiment, as a step that decodes with it opens both."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from asr.corpora.content import check_audio
from methods.contract import TrainedSystem
from workflows.data import PreparedData, open_data
from workflows.experiment import Experiment
from workflows.systems import load_system


class Opened(NamedTuple):
    """The system is in evaluation mode, on the device."""

    system: TrainedSystem
    data: PreparedData
    device: torch.device


def open_trained(experiment: Experiment, name: str, data_folder: Path, model: Path, sets: Sequence[str]) -> Opened:
    """System `name`, written to `model`, on a GPU where there is one; the audio of `sets` is there. Torch has the
    experiment's threads from now on.

    Raises `UserError` where system or data are missing, or are not what they say.
    """
    torch.set_num_threads(experiment.threads)
    check_audio(data_folder, sets)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Opened(load_system(model, device, experiment.packages), open_data(experiment, name, data_folder), device)
