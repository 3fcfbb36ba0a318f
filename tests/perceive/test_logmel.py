"""The log-mel front end against the reference's own vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.perceive.engines.onnxrt import OnnxEngine
from edged.perceive.logmel import BANDS, FRAMES, PATCH_SAMPLES, log_mel
from edged.wire.pool import Samples
from tests.perceive.lend import open_card

PEAK = 8078
"""Of the golden audio; its spectra were made of the same sound at full scale."""


@pytest.fixture
def golden(data: Path) -> tuple[Samples, Samples]:
    """A second of speech, and its spectra as the reference made them."""
    audio = np.fromfile(data / "vectors/yamnet_test_audio.bin", "<i2")
    assert np.abs(audio.astype(int)).max() == PEAK
    spectra = np.fromfile(data / "vectors/yamnet_test_spectra.bin", "<f4").reshape(FRAMES, BANDS)
    return (audio / np.float32(PEAK)).astype(np.float32), spectra.astype(np.float32)


def patch_of(samples: Samples) -> Samples:
    patch = np.zeros((FRAMES, BANDS), np.float32)
    log_mel(samples, patch)
    return patch


def test_it_agrees_with_the_reference(golden: tuple[Samples, Samples]) -> None:
    audio, spectra = golden
    difference = np.abs(patch_of(audio) - spectra)
    assert difference.mean() <= 0.02
    assert np.percentile(difference, 99) <= 0.12


def test_yamnet_hears_speech_in_it(data: Path, golden: tuple[Samples, Samples]) -> None:
    card, model = open_card("yamnet", data)
    model.close()
    shapes = {"feature_patch": (1, FRAMES, BANDS)}, {"scores": (1, len(card.labels))}
    engine = OnnxEngine(data / "models/yamnet.onnx", 1, *shapes)
    log_mel(golden[0], engine.inputs["feature_patch"][0])
    engine.run()
    scores = engine.outputs["scores"][0]
    assert card.labels[int(scores.argmax())] == "speech"
    assert scores.max() > 0.9


def test_silence_is_the_offset_s_logarithm() -> None:
    assert np.allclose(patch_of(np.zeros(PATCH_SAMPLES, np.float32)), np.log(0.001))


@pytest.mark.parametrize("hertz", [200, 440, 1000, 3000, 7000])
def test_a_tone_lies_in_its_band(hertz: int) -> None:
    """The bands' centres are evenly spaced in mel between 125 and 7500 Hz."""
    tone = np.sin(2 * np.pi * hertz * np.arange(PATCH_SAMPLES) / 16_000).astype(np.float32)
    patch = patch_of(tone)
    mel = 1127 * np.log1p(np.array([125, 7500, hertz]) / 700)
    band = (mel[2] - mel[0]) / (mel[1] - mel[0]) * (BANDS + 1) - 1
    assert np.abs(patch.argmax(1) - band).max() <= 1
    assert np.ptp(patch[:, round(band)]) < 0.1, "a tone is the same in every frame"


def test_frames_follow_in_steps_of_10_ms() -> None:
    click = np.zeros(PATCH_SAMPLES, np.float32)
    click[8000] = 1  # windows of 400 samples, each 160: in the frames 48 and 49, at the very edge of 50
    loud = np.nonzero(patch_of(click).max(1) > np.log(0.002))[0]
    assert loud.tolist() == [48, 49]
