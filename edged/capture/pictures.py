"""Decodes the pictures of one stream: all of them, or the key frames alone where these are enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edged.wire.clock import SECOND_NS

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused: a few bytes can claim to be gigabytes."""
MAX_GROUP = 1500
"""Packets since the last key frame that are kept, a minute at 25 Hz."""
MAX_LOST = 250
"""So many packets without a key frame, and what can be decoded is taken as it is."""
BREATH = 10
"""After so many packets that are caught up with, others may be served."""
TOLERANCE = 1.05
LATE = 1.5
"""A key frame that is so many periods late will not give the rate: the others are decoded again."""


class Pictures:
    """A decoder that can rest between key frames and come back with a right picture.

    A picture in the middle of a group is right only when all before it in the group were decoded. So the
    packets since the last key frame are kept, and are what the decoder is fed first when it is to go on.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._context = stream.codec_context
        # One thread: a device's pictures have to leave the other cores to the engines.
        self._context.thread_count = 1
        self._context.options = {"max_pixels": str(MAX_PIXELS)}
        self._group: list[av.Packet[Any]] = []
        self._interval_ns: int | None = None
        self._wanted_hz = float("inf")
        self._resting = False
        self._lost, self._lost_packets = False, 0
        self._given: int | None = None

    def want(self, rate_hz: float) -> None:
        """So many pictures a second are enough from now on."""
        self._wanted_hz = rate_hz

    @property
    def resting(self) -> bool:
        """Nothing but key frames is decoded, and that is enough."""
        return self._resting and self._keys_are_enough()

    def lose(self) -> None:
        """A packet was not decoded: nothing is, until the next key frame."""
        self._lost, self._lost_packets = True, 0

    def decode(self, packet: av.Packet[Any]) -> Iterator[av.VideoFrame | None]:
        """The pictures that are complete with this packet; None now and then when that takes long.

        Raises:
            av.FFmpegError: it can't be decoded.
        """
        if not packet.size:  # the end: what the decoder still holds
            yield from () if self._resting else self._new(self._context.decode(None))
        elif packet.is_keyframe:
            yield from self._key(packet)
        elif self._lost:
            self._lost_packets += 1
            # A stream may have no key frames, and refresh its picture bit by bit.
            self._lost = self._lost_packets < MAX_LOST
        elif not self._resting:
            yield from self._new(self._context.decode(packet))
        else:
            self._group.append(packet)
            late = self._since_key_ns(packet) * self._wanted_hz > SECOND_NS * LATE
            if len(self._group) > MAX_GROUP:
                self.lose()
            elif late or not self._keys_are_enough():
                self._resting = False
                for number, earlier in enumerate(self._group[:-1], 1):
                    # Parameter sets alone are an error to it; what is damaged is passed over, as always.
                    with contextlib.suppress(ValueError, OSError):
                        self._context.decode(earlier)
                    if number % BREATH == 0:
                        yield None
                yield from self._new(self._context.decode(packet))

    def _new(self, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """Without the key frame that was handed out already when the decoder rested."""
        if self._given is not None and pictures:
            pictures = [picture for picture in pictures if picture.pts != self._given]
            self._given = None if pictures else self._given
        return pictures

    def _key(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        since_ns = self._since_key_ns(packet)
        if since_ns or not self._group or self._lost:
            self._interval_ns = since_ns or None
            self._group = []
        # Else it is the rest of a key frame: RTSP sends parameter sets as packets of their own.
        self._group.append(packet)
        self._lost = False
        if not self._keys_are_enough():
            self._resting = False
            return self._context.decode(packet)
        held = [] if self._resting else self._new(self._drain())
        self._resting = True
        # Drained at once: a decoder that reorders would hand the picture out one key frame late.
        self._given = packet.pts
        return [*held, *self._context.decode(packet), *self._drain()]

    def _drain(self) -> list[av.VideoFrame]:
        try:
            return self._context.decode(None)
        finally:
            self._context.flush_buffers()

    def _since_key_ns(self, packet: av.Packet[Any]) -> int:
        first = self._group[0] if self._group else packet
        if packet.pts is None or first.pts is None or not packet.time_base:
            return 0
        return max(0, round((packet.pts - first.pts) * packet.time_base * SECOND_NS))

    def _keys_are_enough(self) -> bool:
        return self._interval_ns is not None and self._interval_ns * self._wanted_hz <= SECOND_NS * TOLERANCE
