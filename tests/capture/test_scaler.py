"""Views against a plain reference."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from edged.capture.scaler import Scaler
from edged.wire.views import PictureView


def picture(data: Path) -> av.VideoFrame:
    """A frame with a person."""
    with av.open(str(data / "video/one-by-one-person.mp4")) as container:
        for frame in container.decode(video=0):
            if frame.time and frame.time > 10:
                found: av.VideoFrame = frame
                return found
    raise AssertionError("the film is too short")


@pytest.mark.parametrize(
    "view",
    [
        PictureView(416, 416),
        PictureView(352, 352, fit="stretch"),
        PictureView(320, 240, order="rgb", pad=0),
        PictureView(100, 300, order="rgb"),
    ],
    ids=lambda view: view.name,
)
def test_a_view_is_the_scaled_picture(view: PictureView, data: Path) -> None:
    frame = picture(data)
    slot = {view.name: np.zeros(view.shape, np.uint8)}
    Scaler((view,)).write(frame, slot)
    got = slot[view.name]
    width, height = view.fitted(frame.width, frame.height)
    plain = frame.reformat(width, height, f"{view.order}24", interpolation="BILINEAR").to_ndarray()
    difference = np.abs(got[:, :height, :width].transpose(1, 2, 0).astype(int) - plain)
    # The reference shares one chroma sample between two pixels, ours has one for each.
    assert difference.mean() < 2.5
    swapped = np.abs(got[::-1, :height, :width].transpose(1, 2, 0).astype(int) - plain)
    assert swapped.mean() > 3 * difference.mean()
    assert (got[:, height:] == view.pad).all()
    assert (got[:, :, width:] == view.pad).all()
    if view.fit == "letterbox":
        assert abs(width / height - frame.width / frame.height) < 0.02


def test_the_padding_is_there_whatever_the_slot_held_before(data: Path) -> None:
    view = PictureView(64, 64)
    slot = {view.name: np.full(view.shape, 9, np.uint8)}
    Scaler((view,)).write(picture(data), slot)
    assert (slot[view.name][:, -1] == view.pad).all()
