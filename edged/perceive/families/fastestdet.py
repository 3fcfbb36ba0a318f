"""FastestDet (github.com/dog-qiuqiu/FastestDet): one anchor-free head on a 22 × 22 grid.

Input [1, 3, 352, 352], BGR 0–1, stretched. Output [1, 5 + classes, rows, columns]: objectness, offset
of the centre (before tanh), size (before the sigmoid), classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from edged.config.fields import Score
from edged.perceive import cards
from edged.perceive.engines.onnxrt import OnnxEngine
from edged.perceive.picture import PictureInput, detections
from edged.wire.pool import Lease
from edged.wire.records import Detection
from edged.wire.views import PictureView

STRIDE = 16


class Card(cards.Card):
    """A FastestDet card."""

    family: Literal["fastestdet"]
    weights: cards.Weights
    input: str = "input.1"
    output: str = "758"
    width: int = Field(352, ge=32, le=4096, multiple_of=32)
    height: int = Field(352, ge=32, le=4096, multiple_of=32)
    iou: Score = 0.45

    @property
    def view(self) -> PictureView:
        """BGR, stretched."""
        return PictureView(self.width, self.height, fit="stretch")


def open(card: Card, weights: Path, threads: int) -> FastestDet:  # noqa: A001
    """Raises ModelError when the weights do not fit the card."""
    return FastestDet(card, weights, threads)


class FastestDet:
    """A loaded FastestDet."""

    window_ns = 0

    def __init__(self, card: Card, weights: Path, threads: int) -> None:
        self._card = card
        rows, columns = card.height // STRIDE, card.width // STRIDE
        self._engine = OnnxEngine(
            weights,
            threads,
            {card.input: (1, 3, card.height, card.width)},
            {card.output: (1, 5 + len(card.labels), rows, columns)},
        )
        self._input = PictureInput(self._engine, card.input, card.view, 1 / 255)
        self._output = self._engine.outputs[card.output][0].reshape(5 + len(card.labels), rows * columns)
        self._grid = (columns, rows)

    def prepare(self, lease: Lease) -> bool:
        """One picture."""
        self._input.write(lease)
        return True

    def infer(self) -> None:
        """One run."""
        self._engine.run()

    def decode(self) -> tuple[Detection, ...]:
        """The score is objectness^0.6 × class^0.4, as the model was trained to be read."""
        best = self._output[5:].max(0)
        scores = np.maximum(self._output[0], 0) ** 0.6 * np.maximum(best, 0) ** 0.4
        (good,) = np.nonzero(scores >= self._card.min_score)
        cells = self._output[:, good]
        columns, rows = self._grid
        x = (good % columns + np.tanh(cells[1])) / columns
        y = (good // columns + np.tanh(cells[2])) / rows
        half_width, half_height = 0.5 / (1 + np.exp(-cells[3:5]))
        boxes = np.clip(np.stack([x - half_width, y - half_height, x + half_width, y + half_height], 1), 0, 1)
        return detections(boxes, scores[good], cells[5:].argmax(0), self._card.labels, self._card.iou)

    def close(self) -> None:
        """Frees the engine."""
        self._engine.close()
