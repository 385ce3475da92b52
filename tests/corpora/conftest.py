"""What several tests of corpora share: the real archive where there is one, small corpora, a corpus of plain files."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from asr.corpora import REGISTER, look_up, prepare
from asr.corpora.register import ROOT

QUIET = {"snr_db": None, "reverberation": 0, "speed": [1, 1]}
SMALL_SYNTH = {
    "train": {"utterances": 24},
    "dev": {"utterances": 6},
    "test_sets": {
        "test_clean": {"utterances": 8, "acoustics": QUIET},
        "test_noisy": {"utterances": 8, "acoustics": {"snr_db": [0, 5], "reverberation": 1}},
    },
    "voices": {"train": 12, "dev": 3, "test": 4},
}


@pytest.fixture(scope="session")
def fsdd_archive() -> Path:
    """The archive of real recordings that the register knows, already on this machine."""
    entry = look_up("fsdd")
    for candidate in (*entry.archives, entry.keep):
        if (ROOT / candidate).is_file():
            return (ROOT / candidate).resolve()
    reason = "NO REAL RECORDINGS: none of the archives of fsdd in config/corpora.yaml is on this machine"
    warnings.warn(reason, stacklevel=1)  # a skip alone is easily overlooked
    pytest.skip(reason)


@pytest.fixture(scope="session")
def small_synth(tmp_path_factory) -> Path:
    """A small corpus of synthetic digit strings."""
    folder = tmp_path_factory.mktemp("synth")
    prepare("synth", SMALL_SYNTH, folder)
    return folder


class Recordings:
    """A corpus of plain files with one utterance in each set, to be damaged by a test."""

    def __init__(self, folder: Path):
        self.data, self.out = folder / "data", folder / "out"
        self.data.mkdir()
        entry = {"module": "tests.corpora.folder_corpus", "source": "a test", "licence": "none", "size": "tiny"}
        self.register = folder / "corpora.yaml"
        self.register.write_text(yaml.safe_dump({"folder": entry}))
        for number, name in enumerate(("train", "dev", "test")):
            samples = (3000 * np.sin(np.arange(8000) / (5 + number))).astype(np.int16)
            soundfile.write(self.data / f"{name}.wav", samples, 8000)
            self.write_table(name)
        self.audio = self.data / "train.wav"

    def write_table(self, name: str, text: str = "hello", speaker: str = "ann", seconds: float = 1.0) -> None:
        """Say what is in the file of a set."""
        (self.data / f"{name}.txt").write_text(f"{name}.wav\t{speaker}\t{seconds}\t{text}\n")

    def prepare(self, **settings) -> dict:
        """Prepare the corpus through the real code."""
        return prepare("folder", {"folder": str(self.data), **settings}, self.out, self.register)


@pytest.fixture
def recordings(tmp_path) -> Recordings:
    """A healthy corpus of plain files."""
    return Recordings(tmp_path)


@pytest.fixture
def register_copy(tmp_path) -> Path:
    """A copy of the register that a test may change."""
    return Path(shutil.copy(REGISTER, tmp_path / "register.yaml"))
