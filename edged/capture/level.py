"""How loud a sound is, and whether it is more than the silence of its place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edged.wire.clock import SECOND_NS

if TYPE_CHECKING:
    from edged.config.gates import LevelConfig
    from edged.wire.pool import Samples

QUIETEST_DBFS = -100.0

FALL_S = 0.1
"""Time constant by which the floor falls to what is quieter."""
LONGEST_S = 2.0
"""A gap in the recording lets the floor rise no further than this time does."""


class Level:
    """Tells sound from the noise of its place by a noise floor: it falls at once to what is quieter and
    rises slowly to what is louder, so that it lies at the lowest level of the last while.

    The idea is that of minimum statistics (R. Martin, "Noise power spectral density estimation based on
    optimal smoothing and minimum statistics", 2001), of the whole band, with a constant rise for its
    window.
    """

    def __init__(self, config: LevelConfig) -> None:
        self._config = config
        self._stamp_ns: int | None = None
        self.active = False
        """Whether there is sound: since one came that was so far above the floor, and at least so loud,
        as the configuration says, none has been nearer to the floor than half of that."""
        self.floor_dbfs = QUIETEST_DBFS
        """The noise floor; it begins with the level of the first samples."""

    def add(self, samples: Samples, stamp_ns: int) -> float:
        """Takes the sound that begins at `stamp_ns`, float32 −1 to 1; its level in dBFS."""
        level = level_dbfs(samples)
        if self._stamp_ns is None:
            self.floor_dbfs = level
        else:
            seconds = min(LONGEST_S, max(0.0, (stamp_ns - self._stamp_ns) / SECOND_NS))
            above = level - self.floor_dbfs
            if above > 0:
                self.floor_dbfs += min(above, self._config.rise_db_s * seconds)
            else:
                self.floor_dbfs += above * (1 - math.exp(-seconds / FALL_S))
        self._stamp_ns = stamp_ns
        needed = self._config.above_floor_db
        # A floor below this would say nothing, and after a muted microphone it would rise for minutes.
        self.floor_dbfs = max(self.floor_dbfs, self._config.min_dbfs - needed)
        self.active = level - self.floor_dbfs >= (needed / 2 if self.active else needed)
        return level


def level_dbfs(samples: Samples) -> float:
    """RMS in dB relative to full scale (a square wave of amplitude 1 has 0)."""
    power = float(np.dot(samples, samples)) / max(1, len(samples))
    return max(QUIETEST_DBFS, 10 * math.log10(power)) if power > 0 else QUIETEST_DBFS


def loudness(dbfs: float) -> float:
    """The level as a score: −60 dBFS and less is 0, 0 dBFS is 1, linear in dB between."""
    return min(1.0, max(0.0, 1 + dbfs / 60))
