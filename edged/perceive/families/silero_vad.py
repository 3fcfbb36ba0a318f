"""Silero VAD 5 (github.com/snakers4/silero-vad): speech or not, with a memory for each source.

Input [1, 64 + 512] samples at 16 kHz, the last 64 of the window before and 512 new ones; state
[2, 1, 128]. A chunk holds three windows, and its score is their mean.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Literal

import numpy as np

from edged.perceive import cards
from edged.perceive.engines.onnxrt import OnnxEngine
from edged.perceive.hearing import Recent
from edged.wire.pool import Array, Lease
from edged.wire.records import Detection, Modality
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES, SAMPLE_RATE_HZ

WINDOW, CONTEXT = 512, 64
STATE = (2, 1, 128)


class Card(cards.Card):
    """A Silero VAD card."""

    family: Literal["silero-vad"]
    weights: cards.Weights

    @property
    def modality(self) -> Modality:
        """Sound."""
        return "audio"


def open(card: Card, weights: Path, threads: int) -> SileroVad:  # noqa: A001
    """Raises ModelError when the weights do not fit the card."""
    return SileroVad(card, weights, threads)


class _Voice:
    """What is remembered of one source."""

    def __init__(self) -> None:
        self.recent = Recent(CONTEXT + CHUNK_SAMPLES)
        self.state: Array = np.zeros(STATE, np.float32)


class SileroVad:
    """A loaded Silero VAD."""

    window_ns = CHUNK_NS

    def __init__(self, card: Card, weights: Path, threads: int) -> None:
        self._card = card
        self._engine = OnnxEngine(
            weights,
            threads,
            {"input": (1, CONTEXT + WINDOW), "state": STATE, "sr": ()},
            {"output": (1, 1), "stateN": STATE},
        )
        self._engine.inputs["sr"][...] = SAMPLE_RATE_HZ
        self._voices: defaultdict[str, _Voice] = defaultdict(_Voice)
        self._voice = _Voice()
        self._score = 0.0

    def prepare(self, lease: Lease) -> bool:
        """One chunk of one source."""
        self._voice = self._voices[lease.descriptor.source]
        if self._voice.recent.add(lease):
            self._voice.state[:] = 0
        return True

    def infer(self) -> None:
        """Three runs, each with the state that the one before left."""
        inputs, outputs, voice = self._engine.inputs, self._engine.outputs, self._voice
        inputs["state"][:] = voice.state
        total = 0.0
        for start in range(0, CHUNK_SAMPLES, WINDOW):
            inputs["input"][0] = voice.recent.samples[start : start + CONTEXT + WINDOW]
            self._engine.run()
            total += float(outputs["output"][0, 0])
            inputs["state"][:] = outputs["stateN"]
        voice.state[:] = outputs["stateN"]
        self._score = total / (CHUNK_SAMPLES // WINDOW)

    def decode(self) -> tuple[Detection, ...]:
        """The first label with the probability of speech."""
        if self._score < self._card.min_score:
            return ()
        return (Detection(self._card.labels[0], round(self._score, 4)),)

    def close(self) -> None:
        """Frees the engine."""
        self._engine.close()
