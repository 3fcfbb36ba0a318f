"""YOLOX (Z. Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv:2107.08430).

Input [1, 3, H, W], BGR 0–255, letterboxed top left with 114, as float32 or uint8. Output
[1, cells, 5 + classes] of the strides 8, 16, 32: centre and size relative to the cell and logarithmic,
objectness and classes after the sigmoid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from edged.config.fields import Score
from edged.errors import ModelError
from edged.perceive import cards
from edged.perceive.engines.onnxrt import OnnxEngine
from edged.perceive.picture import PictureInput, detections, shares
from edged.wire.pool import Lease
from edged.wire.records import Detection
from edged.wire.views import PictureView

STRIDES = (8, 16, 32)


class Card(cards.Card):
    """A YOLOX card."""

    family: Literal["yolox"]
    weights: cards.Weights
    input: str = "images"
    output: str = "output"
    width: int = Field(416, ge=32, le=4096, multiple_of=32)
    height: int = Field(416, ge=32, le=4096, multiple_of=32)
    iou: Score = 0.45
    """Of two boxes of a class that overlap more, only the better is kept."""

    @property
    def view(self) -> PictureView:
        """BGR, letterboxed."""
        return PictureView(self.width, self.height)


def open(card: Card, weights: Path, threads: int) -> Yolox:  # noqa: A001
    """Raises ModelError when the weights do not fit the card."""
    return Yolox(card, weights, threads)


class Yolox:
    """A loaded YOLOX."""

    window_ns = 0

    def __init__(self, card: Card, weights: Path, threads: int) -> None:
        self._card, self._view = card, card.view
        sides = [(card.height // stride, card.width // stride, stride) for stride in STRIDES]
        cells = sum(rows * columns for rows, columns, _ in sides)
        self._engine = OnnxEngine(
            weights,
            threads,
            {card.input: (1, 3, card.height, card.width)},
            {card.output: (1, cells, 5 + len(card.labels))},
        )
        self._input = PictureInput(self._engine, card.input, self._view)
        self._output = self._engine.outputs[card.output][0]
        self._picture = (1, 1)
        self._corners = np.concatenate(
            [
                np.stack(np.meshgrid(range(columns), range(rows)), -1).reshape(-1, 2)
                for rows, columns, _ in sides
            ]
        ).astype(np.float32)
        self._strides = np.concatenate(
            [np.full((rows * columns, 1), stride, np.float32) for rows, columns, stride in sides]
        )

    def prepare(self, lease: Lease) -> bool:
        """One picture."""
        if lease.descriptor.picture is None:
            raise ModelError("a picture without its size")
        self._picture = lease.descriptor.picture
        self._input.write(lease)
        return True

    def infer(self) -> None:
        """One run."""
        self._engine.run()

    def decode(self) -> tuple[Detection, ...]:
        """Only cells whose objectness alone could do are looked at further."""
        (likely,) = np.nonzero(self._output[:, 4] >= self._card.min_score)
        rows = self._output[likely]
        classes = rows[:, 5:].argmax(1)
        scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
        good = scores >= self._card.min_score
        likely, rows, classes, scores = likely[good], rows[good], classes[good], scores[good]
        centres = (rows[:, :2] + self._corners[likely]) * self._strides[likely]
        halves = np.exp(rows[:, 2:4]) * self._strides[likely] / 2
        boxes = shares(np.concatenate([centres - halves, centres + halves], 1), self._view, self._picture)
        return detections(boxes, scores, classes, self._card.labels, self._card.iou)

    def close(self) -> None:
        """Frees the engine."""
        self._engine.close()
