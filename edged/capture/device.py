"""What a kind of source delivers, whatever the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.pool import Samples
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import av

Bytes = npt.NDArray[np.uint8]


def plane(picture: av.VideoFrame, index: int) -> Bytes:
    """A plane's pixels, [height, width], in the picture's own memory."""
    part = picture.planes[index]
    rows = np.frombuffer(memoryview(part), np.uint8).reshape(part.height, part.line_size)
    return rows[:, : part.width]


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture that is to be analysed."""

    source: str
    stamp_ns: int
    picture: av.VideoFrame
    due_ns: int = 0
    """A paced device's frame is not handed on before this moment (monotonic)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """`CHUNK_SAMPLES` of sound at `SAMPLE_RATE_HZ`, mono, −1 to 1."""

    source: str
    stamp_ns: int
    """When the first sample was taken."""
    samples: Samples
    due_ns: int = 0


class Device(Protocol):
    """An opened device, file or stream."""

    missing: dict[str, str]
    """Sources that the device can't serve, with the reason: a file without sound, say."""

    def read(self) -> Iterator[Frame | Chunk]:
        """What comes, until the end.

        Raises:
            SourceError: it can't be read any more.
        """

    def close(self) -> None:
        """Gives the device back."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How media time becomes stamps.

    Live, media time `start_ns` is the moment of opening. In a replay media time 0 is stamp 0, so that a
    stamp is a position in the recording whenever it is played.
    """

    replay: bool
    paced: bool
    """Files and synthetic scenes run at their own speed; otherwise as fast as they are read."""
    start_ns: int = 0
    """Where in the media reading begins."""
    opened_ns: int = field(default_factory=now_ns)

    def stamp_ns(self, media_ns: int) -> int:
        """The stamp of what lies at `media_ns`."""
        return media_ns if self.replay else self.opened_ns + media_ns - self.start_ns

    def due_ns(self, media_ns: int) -> int:
        """When to hand it on."""
        return self.opened_ns + media_ns - self.start_ns if self.paced else 0


class Sampler:
    """Chooses what is analysed, on a grid of the wanted rate, so that the same recording gives the
    same choice.
    """

    def __init__(self, rate_hz: float) -> None:
        self.period_ns = round(SECOND_NS / rate_hz)
        self._next_ns: int | None = None

    def take(self, stamp_ns: int) -> bool:
        """Whether this one is due. A jump of more than a second begins a new grid."""
        if self._next_ns is None or abs(stamp_ns - self._next_ns) > self.period_ns + SECOND_NS:
            self._next_ns = stamp_ns
        # A thousandth of tolerance: stamps are rounded to their container's time base.
        if stamp_ns < self._next_ns - self.period_ns // 1000:
            return False
        self._next_ns += self.period_ns * max(1, -(-(stamp_ns - self._next_ns) // self.period_ns))
        return True


class Chunker:
    """Cuts a run of samples of any length into chunks, and begins anew after a gap."""

    TOLERANCE_NS = 40_000_000
    """Containers round their stamps; below this it is no gap."""

    def __init__(self) -> None:
        self._pending: Samples = np.zeros(0, np.float32)
        self._start_ns = -SECOND_NS

    def add(self, stamp_ns: int, samples: Samples) -> Iterator[tuple[int, Samples]]:
        """The chunks (stamp of the first sample, samples) that are full now."""
        expected_ns = self._start_ns + len(self._pending) * SECOND_NS // SAMPLE_RATE_HZ
        if abs(stamp_ns - expected_ns) > self.TOLERANCE_NS:
            self._pending, self._start_ns = samples[:0], stamp_ns
        self._pending = np.concatenate([self._pending, samples])
        while len(self._pending) >= CHUNK_SAMPLES:
            chunk, self._pending = self._pending[:CHUNK_SAMPLES], self._pending[CHUNK_SAMPLES:]
            yield self._start_ns, chunk
            self._start_ns += CHUNK_NS
