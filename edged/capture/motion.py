"""How much moves in a picture: measured on every picture that is analysed, so it has to be cheap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edged.capture.device import Bytes, plane
from edged.config.gates import Mask, covered
from edged.wire.clock import SECOND_NS

if TYPE_CHECKING:
    import av

    from edged.config.gates import MotionConfig

PIXELS = 192 * 108
"""What a picture is scaled down to, whatever its shape; a smaller one stays as it is."""
BLOCK = 4
"""Pixels count where at least `CROWD` of a block of 4 × 4 differ: noise and edges that were compressed
in another way are scattered, things are not."""
CROWD = 8

UNIT = 64
"""The arrays hold grey levels times this, as int16: numpy does those 8 or 16 at a time."""
WHITE = 255 * UNIT

LEARNING_S = 4.0
"""Grey levels a second by which the background follows."""
RISING_S, FALLING_S = 4.0, 0.4
"""Grey levels a second by which a pixel's threshold rises and falls: so it comes to lie at twice the change
that the pixel exceeds in a tenth of the pictures."""
RESTLESS = 1.5
"""Grey levels that a pixel adds to its threshold each time it begins or ceases to move: leaves do so all
the time, people hardly."""
HIGHEST = 64.0
"""Grey levels that no threshold exceeds."""
LONGEST_S = 2.0
"""A gap between pictures teaches no more than this time would."""

LIGHT, STEEPEST = 0.005, 8.0
"""A relative change of the whole picture's brightness that the background follows at once, and the factor
by which it does so at most."""
SAMPLES = 640
"""Pixels that brightness is taken from."""
MOST = 0.5
"""When more of the picture changes at once, it is another light or another scene, and learned anew;"""
UPHEAVALS, CALM_S = 4, 2.0
"""but after so many of those in succession it is motion, until this time has passed for each."""
LARGE = 0.15
"""More of the picture than a person takes. Such a change settles sooner in proportion: it is rather a
blind or a moved camera than somebody who waits."""
SWITCHED = 0.1
"""When the brightness changes by more at once, already `LARGE` is learned anew: lamps light unevenly."""
FORGET_S = 600.0
"""What was background before is forgotten when it has not been seen for so long."""
MATCHED_S, NEAR = 1.0, 2.0
"""So often it is brought to the present background where it is no more grey levels from it: there it is
no other, and a wider bound would let the shade of somebody who stands there into both."""

SETTLED = 16_000
"""Of `_Background.held`, where a change has become background."""


class Motion:
    """The share of the picture that differs from a background, which adapts.

    In seconds, not in pictures: it is the same at any rate. A picture of another size begins anew.
    """

    def __init__(self, config: MotionConfig) -> None:
        from av.video.reformatter import VideoReformatter

        self._config = config
        self._scaler = VideoReformatter()
        self._size = (0, 0)
        self._grid = (0, 0)
        self._background: _Background | None = None
        self._stamp_ns = 0
        self.moving = False
        """Whether enough moves: since it was the configured share, it has not been less than half of it."""

    def share(self, picture: av.VideoFrame, stamp_ns: int) -> float:
        """0 when nothing moves outside the mask, 1 when everything does; 0 for the first picture.

        Args:
            picture: any size, any pixel format that swscale makes grey.
            stamp_ns: when it was taken. Not later than that before: nothing is learned of it.
        """
        size = (picture.width, picture.height)
        if size != self._size:
            self._size, self._grid, self._background = size, _grid(*size), None
        small = self._scaler.reformat(picture, *self._grid, "gray", interpolation="AREA", threads=1)
        grey = plane(small, 0)
        if self._background is None:
            seen = ~covered(self._config.mask, *self._grid)
            self._background = _Background(grey, seen, self._config.min_change, self._config.settle_s)
            share = 0.0
        else:
            seconds = min(LONGEST_S, max(0.0, (stamp_ns - self._stamp_ns) / SECOND_NS))
            share = self._background.compare(grey, seconds)
        self._stamp_ns = stamp_ns
        needed = self._config.min_share
        self.moving = share > 0 and share >= (needed / 2 if self.moving else needed)
        return share


class _Background:
    """What a small grey picture looks like when nothing moves.

    For each pixel a level and a threshold, which both follow what is seen by steps of bounded size:
    sigma-delta estimation (A. Manzanera and J. C. Richefeu, "A new motion detection algorithm based on
    Σ–Δ background estimation", 2007). Beyond that:

    - Pixels that move are not learned, and the background that a lasting change has replaced is kept
      beside the new one. A running average takes in whoever stands still, and the exposure that the
      camera chose for them: when they have gone, it fires in an empty room until it has unlearned both.
    - A change of light is taken out by the median ratio of the picture to an earlier one.
    - Each key frame changes a compressed picture by up to nine grey levels; `min_change` lies above.
    """

    def __init__(self, grey: Bytes, seen: Mask, min_change: float, settle_s: float) -> None:
        """Begins with the first picture, uint8 [height, width], both multiples of `BLOCK`.

        Args:
            grey: what is background until something else is known.
            seen: where motion counts, bool of the same shape.
            min_change: the lowest threshold in grey levels.
            settle_s: seconds after which a change is background.
        """
        shape = grey.shape
        self._seen, self._settle_s = seen, settle_s
        self._counted = max(1, int(np.count_nonzero(seen)))
        # At random: a regular choice would fall into few columns.
        self._sampled = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(seen))[:SAMPLES])
        self._now = np.multiply(grey, UNIT, dtype=np.int16)
        self._level = self._now.copy()
        self._reference = self._now.copy()
        """The picture when the background followed the light the last time. The ratio is taken to this and
        not to the background, which has learned a part of it already, but not where something moves."""
        self._former = self._now.copy()
        """What was background before, and may be so again."""
        self._former_s = 0.0
        """Since it was last of use."""
        self._lowest = np.full(shape, round(min_change * UNIT), np.int16)
        self._highest = np.full(shape, round(max(HIGHEST, min_change) * UNIT), np.int16)
        self._threshold = self._lowest.copy()
        self._held = np.zeros(shape, np.int16)
        """For how long each pixel has moved without a break; `SETTLED` is settle_s."""
        self._longest = 0
        """What none of them exceeds."""
        self._held_rest = self._fall_rest = 0.0
        self._moves, self._moved = np.zeros(shape, bool), np.zeros(shape, bool)
        self._restless = False
        """Whether any pixel moved in the last picture."""
        self._upheavals = self._unmatched_s = 0.0
        # Room for what is in between.
        self._difference, self._change, self._step = (np.empty(shape, np.int16) for _ in range(3))
        self._mask = np.empty(shape, bool)
        words = (shape[0] // BLOCK, BLOCK, shape[1] // BLOCK)
        self._words = self._moves.view(np.uint32).reshape(words)
        self._crowds = np.empty((words[0], words[2]), np.uint32)

    def compare(self, grey: Bytes, seconds: float) -> float:
        """The share of what is seen that moves in the next picture, `seconds` after the last."""
        np.copyto(self._now, grey)
        np.multiply(self._now, np.int16(UNIT), out=self._now)
        most = LARGE if self._follow_the_light() > SWITCHED else MOST
        self._subtract()
        moving = 0
        if np.count_nonzero(self._moves):
            self._try_the_former()
            moving = self._crowd()
        self._upheavals = max(0.0, self._upheavals - seconds / CALM_S)
        if moving > most * self._counted and self._upheavals < UPHEAVALS:
            self._begin_anew()
            return 0.0
        if moving or self._longest:
            moving -= self._settle(moving, seconds)
        self._learn(moving > 0, seconds)
        return moving / self._counted

    def _follow_the_light(self) -> float:
        """Multiplies the background by what the picture has become brighter where nothing moved; by how
        much the ratio differs from 1.
        """
        still = self._sampled[~self._moved.take(self._sampled)]
        if still.size < SAMPLES // 20:
            return 0.0
        dark = np.float32(4 * UNIT)  # keeps the noise of black pixels out of the ratio
        ratios = (self._now.take(still) + dark) / (self._reference.take(still) + dark)
        ratios.partition(still.size // 2)
        ratio = min(STEEPEST, max(1 / STEEPEST, float(ratios[still.size // 2])))
        if abs(ratio - 1) < LIGHT:
            return 0.0
        np.copyto(self._reference, self._now)
        lit = np.minimum(self._level * np.float32(ratio), WHITE).astype(np.int16)
        # All but what is as it was: a lamp, or what is white anyway. What is covered follows, unseen.
        np.abs(np.subtract(self._now, lit, out=self._change), out=self._change)
        np.abs(np.subtract(self._now, self._level, out=self._step), out=self._step)
        np.less(self._change, self._step, out=self._mask)
        np.greater(self._step, self._threshold, out=self._moves)
        np.logical_or(self._mask, self._moves, out=self._mask)
        np.copyto(self._level, lit, where=self._mask)
        if abs(ratio - 1) <= SWITCHED:  # else it is kept as it was in the former light
            lit = np.minimum(self._former * np.float32(ratio), WHITE).astype(np.int16)
            np.copyto(self._former, lit, where=self._mask)
        return abs(ratio - 1)

    def _subtract(self) -> None:
        np.subtract(self._now, self._level, out=self._difference)
        np.abs(self._difference, out=self._change)
        np.greater(self._change, self._threshold, out=self._moves)
        np.logical_and(self._moves, self._seen, out=self._moves)

    def _try_the_former(self) -> None:
        """Where the picture is as it was before the last lasting change, that is the background again."""
        np.subtract(self._now, self._former, out=self._step)
        np.abs(self._step, out=self._step)
        np.less_equal(self._step, self._threshold, out=self._mask)
        np.logical_and(self._mask, self._moves, out=self._mask)
        back = np.flatnonzero(self._mask)
        if back.size:
            self._former_s = 0.0
            level, former = self._level.reshape(-1), self._former.reshape(-1)
            level[back], former[back] = former[back], level[back]
            self._subtract()

    def _crowd(self) -> int:
        """Leaves only the pixels that move in crowds; how many there are."""
        # A word holds the four bytes of a block's row, each 0 or 1, and sums of four rows up to 4: the
        # multiplication adds the bytes up in the highest one.
        np.add.reduce(self._words, axis=1, dtype=np.uint32, out=self._crowds)
        np.multiply(self._crowds, 0x01010101, out=self._crowds)
        np.right_shift(self._crowds, 24, out=self._crowds)
        np.greater_equal(self._crowds, CROWD, out=self._crowds)
        np.multiply(self._words, self._crowds[:, None], out=self._words)
        return int(np.count_nonzero(self._moves))

    def _begin_anew(self) -> None:
        """The whole picture is background; what was so before may come back."""
        self._upheavals += 1
        self._level, self._former = self._former, self._level
        self._former_s = 0.0
        np.copyto(self._level, self._now)
        np.copyto(self._reference, self._now)
        self._held.fill(0)
        self._longest = 0
        self._moves.fill(0)
        self._moved.fill(0)

    def _settle(self, moving: int, seconds: float) -> int:
        """Makes background of what has moved for long enough; how many pixels of those that move."""
        seconds *= max(1.0, moving / self._counted / LARGE)
        self._held_rest += seconds / self._settle_s * SETTLED
        step = math.floor(self._held_rest)
        self._held_rest -= step
        np.add(self._held, min(step, SETTLED), out=self._held)
        np.multiply(self._held, self._moves, out=self._held)
        self._longest = self._longest + step if moving else 0
        if self._longest < SETTLED:
            return 0
        settled = np.flatnonzero(self._held >= SETTLED)
        level, former = self._level.reshape(-1), self._former.reshape(-1)
        former[settled] = level[settled]
        level[settled] = self._now.reshape(-1)[settled]
        self._former_s = 0.0
        self._held.reshape(-1)[settled] = 0
        self._longest = int(self._held.max())
        self._moves.reshape(-1)[settled] = False
        self._difference.reshape(-1)[settled] = self._change.reshape(-1)[settled] = 0
        return int(settled.size)

    def _learn(self, moving: bool, seconds: float) -> None:
        """Level and threshold of what does not move follow the picture."""
        step, up = round(LEARNING_S * seconds * UNIT), round(RISING_S * seconds * UNIT)
        self._fall_rest += FALLING_S * seconds * UNIT
        down = math.floor(self._fall_rest)
        self._fall_rest -= down
        self._difference.clip(np.int16(-step), np.int16(step), out=self._difference)
        np.minimum(self._change, self._highest, out=self._change)
        np.left_shift(self._change, 1, out=self._change)
        np.subtract(self._change, self._threshold, out=self._change)
        self._change.clip(np.int16(-down), np.int16(up), out=self._change)
        if moving or self._restless:
            still = np.logical_not(self._moves, out=self._mask)
            np.multiply(self._difference, still, out=self._difference)
            np.multiply(self._change, still, out=self._change)
            flips = np.not_equal(self._moves, self._moved, out=self._mask)
            np.multiply(flips, np.int16(RESTLESS * UNIT), out=self._step)
            np.add(self._change, self._step, out=self._change)
            np.copyto(self._moved, self._moves)
            self._restless = moving
        np.add(self._level, self._difference, out=self._level)
        np.add(self._threshold, self._change, out=self._threshold)
        np.minimum(self._threshold, self._highest, out=self._threshold)
        np.maximum(self._threshold, self._lowest, out=self._threshold)
        self._unmatched_s += seconds
        if self._unmatched_s >= MATCHED_S:
            self._unmatched_s = 0.0
            self._match_the_former()

    def _match_the_former(self) -> None:
        """Where there is no other background than the present one, the former follows it."""
        self._former_s += MATCHED_S
        if self._former_s > FORGET_S:
            np.copyto(self._former, self._level)
            return
        np.subtract(self._former, self._level, out=self._step)
        np.abs(self._step, out=self._step)
        np.less_equal(self._step, NEAR * UNIT, out=self._mask)
        np.copyto(self._former, self._level, where=self._mask)


def _grid(width: int, height: int) -> tuple[int, int]:
    """What to scale a picture to: its shape, about `PIXELS`, whole blocks."""
    scale = min(1.0, math.sqrt(PIXELS / (width * height)))
    across, down = (max(1, round(side * scale / BLOCK)) * BLOCK for side in (width, height))
    return across, down
