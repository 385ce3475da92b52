"""espeak-ng through ctypes: text and a voice in, samples out, the same bytes every time.

Why an engine is loaded anew for each voice: espeak-ng keeps state between utterances (the phase of the pitch
flutter, for one) and seeds its noise from the clock. A private copy of the library, with the seed set, starts from
a known state whatever this process did before, so a voice sounds the same in every process.

espeak-ng (GPL-3.0-or-later) comes from the wheel `espeakng-loader`, is loaded to speak, and is no part of this project.
"""

import ctypes
import shutil
import tempfile
from _ctypes import dlclose
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from common.errors import UserError

SYNCHRONOUS = 2  # the output mode; retrieval, mode 1, hangs without an audio device
KEEP_RUNNING = 0x8000  # report a failed start instead of ending the process
UTF8 = 1
RATE, VOLUME, PITCH, PITCH_RANGE = 1, 2, 3, 4  # numbers of espeak's parameters
LOUDNESS = 30  # of 200, 100 being usual: above, some voices clip
BUFFER_MS = 2000
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """Who speaks: an accent of English, a variant (the timbre), words per minute, pitch and pitch range (0 to 99)."""

    accent: str
    variant: str
    words_per_minute: int
    pitch: int
    pitch_range: int


class Engine:
    """One voice, ready to speak; a context manager. `sampling_rate` in Hz (22050)."""

    def __init__(self, voice: Voice):
        self._folder = tempfile.TemporaryDirectory(prefix="espeak-")
        self._library = _load(Path(self._folder.name))
        start = self._library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, self._folder.name.encode(), KEEP_RUNNING)
        self.sampling_rate = start
        if start <= 0:
            raise UserError("espeak-ng did not start: install the package espeakng-loader again")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        ctypes.CDLL(None).srand(1)  # its Klatt synthesiser takes breath noise from the C library's generator
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._collect)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)
        self._set(voice)

    def _collect(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def _set(self, voice: Voice) -> None:
        name = f"{voice.accent}+{voice.variant}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise UserError(f"espeak-ng has no voice '{name}': install the pinned version of espeakng-loader")
        for number, value in (
            (RATE, voice.words_per_minute),
            (VOLUME, LOUDNESS),
            (PITCH, voice.pitch),
            (PITCH_RANGE, voice.pitch_range),
        ):
            self._library.espeak_SetParameter(number, value, 0)

    def say(self, text: str) -> np.ndarray:
        """Speak `text`: float32 of shape (samples,), full scale 1, at `sampling_rate`."""
        self._chunks.clear()
        data = text.encode() + b"\0"
        status = self._library.espeak_Synth(data, len(data), 0, 1, 0, UTF8, None, None)
        if status != 0:
            raise RuntimeError(f"espeak-ng could not speak '{text}' (status {status})")
        return np.frombuffer(b"".join(self._chunks), np.int16).astype(np.float32) / 32768

    def phonemes(self, text: str) -> str:
        """How the voice pronounces `text`, in espeak's own letters."""
        pointer = ctypes.c_char_p(text.encode())
        result = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), UTF8, 0)
        return ctypes.string_at(result).decode() if result else ""

    def close(self) -> None:
        """End the engine and unload its copy of the library."""
        self._library.espeak_Terminate()
        dlclose(self._library._handle)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self.close()


def _load(folder: Path) -> ctypes.CDLL:
    """A private copy of the library in `folder`, with the voice data beside it under a short path (espeak cuts long
    ones)."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError("the package espeakng-loader is missing: run `make setup`") from None
    (folder / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    copy = folder / "espeak-ng.so"
    shutil.copyfile(espeakng_loader.get_library_path(), copy)
    library = ctypes.CDLL(str(copy))
    library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint]
    library.espeak_Synth.argtypes += [ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
    library.espeak_TextToPhonemes.restype = ctypes.c_void_p
    return library
