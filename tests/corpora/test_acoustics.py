"""Noise, rooms, speed and level do what their numbers say."""

import typing

import numpy as np
import pytest

from asr.corpora import acoustics
from asr.corpora.acoustics import Acoustics, Noise

RATE = 8000
COLOURS = typing.get_args(Noise)


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def decibel(ratio: float) -> float:
    return 10 * np.log10(ratio)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("snr_db", [-5.0, 12.5, 30.0])
def test_the_noise_that_is_added_has_the_snr_that_was_asked_for(colour, snr_db):
    speech = 0.1 * tone(440, 2.5)
    noise = acoustics.coloured_noise(len(speech), colour, RATE, np.random.default_rng(3))
    added = acoustics.add_noise(speech, noise, snr_db) - speech
    assert decibel(acoustics.power(speech) / acoustics.power(added)) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize(("colour", "slope"), [("white", 0), ("pink", -3), ("brown", -6), ("speech", -9)])
def test_colours_fall_by_their_decibels_per_octave(colour, slope):
    noise = acoustics.coloured_noise(60 * RATE, colour, RATE, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    octaves = [spectrum[(hertz >= low) & (hertz < 2 * low)].mean() for low in (600, 1200)]
    assert decibel(octaves[1] / octaves[0]) == pytest.approx(slope, abs=0.5)


def test_babble_wanders_and_hum_is_tonal():
    babble = acoustics.coloured_noise(20 * RATE, "babble", RATE, np.random.default_rng(0))
    steady = acoustics.coloured_noise(20 * RATE, "speech", RATE, np.random.default_rng(0))
    loudness = [np.std([acoustics.power(part) for part in np.split(noise, 200)]) for noise in (babble, steady)]
    assert loudness[0] > 1.3 * loudness[1]
    spectrum = np.abs(np.fft.rfft(acoustics.coloured_noise(10 * RATE, "hum", RATE, np.random.default_rng(0)))) ** 2
    assert np.sort(spectrum)[-20:].sum() > 0.9 * spectrum.sum()


@pytest.mark.parametrize(("rate_in", "speed"), [(22050, 1.0), (22050, 1.07), (8000, 0.9), (16000, 1.0), (4000, 1.0)])
def test_changing_the_rate_keeps_the_pitch_and_changing_the_speed_moves_it(rate_in, speed):
    changed = acoustics.change_rate(tone(400, 1.0, rate_in), rate_in, RATE, speed)
    assert len(changed) == round(RATE / speed)
    middle = changed[1000:-1000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 17))
    assert np.argmax(spectrum) * RATE / (1 << 17) == pytest.approx(400 * speed, abs=1)
    assert np.sqrt(2 * acoustics.power(middle)) == pytest.approx(1, abs=0.01)


def test_what_lies_above_half_the_new_rate_does_not_fold_back():
    assert acoustics.power(acoustics.change_rate(tone(6000, 1.0, 22050), 22050, RATE)[100:-100]) < 1e-5


def test_a_room_decays_by_sixty_decibels_in_its_time():
    response = acoustics.room_response(0.4, 3.0, RATE, np.random.default_rng(0))
    assert response[0] == 1
    assert decibel(1 / np.sum(response[1:] ** 2)) == pytest.approx(3.0, abs=0.01)
    early, late = (acoustics.power(response[round(at * RATE) : round((at + 0.05) * RATE)]) for at in (0.05, 0.25))
    assert decibel(early / late) == pytest.approx(0.2 / 0.4 * 60, abs=3)


def test_a_room_of_one_impulse_changes_nothing():
    speech = tone(300)
    response = np.zeros(100, np.float32)
    response[0] = 1
    np.testing.assert_allclose(acoustics.convolve(speech, response), speech, atol=1e-5)


@pytest.mark.parametrize("snr_db", [0.0, 15.0])
def test_the_recording_as_a_whole_has_the_snr_of_its_settings(snr_db):
    speech = np.pad(0.2 * tone(500, 1.0, 22050), 2000)
    quiet = Acoustics(snr_db=None, reverberation=0.5)
    noisy = quiet.overridden_by(Acoustics(snr_db=(snr_db, snr_db)))
    for seed in range(20):
        clean = acoustics.record(speech, 22050, RATE, quiet, np.random.default_rng(seed)).astype(np.float64)
        mixed = acoustics.record(speech, 22050, RATE, noisy, np.random.default_rng(seed)).astype(np.float64)
        # The same conditions were drawn, so only the noise (and a gain where it would have clipped) differs.
        gain = clean @ mixed / (clean @ clean)
        noise = mixed - gain * clean
        measured = decibel(gain**2 * np.mean(clean**2) / np.mean(noise**2))
        assert measured == pytest.approx(snr_db, abs=1.0)


def test_levels_stay_in_their_range_and_nothing_clips():
    settings = Acoustics(snr_db=(0, 10), level_db=(-20, -3))
    for seed in range(20):
        samples = acoustics.record(tone(200, 0.5), RATE, RATE, settings, np.random.default_rng(seed))
        assert samples.dtype == np.float32
        assert np.abs(samples).max() <= 0.9901
    quiet = Acoustics(snr_db=None, level_db=(-25, -25), reverberation=0)
    samples = acoustics.record(tone(200, 0.5), RATE, RATE, quiet, np.random.default_rng(0))
    assert decibel(acoustics.power(samples)) == pytest.approx(-25, abs=0.01)


def test_silence_stays_silence():
    samples = acoustics.record(np.zeros(8000, np.float32), RATE, RATE, Acoustics(), np.random.default_rng(0))
    assert np.isfinite(samples).all()
