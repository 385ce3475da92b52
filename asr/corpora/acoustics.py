"""What happens between a mouth and a microphone: speed, room, noise, level. Shared by all corpora that are made here.

Why: clean synthetic speech is learned in a moment, and a comparison of models that all score 0 % says nothing. Each
condition is drawn from ranges in the settings, so difficulty is a setting. All functions are pure: arrays and a random
generator in, arrays out (float32, shape (samples,)), the same bytes for the same generator state.
"""

from typing import Annotated, Literal

import numpy as np
import scipy.fft
from pydantic import AfterValidator, Field

from asr.corpora.settings import Range
from common.settings import Settings

Noise = Literal["white", "pink", "brown", "speech", "babble", "hum"]


def _not_empty(noises: tuple) -> tuple:
    if not noises:
        raise ValueError("name at least one noise, or turn noise off with snr_db: null")
    return noises


class Acoustics(Settings):
    """Ranges from which the conditions of each utterance are drawn, uniformly.

    `snr_db` is the mean power of the (reverberated) speech, its pauses included, over that of the noise; null is no
    noise. `reverberation` is the probability of a room, with a reverberation time from `rt60_seconds` and a
    direct-to-reverberant ratio from `direct_db`. `speed` changes tempo and pitch together. `level_db` is the RMS of
    the speech against full scale. `silence_seconds` is the length of the silence before and of that after the
    speech.
    """

    snr_db: Range | None = (10.0, 30.0)
    noises: Annotated[tuple[Noise, ...], AfterValidator(_not_empty)] = (
        "white",
        "pink",
        "brown",
        "speech",
        "babble",
        "hum",
    )
    reverberation: float = Field(0.3, ge=0, le=1)
    rt60_seconds: Range = (0.1, 0.5)
    direct_db: Range = (0.0, 10.0)
    speed: Range = (0.95, 1.05)
    level_db: Range = (-32.0, -18.0)
    silence_seconds: Range = (0.1, 0.3)

    def overridden_by(self, other: "Acoustics | None") -> "Acoustics":
        """These ranges, with those that `other` sets explicitly in their place."""
        if other is None:
            return self
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


def record(
    speech: np.ndarray, rate_in: int, rate_out: int, acoustics: Acoustics, rng: np.random.Generator
) -> np.ndarray:
    """Speech as a microphone in a room would hear it, at `rate_out` Hz; the conditions are drawn from `acoustics`.

    Everything is drawn in the same order whatever is switched on, so two settings with one seed differ in nothing else.
    """
    speed, level, snr, rt60, direct = (
        rng.uniform(*pair)
        for pair in (
            acoustics.speed,
            acoustics.level_db,
            acoustics.snr_db or (0, 0),
            acoustics.rt60_seconds,
            acoustics.direct_db,
        )
    )
    before, after = (round(rng.uniform(*acoustics.silence_seconds) * rate_out) for _ in range(2))
    in_a_room = rng.random() < acoustics.reverberation
    colour = acoustics.noises[rng.integers(len(acoustics.noises))]
    room_rng, noise_rng = rng.spawn(2)

    samples = np.pad(change_rate(trim(speech), rate_in, rate_out, speed), (before, after))
    if in_a_room:
        samples = convolve(samples, room_response(rt60, direct, rate_out, room_rng))
    samples = set_level(samples, level)
    if acoustics.snr_db is not None:
        samples = add_noise(samples, coloured_noise(len(samples), colour, rate_out, noise_rng), snr)
    peak = np.abs(samples).max()
    return samples if peak < 0.99 else samples * np.float32(0.99 / peak)


def power(samples: np.ndarray) -> float:
    """The mean square of the samples."""
    return float(np.mean(np.square(samples, dtype=np.float64)))


def set_level(samples: np.ndarray, level_db: float) -> np.ndarray:
    """Scale to an RMS of `level_db` against full scale; silence stays silence."""
    return samples * np.float32(10 ** (level_db / 20) / max(np.sqrt(power(samples)), 1e-9))


