"""How much moves in a picture, and how loud a sound is: measured on everything that is captured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edged.capture.device import plane
from edged.wire.pool import Samples

if TYPE_CHECKING:
    import av

QUIETEST_DBFS = -100.0


class Motion:
    """The share of pixels that differ from a running average of a small grey picture."""

    WIDTH, HEIGHT = 192, 108
    THRESHOLD = 18.0
    """Grey levels; over the noise that scaling down leaves of a sensor's."""
    LEARNING = 0.08
    """Share of a new picture in the average: what stays is background after some ten frames."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._scaler = VideoReformatter()
        self._background: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None

    def share(self, picture: av.VideoFrame) -> float:
        """0 when nothing moved, 1 when every pixel changed; 0 for the first picture."""
        small = self._scaler.reformat(
            picture, self.WIDTH, self.HEIGHT, "gray", interpolation="AREA", threads=1
        )
        grey = plane(small, 0)
        if self._background is None:
            self._background = grey.astype(np.float32)
        change = grey - self._background
        self._background += self.LEARNING * change
        return int(np.count_nonzero(np.abs(change) > self.THRESHOLD)) / grey.size


def level_dbfs(samples: Samples) -> float:
    """RMS in dB relative to full scale (a square wave of amplitude 1 has 0)."""
    power = float(np.dot(samples, samples)) / max(1, len(samples))
    return max(QUIETEST_DBFS, 10 * math.log10(power)) if power > 0 else QUIETEST_DBFS


def loudness(dbfs: float) -> float:
    """The level as a score: −60 dBFS and less is 0, 0 dBFS is 1, linear in dB between."""
    return min(1.0, max(0.0, 1 + dbfs / 60))
