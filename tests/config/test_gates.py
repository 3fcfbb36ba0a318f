"""Masks and levels as the configuration has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edged.config.gates import LevelConfig, MotionConfig, Point, covered

CORNER = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
SHARES = st.floats(0, 1, allow_subnormal=False)
POLYGONS = st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=8).map(tuple)


def test_the_defaults_mask_nothing() -> None:
    assert MotionConfig().mask == ()
    assert not covered((), 20, 10).any()


def test_masks_come_from_files_as_they_are() -> None:
    config = MotionConfig.model_validate({"mask": (CORNER,)}, strict=True)
    assert config.mask == (CORNER,)
    assert MotionConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[[0, 0], [1, 1]]], "polygon 1 has 2 points; at least 3"),
        ([CORNER, [[0, 0], [0, 1.2], [1, 1]]], r"polygon 2 has a point \[0, 1.2\]; .* 0 to 1"),
        ([[[0, 0], [-0.1, 1], [1, 1]]], r"point \[-0.1, 1\]"),
        ([[[0, 0], [1, 0], [1, 1], [0, 1]]], "covers the whole picture"),
        ([[[0, 0], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 1]]], "covers the whole picture"),
        ([[[0, 0, 0], [1, 0], [1, 1]]], "mask"),
    ],
)
def test_a_mask_that_can_not_be_meant(mask: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MotionConfig.model_validate({"mask": mask})


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (MotionConfig, "min_share", 1.1),
        (MotionConfig, "min_change", 0),
        (MotionConfig, "settle_s", 0.5),
        (MotionConfig, "polygons", []),
        (LevelConfig, "above_floor_db", 0),
        (LevelConfig, "min_dbfs", 3),
        (LevelConfig, "rise_db_s", 0),
    ],
)
def test_bounds(model: type[MotionConfig | LevelConfig], field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        model.model_validate({field: value})


def test_a_polygon_covers_the_pixels_whose_centres_it_holds() -> None:
    mask = covered((CORNER,), 8, 6)
    assert mask[:3, :4].all()
    assert mask.sum() == 12
    triangle = covered((((0, 0), (1, 0), (0, 1)),), 4, 4)
    assert triangle.tolist() == [
        [True, True, True, False],
        [True, True, False, False],
        [True] + [False] * 3,
        [False] * 4,
    ]
    hole = covered(
        (
            (
                (0, 0),
                (1, 0),
                (1, 1),
                (0, 1),
                (0, 0),
                (0.25, 0.25),
                (0.75, 0.25),
                (0.75, 0.75),
                (0.25, 0.75),
                (0.25, 0.25),
            ),
        ),
        4,
        4,
    )
    assert not hole[1:3, 1:3].any()
    assert hole.sum() == 12


def _holds(polygon: tuple[Point, ...], x: float, y: float) -> bool:
    """By a ray to the right, one edge after the other."""
    crossings = 0
    for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * ((x2 - x1) / (y2 - y1)):
            crossings += 1
    return crossings % 2 == 1


@given(st.lists(POLYGONS, min_size=1, max_size=3), st.integers(1, 12), st.integers(1, 12))
def test_covered_is_what_a_ray_says(polygons: list[tuple[Point, ...]], width: int, height: int) -> None:
    mask = covered(tuple(polygons), width, height)
    for (row, column), inside in np.ndenumerate(mask):
        x, y = (column + 0.5) / width, (row + 0.5) / height
        assert inside == any(_holds(polygon, x, y) for polygon in polygons)


@given(POLYGONS)
def test_turning_a_polygon_round_changes_nothing(polygon: tuple[Point, ...]) -> None:
    forward, backward = covered((polygon,), 32, 18), covered((polygon[::-1],), 32, 18)
    # A crossing that falls onto a centre may be rounded to either side of it.
    assert np.count_nonzero(forward != backward) <= 18
