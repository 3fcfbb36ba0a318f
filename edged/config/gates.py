"""What counts as motion in a picture, and as sound above the silence."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from edged.config.fields import Score, Strict

Mask = npt.NDArray[np.bool_]

Point = tuple[float, float]
Polygon = tuple[Point, ...]

CHECKED = 256
"""Points in each direction at which a mask is tried for whether it leaves anything."""


class MotionConfig(Strict):
    """When a picture moves."""

    min_share: Score = 0.002
    """Share of the picture outside the mask that has to move, 0 to 1; motion ends below half of it."""
    min_change: Annotated[float, Field(ge=1, le=128)] = 12.0
    """Grey levels of 0 to 255 by which a pixel has to differ from the background; where the picture is
    noisy or flickers, more is asked for."""
    settle_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Seconds after which what stays changed without a break is background: a chair that was moved, or
    somebody who stands where they are."""
    mask: tuple[Polygon, ...] = ()
    """Polygons within which nothing counts; each at least three points [x, y], shares of the picture's
    width and height from its top left corner, 0 to 1."""

    @field_validator("mask")
    @classmethod
    def _polygons(cls, polygons: tuple[Polygon, ...]) -> tuple[Polygon, ...]:
        for number, polygon in enumerate(polygons, 1):
            if len(polygon) < 3:
                raise ValueError(f"polygon {number} has {len(polygon)} points; at least 3 are needed")
            for x, y in polygon:
                if not (0 <= x <= 1 and 0 <= y <= 1):
                    raise ValueError(
                        f"polygon {number} has a point [{x:g}, {y:g}]; points are shares of the picture's "
                        "width and height, 0 to 1"
                    )
        if polygons and covered(polygons, CHECKED, CHECKED).all():
            raise ValueError("the mask covers the whole picture, so that nothing could ever move")
        return polygons


class LevelConfig(Strict):
    """When a sound is more than the silence of its place."""

    above_floor_db: Annotated[float, Field(ge=1, le=60)] = 9.0
    """Decibels by which a sound has to lie above the noise floor, which is measured all the time; it
    ends at half of that."""
    min_dbfs: Annotated[float, Field(ge=-100, le=0)] = -55.0
    """Decibels relative to full scale that a sound has to have to begin, however silent the place is."""
    rise_db_s: Annotated[float, Field(gt=0, le=20)] = 0.5
    """Decibels a second by which the noise floor follows what has become louder for good, such as a fan
    that was switched on; when it gets quieter the floor falls within half a second."""


def covered(polygons: tuple[Polygon, ...], width: int, height: int) -> Mask:
    """Which pixels of a picture have their centre in one of `polygons`, bool [height, width].

    Each by the even-odd rule, so that where two touch, a pixel lies in one of them alone.
    """
    x = (np.arange(width) + 0.5) / width
    y = ((np.arange(height) + 0.5) / height)[:, None]
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        inside = np.zeros_like(mask)
        for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            if y1 != y2:
                crossing = x1 + (y - y1) * ((x2 - x1) / (y2 - y1))
                inside ^= ((y1 > y) != (y2 > y)) & (x < crossing)
        mask |= inside
    return mask