def add_noise(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech plus noise, the noise scaled so that the ratio of the mean powers is `snr_db`."""
    gain = np.sqrt(power(speech) / max(power(noise), 1e-20) / 10 ** (snr_db / 10))
    return speech + np.float32(gain) * noise


def trim(samples: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Cut the silence at both ends: what stays below `threshold` times the peak."""
    loud = np.flatnonzero(np.abs(samples) > threshold * np.abs(samples).max(initial=0.0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def change_rate(samples: np.ndarray, rate_in: int, rate_out: int, speed: float = 1.0) -> np.ndarray:
    """Resample by cutting (or zero-padding) the spectrum; `speed` > 1 also plays faster and higher.

    Returns round(samples * rate_out / rate_in / speed) samples. The ratio is met to half a sample over the whole
    length.
    """
    samples = np.asarray(samples, np.float32)
    ratio = rate_out / rate_in / speed
    if ratio == 1 or len(samples) == 0:
        return samples
    margin = 256  # zeros, so that the end does not wrap into the beginning
    padded = scipy.fft.next_fast_len(len(samples) + margin, real=True)
    resampled = round(padded * ratio)
    spectrum = scipy.fft.rfft(samples, padded)
    bins = min(len(spectrum), resampled // 2 + 1)
    result = scipy.fft.irfft(spectrum[:bins], resampled) * np.float32(resampled / padded)
    return result[: round(len(samples) * ratio)]


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The samples heard through an impulse response, as long as the samples."""
    size = scipy.fft.next_fast_len(len(samples) + len(response) - 1, real=True)
    product = scipy.fft.rfft(samples, size) * scipy.fft.rfft(response, size)
    return scipy.fft.irfft(product, size)[: len(samples)].astype(np.float32)


def room_response(rt60_seconds: float, direct_db: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A synthetic impulse response: the direct sound, then noise whose level falls by 60 dB in `rt60_seconds`.

    `direct_db` is the energy of the direct sound over that of the tail. The usual model of late reverberation
    (Polack 1988), without single early reflections.
    """
    length = max(2, round(rt60_seconds * rate))
    tail = rng.standard_normal(length, np.float32) * np.exp(np.linspace(0, -3 * np.log(10), length, dtype=np.float32))
    tail[: round(0.003 * rate)] = 0  # the first reflection comes some 3 ms after the direct sound
    tail *= np.float32(10 ** (-direct_db / 20) / max(np.linalg.norm(tail), 1e-9))
    tail[0] = 1
    return tail


def coloured_noise(length: int, colour: Noise, rate: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples of noise of one colour, of about unit power.

    white: flat; pink: -3 dB per octave; brown: -6; speech: the long-term spectrum of speech (flat to 500 Hz, then -9);
    babble: speech noise whose loudness wanders as that of a crowd; hum: mains harmonics with their flicker.
    """
    if colour == "hum":
        return _hum(length, rate, rng)
    noise = rng.standard_normal(length, np.float32)
    if colour == "white":
        return noise
    size = scipy.fft.next_fast_len(length, real=True)
    spectrum = scipy.fft.rfft(noise, size)
    frequency = np.maximum(np.arange(len(spectrum), dtype=np.float32) * (rate / size), 20)
    if colour in ("pink", "brown"):
        shape = frequency ** (-0.5 if colour == "pink" else -1.0)
    else:
        shape = np.maximum(frequency / 500, 1) ** -1.5
    shaped = scipy.fft.irfft(spectrum * shape, size)[:length]
    if colour == "babble":
        shaped = shaped * _wandering(length, rate, rng)
    return (shaped / np.float32(np.sqrt(power(shaped)))).astype(np.float32)


def _wandering(length: int, rate: int, rng: np.random.Generator, hertz: float = 4.0) -> np.ndarray:
    """A loudness curve with new random values `hertz` times a second, the syllable rate of speech."""
    knots = rng.uniform(0.15, 1.0, int(length / rate * hertz) + 2).astype(np.float32)
    return np.interp(np.arange(length) * (hertz / rate), np.arange(len(knots)), knots).astype(np.float32)


def _hum(length: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Harmonics of 50 or 60 Hz with random levels and phases, over a floor of white noise 20 dB lower."""
    base = (50, 60)[rng.integers(2)]
    harmonics = np.arange(1, min(20, int(rate / 2 / base)))
    levels = rng.uniform(0.2, 1.0, len(harmonics)) / harmonics**0.5
    phases = rng.uniform(0, 2 * np.pi, len(harmonics))
    # One period at a common multiple of the rate would be shorter, but 50 Hz need not divide the rate: sum by FFT.
    spectrum = np.zeros(length // 2 + 1, np.complex64)
    bins = np.round(harmonics * base * length / rate).astype(int)
    inside = bins < len(spectrum)
    spectrum[bins[inside]] = (levels * np.exp(1j * phases))[inside]
    hum = scipy.fft.irfft(spectrum, length)
    hum = hum / np.float32(max(np.sqrt(power(hum)), 1e-9))
    return (hum + np.float32(0.1) * rng.standard_normal(length, np.float32)).astype(np.float32)
