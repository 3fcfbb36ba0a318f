"""How well a detector finds people, on real pictures with labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edged.perceive.cards import Card, Model
from tests.perceive.lend import Lender, look, read_picture

Box = tuple[float, float, float, float]
PERSON = 0
SAME = 0.5
"""A detection is right when it overlaps a person by so much (intersection over union)."""


def average_precision(card: Card, model: Model, data: Path) -> float:
    """AP@.5 of `person` over all pictures: the area under the precision that is reached at each recall."""
    assert card.view
    scored: list[tuple[float, bool]] = []
    people = 0
    with Lender("cam", "video", (card.view,)) as lender:
        for path in sorted((data / "images/coco-val/images").glob("*.jpg")):
            missing = _people(data / f"images/coco-val/labels/{path.stem}.txt")
            people += len(missing)
            for found in look(model, lender.picture(read_picture(path))) or ():
                if found.label != "person":
                    continue
                assert found.box
                near = [(overlap(box, found.box), box) for box in missing]
                share, box = max(near, default=(0.0, None))
                if box and share >= SAME:
                    missing.remove(box)
                scored.append((found.score, share >= SAME))
    assert people > 100
    right_so_far = np.cumsum([right for _, right in sorted(scored, key=lambda one: -one[0])])
    precision = right_so_far / np.arange(1, len(scored) + 1)
    reached = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(reached * np.diff(right_so_far / people, prepend=0)))


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if shared else 0.0


def _people(path: Path) -> list[Box]:
    boxes = []
    for line in path.read_text(encoding="ascii").splitlines():
        kind, x, y, width, height = map(float, line.split())
        if kind == PERSON:
            boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return boxes
