"""What the detectors share: which boxes are kept, and where they lie in the picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edged.perceive.picture import detections, shares, suppress
from edged.wire.views import PictureView
from tests.perceive.precision import overlap

Floats = npt.NDArray[np.float64]
Found = tuple[Floats, Floats, npt.NDArray[np.intp], float]


@st.composite
def boxes(draw: st.DrawFn) -> Found:
    """Boxes on a coarse grid, so that many overlap, and some are equal or empty."""
    count = draw(st.integers(0, 12))
    corners = draw(arrays.arrays(np.float64, (count, 2), elements=st.integers(0, 8).map(float)))
    sides = draw(arrays.arrays(np.float64, (count, 2), elements=st.integers(0, 8).map(float)))
    scores = draw(arrays.arrays(np.float64, count, elements=st.sampled_from([0.1, 0.5, 0.5001, 0.9])))
    classes = draw(arrays.arrays(np.intp, count, elements=st.integers(0, 2)))
    iou = draw(st.sampled_from([0.0, 0.3, 0.45, 0.9, 1.0]))
    return np.concatenate([corners, corners + sides], 1), scores, classes, iou


def ratio(found: Found, one: int, other: int) -> float:
    first, second = (tuple(map(float, found[0][index])) for index in (one, other))
    return overlap(first, second)  # type: ignore[arg-type]  # four numbers each


@given(boxes())
def test_what_is_kept_does_not_overlap(found: Found) -> None:
    _, _, classes, iou = found
    kept = suppress(*found)
    assert len(set(kept)) == len(kept)
    for place, one in enumerate(kept):
        for other in kept[:place]:
            assert classes[one] != classes[other] or ratio(found, one, other) <= iou + 1e-9


@given(boxes())
def test_what_is_dropped_lies_under_a_better_one_of_its_class(found: Found) -> None:
    _, scores, classes, iou = found
    kept = suppress(*found)
    for dropped in set(range(len(scores))) - set(kept):
        assert any(
            classes[one] == classes[dropped]
            and scores[one] >= scores[dropped]
            and ratio(found, one, dropped) > iou - 1e-9
            for one in kept
        )


@given(boxes())
def test_the_best_come_first_and_again_change_nothing(found: Found) -> None:
    boxes_, scores, classes, iou = found
    kept = suppress(*found)
    assert [scores[one] for one in kept] == sorted((scores[one] for one in kept), reverse=True)
    again = suppress(boxes_[kept], scores[kept], classes[kept], iou)
    assert again == list(range(len(kept)))


@given(boxes())
def test_classes_do_not_concern_each_other(found: Found) -> None:
    boxes_, scores, classes, iou = found
    kept = set(suppress(*found))
    for kind in range(3):
        (own,) = np.nonzero(classes == kind)
        alone = suppress(boxes_[own], scores[own], classes[own], iou)
        assert {int(own[one]) for one in alone} == {one for one in kept if classes[one] == kind}


def test_an_overlap_of_just_the_limit_is_kept() -> None:
    pair = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], np.float32)  # they share a third
    scores, classes = np.array([0.9, 0.8], np.float32), np.array([0, 0])
    assert suppress(pair, scores, classes, 0.34) == [0, 1]
    assert suppress(pair, scores, classes, 0.33) == [0]


def test_nothing_gives_nothing() -> None:
    none = np.zeros((0, 4), np.float32)
    assert detections(none, np.zeros(0, np.float32), np.zeros(0, np.intp), ("a",), 0.5) == ()


def test_detections_have_their_labels() -> None:
    two = np.array([[0, 0, 0.5, 0.25], [0.1, 0.2, 0.33333333, 1]], np.float32)
    found = detections(two, np.array([0.5, 0.75], np.float32), np.array([1, 0]), ("cat", "dog"), 0.5)
    assert [(one.label, one.score, one.box) for one in found] == [
        ("cat", 0.75, (0.1, 0.2, 0.3333, 1.0)),
        ("dog", 0.5, (0.0, 0.0, 0.5, 0.25)),
    ]


@given(st.integers(16, 4000), st.integers(16, 4000), st.sampled_from(["letterbox", "stretch"]))
def test_a_view_s_edges_are_the_picture_s(width: int, height: int, fit: str) -> None:
    view = PictureView(416, 320, fit="letterbox" if fit == "letterbox" else "stretch")
    fitted = view.fitted(width, height)
    assert fitted[0] <= 416
    assert fitted[1] <= 320
    assert 416 in fitted or 320 in fitted
    edge = np.array([[0, 0, *fitted], [-9, -9, 999, 999]], np.float32)
    assert shares(edge, view, (width, height)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
