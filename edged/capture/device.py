"""What a kind of source delivers, whatever the device."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.pool import Samples

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

    Origin = VideoStream | AudioStream

Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")

TICK_S = 0.1
"""A device that has nothing to give says so after this time, so that the process can serve others."""
ROOM_S = 0.01
"""So often a reader that waits for room looks again."""


def plane(picture: av.VideoFrame, index: int) -> Bytes:
    """A plane's pixels, [height, width], in the picture's own memory."""
    part = picture.planes[index]
    rows = np.frombuffer(memoryview(part), np.uint8).reshape(part.height, part.line_size)
    return rows[:, : part.width]


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture."""

    source: str
    stamp_ns: int
    picture: av.VideoFrame
    due_ns: int = 0
    """A paced device's frame is not handed on before this moment (monotonic)."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Some sound as the device gives it: mono, float32, −1 to 1."""

    source: str
    stamp_ns: int
    """When the first sample was taken."""
    samples: Samples
    rate_hz: int
    due_ns: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """A packet as it came, or as it was encoded here; for clips."""

    sources: tuple[str, ...]
    """The sources that it belongs to."""
    packet: av.Packet[Any]
    stamp_ns: int
    """Of its presentation."""
    origin: Origin
    """The stream that it came from: one object for one track. It outlives its container."""
    due_ns: int = 0


Item = Frame | Sound | Encoded


class Device(Protocol):
    """An opened device, file or stream."""

    missing: dict[str, str]
    """Sources that the device can't serve, with the reason: a file without sound, say."""
    lost: Counter[str]
    """What the device had to leave out, by reason."""

    def want(self, rates_hz: Mapping[str, float]) -> None:
        """So many pictures a second are wanted of each source from now on; more may come."""

    def read(self) -> Iterator[Item | None]:
        """What comes, until the end; None when nothing came for `TICK_S`.

        Raises:
            SourceError: it can't be read any more.
        """

    def close(self) -> None:
        """Gives the device back."""


class Arrivals(Generic[T]):
    """Between the thread or callback that a device is read in, and the process's main loop."""

    def __init__(self, limit: int, wake_fd: int = -1) -> None:
        """At `limit` waiting items the reader waits, too (`put`), or loses the item (`offer`). The main
        loop also wakes when `wake_fd` becomes readable.
        """
        self._limit = limit
        self._queue: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()
        self._came = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = select.poll()
        for fd in (self._came, wake_fd):
            if fd >= 0:
                self._poller.register(fd, select.POLLIN)

    def close(self) -> None:
        """Nobody reads any more, and the thread has said its last word."""
        came, self._came = self._came, -1
        if came >= 0:
            os.close(came)

    def __del__(self) -> None:
        self.close()

    def put(self, item: T, *, until_s: float = 3600.0) -> bool:
        """Waits for room; False when there was none for so long."""
        deadline = time.monotonic() + until_s
        while not self.offer(item):
            if time.monotonic() > deadline:
                return False
            time.sleep(ROOM_S)  # in the reading thread: the queue has no way to tell of room
        return True

    def offer(self, item: T) -> bool:
        """False when there was no room."""
        if self._queue.qsize() >= self._limit:
            return False
        self._queue.put(item)
        os.eventfd_write(self._came, 1)
        return True

    def fail(self, error: BaseException) -> None:
        """The last that comes: behind all that waits, `get` will raise it."""
        self._queue.put(error)
        os.eventfd_write(self._came, 1)

    def get(self, timeout_s: float = TICK_S) -> T | None:
        """The next item; None when none came for so long, or something else wants to be seen to."""
        if self._queue.empty():
            self._poller.poll(timeout_s * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._came)
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            try:
                raise item
            finally:
                # Its traceback holds this frame, and the frame what is open, until the next collection.
                del item
        return item


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
    wake_fd: int = -1
    """Whoever waits for the device is to stop waiting when this becomes readable."""

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

    def at(self, rate_hz: float) -> None:
        """Another rate from now on; a higher one takes effect with the very next."""
        period_ns = round(SECOND_NS / rate_hz)
        if period_ns < self.period_ns:
            self._next_ns = None
        self.period_ns = period_ns

    def take(self, stamp_ns: int) -> bool:
        """Whether this one is due. A jump of more than a second begins a new grid."""
        if self._next_ns is None or abs(stamp_ns - self._next_ns) > self.period_ns + SECOND_NS:
            self._next_ns = stamp_ns
        # A thousandth of tolerance: stamps are rounded to their container's time base.
        if stamp_ns < self._next_ns - self.period_ns // 1000:
            return False
        self._next_ns += self.period_ns * max(1, -(-(stamp_ns - self._next_ns) // self.period_ns))
        return True
