"""YAMNet (tensorflow/models, research/audioset/yamnet): 521 sounds of AudioSet in 0.975 s.

Input [1, 96, 64], a log-mel patch; output [1, 521] scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from edged.perceive import cards
from edged.perceive.engines.onnxrt import OnnxEngine
from edged.perceive.hearing import Recent
from edged.perceive.logmel import BANDS, FRAMES, PATCH_SAMPLES, log_mel
from edged.wire.clock import SECOND_NS
from edged.wire.pool import Lease
from edged.wire.records import Detection, Modality
from edged.wire.views import SAMPLE_RATE_HZ


class Card(cards.Card):
    """A YAMNet card."""

    family: Literal["yamnet"]
    weights: cards.Weights
    input: str = "feature_patch"
    output: str = "scores"

    @property
    def modality(self) -> Modality:
        """Sound."""
        return "audio"


def open(card: Card, weights: Path, threads: int) -> Yamnet:  # noqa: A001
    """Raises ModelError when the weights do not fit the card."""
    return Yamnet(card, weights, threads)


class Yamnet:
    """A loaded YAMNet; it keeps the last second of each source."""

    window_ns = PATCH_SAMPLES * SECOND_NS // SAMPLE_RATE_HZ

    def __init__(self, card: Card, weights: Path, threads: int) -> None:
        self._card = card
        self._engine = OnnxEngine(
            weights, threads, {card.input: (1, FRAMES, BANDS)}, {card.output: (1, len(card.labels))}
        )
        self._patch = self._engine.inputs[card.input][0]
        self._scores = self._engine.outputs[card.output][0]
        self._recent: dict[str, Recent] = {}
        places = {label: index for index, label in enumerate(card.labels)}
        self._groups = [(name, [places[one] for one in group]) for name, group in card.groups.items()]

    def prepare(self, lease: Lease) -> bool:
        """Collects a second, and then runs at the source's rate."""
        recent = self._recent.setdefault(lease.descriptor.source, Recent(PATCH_SAMPLES))
        recent.add(lease)
        if not lease.descriptor.due or recent.filled < PATCH_SAMPLES:
            return False
        log_mel(recent.samples, self._patch)
        return True

    def infer(self) -> None:
        """One run."""
        self._engine.run()

    def decode(self) -> tuple[Detection, ...]:
        """Labels and groups over the card's score; a group stands for a label of the same name."""
        best = {name: float(self._scores[places].max()) for name, places in self._groups}
        for index in np.nonzero(self._scores >= self._card.min_score)[0]:
            best.setdefault(self._card.labels[index], float(self._scores[index]))
        found = [Detection(k, round(v, 4)) for k, v in best.items() if v >= self._card.min_score]
        return tuple(sorted(found, key=lambda one: -one.score))

    def close(self) -> None:
        """Frees the engine."""
        self._engine.close()
