"""What the detectors share: a view as an engine's input, and boxes out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edged.perceive.engines.onnxrt import OnnxEngine
from edged.wire.pool import Lease
from edged.wire.records import Detection
from edged.wire.views import PictureView

Floats = npt.NDArray[np.floating[Any]]


class PictureInput:
    """Hands the slot's view to an engine.

    An input of uint8 is bound to the slot itself. One of float32 gets the planes converted, in one
    pass, into the buffer that is bound to it: no transposition, as the view has planes already.
    """

    def __init__(self, engine: OnnxEngine, name: str, view: PictureView, scale: float = 1.0) -> None:
        self._engine, self._name, self._view = engine, name, view
        self._scale = np.float32(scale)
        self._target = engine.inputs[name]

    def write(self, lease: Lease) -> None:
        """The next run sees this picture."""
        planes = lease.view(self._view.name)
        if self._target.dtype == np.uint8:
            self._engine.bind(self._name, planes[None])
        elif self._scale == 1:
            np.copyto(self._target[0], planes, casting="unsafe")
        else:
            np.multiply(planes, self._scale, out=self._target[0], casting="unsafe")


def shares(boxes: Floats, view: PictureView, picture: tuple[int, int]) -> Floats:
    """Boxes in pixels of the view, [n, 4] x1 y1 x2 y2, as shares of the original picture, 0–1."""
    width, height = view.fitted(*picture)
    return np.clip(boxes / np.array([width, height, width, height], np.float32), 0, 1)


def suppress(boxes: Floats, scores: Floats, classes: npt.NDArray[np.intp], iou: float) -> list[int]:
    """Greedy non-maximum suppression within each class: which to keep, the best first.

    boxes: [n, 4] x1 y1 x2 y2; scores, classes: [n].
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        corner = np.maximum(boxes[best, :2], boxes[rest, :2])
        sides = np.maximum(np.minimum(boxes[best, 2:], boxes[rest, 2:]) - corner, 0)
        overlap = sides[:, 0] * sides[:, 1]
        ratio = overlap / np.maximum(areas[best] + areas[rest] - overlap, 1e-9)
        order = rest[(ratio <= iou) | (classes[rest] != classes[best])]
    return kept


def detections(
    boxes: Floats,
    scores: Floats,
    classes: npt.NDArray[np.intp],
    labels: tuple[str, ...],
    iou: float,
) -> tuple[Detection, ...]:
    """The kept boxes (shares of the picture) with their labels, the best first."""
    return tuple(
        Detection(
            labels[classes[index]],
            round(float(scores[index]), 4),
            tuple(round(float(edge), 4) for edge in boxes[index]),  # type: ignore[arg-type]
        )
        for index in suppress(boxes, scores, classes, iou)
    )
