"""How models want what is captured: the words that capture and perceive share about a slot's content."""

from __future__ import annotations

from typing import Literal

from edged.wire.clock import SECOND_NS
from edged.wire.records import Record

SAMPLE_RATE_HZ = 16_000
"""All models of sound that the cards know run at this rate, mono."""
CHUNK_SAMPLES = 1536
"""96 ms: three windows of Silero VAD, ten hand-overs a second."""
CHUNK_NS = CHUNK_SAMPLES * SECOND_NS // SAMPLE_RATE_HZ
SOUND = "sound"
"""The view that holds a chunk: float32, [CHUNK_SAMPLES], −1 to 1."""


class PictureView(Record, frozen=True):
    """A picture as a model wants it: planes of uint8, [3, height, width]."""

    width: int
    height: int
    order: Literal["bgr", "rgb"] = "bgr"
    fit: Literal["letterbox", "stretch"] = "letterbox"
    """`letterbox` keeps the proportions, places the picture top left and fills up with `pad`."""
    pad: int = 114

    @property
    def name(self) -> str:
        """Equal views have equal names, so that models share them."""
        return f"{self.order}-{self.fit}-{self.width}x{self.height}-{self.pad}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the array in the slot."""
        return (3, self.height, self.width)

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a picture of `width` × `height` takes in the view."""
        if self.fit == "stretch":
            return self.width, self.height
        scale = min(self.width / width, self.height / height)
        return max(1, round(width * scale)), max(1, round(height * scale))
