"""Scales a picture into the views that models asked for, straight into the slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edged.capture.device import plane
from edged.wire.pool import Array
from edged.wire.views import PictureView

if TYPE_CHECKING:
    import av


class Scaler:
    """Writes one source's pictures into views."""

    def __init__(self, views: tuple[PictureView, ...]) -> None:
        from av.video.reformatter import VideoReformatter

        # One each: a reformatter keeps the tables of its last conversion.
        self._scalers = [(view, VideoReformatter()) for view in views]

    def write(self, picture: av.VideoFrame, arrays: Mapping[str, Array]) -> None:
        """Fills every view. swscale scales and converts in one pass; planes need no interleaving."""
        for view, scaler in self._scalers:
            # One thread: helpers of swscale would wake on the engine's core, for less than they cost.
            width, height = view.fitted(picture.width, picture.height)
            scaled = scaler.reformat(picture, width, height, "gbrp", interpolation="BILINEAR", threads=1)
            target = arrays[view.name]
            # FFmpeg's gbrp has its planes in the order G, B, R.
            for row, index in enumerate((1, 0, 2) if view.order == "bgr" else (2, 0, 1)):
                target[row, :height, :width] = plane(scaled, index)
            target[:, height:] = view.pad
            target[:, :height, width:] = view.pad
