"""What a device brought last, as packets: so a clip can begin before the moment it is asked for."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edged.capture.device import Encoded
from edged.wire.clock import SECOND_NS

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

    from edged.capture.device import Origin

OVERHEAD_BYTES = 1024
"""What a packet costs beside its payload: Python's and FFmpeg's own objects, rounded up."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where packets come from: one camera's picture, one microphone's sound."""

    sources: tuple[str, ...]
    kind: Literal["video", "audio"]


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """A run of packets that one header describes."""

    slot: Slot
    codec: str
    """FFmpeg's name of the format, `h264` or `opus`."""
    template: VideoStream | AudioStream
    """The header, in a container of our own: it outlives the device's."""

    @property
    def header(self) -> tuple[object, ...]:
        """What has to be equal for packets to go on in the same file."""
        context: Any = self.template.codec_context
        if self.slot.kind == "video":
            return self.codec, context.extradata, context.width, context.height
        return self.codec, context.extradata, context.sample_rate, context.layout.name


def track(slot: Slot, origin: Origin) -> Track:
    """The track of a stream's packets, of a device or of an encoder that was started.

    Raises:
        ValueError: no container can hold such packets.
    """
    import av

    holder = av.open(io.BytesIO(), "w", format="matroska")
    template: Any = holder.add_stream_from_template(origin, opaque=True)
    return Track(slot, template.codec_context.codec.canonical_name, template)


@dataclass(frozen=True, slots=True)
class Piece:
    """A packet on the clock of the stamps."""

    track: Track
    packet: av.Packet[Any]
    stamp_ns: int
    dts_ns: int
    """When it is to be decoded; not later than `stamp_ns`."""
    duration_ns: int
    """0: unknown."""
    key: bool
    bytes: int
    """What it costs to keep."""


def piece(of: Track, encoded: Encoded) -> Piece:
    """The packet as a piece; its payload is shared, not copied."""
    packet = encoded.packet
    tick_ns = packet.time_base * SECOND_NS if packet.time_base else 0
    ahead = packet.pts - packet.dts if packet.pts is not None and packet.dts is not None else 0
    return Piece(
        track=of,
        packet=packet,
        stamp_ns=encoded.stamp_ns,
        dts_ns=encoded.stamp_ns - max(0, round(ahead * tick_ns)),
        duration_ns=round((packet.duration or 0) * tick_ns),
        key=of.slot.kind == "audio" or packet.is_keyframe,
        bytes=packet.size + OVERHEAD_BYTES,
    )


class Ring:
    """The newest pieces, bounded in bytes, and in time where key frames allow it."""

    def __init__(self, seconds: float, limit_bytes: int) -> None:
        """Of each picture the last key frame that is `seconds` old, and what follows it, is kept."""
        self._length_ns = round(seconds * SECOND_NS)
        self._limit = limit_bytes
        self._pieces: deque[Piece] = deque()
        self._keys: dict[Slot, deque[int]] = {}
        """The key frames of each picture that lie in the ring, by stamp."""
        self._last: dict[Slot, int] = {}
        self._newest_ns = -(1 << 62)
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, one: Piece) -> None:
        """Takes the newest piece, and drops what is too old."""
        slot = one.track.slot
        self._pieces.append(one)
        self.bytes += one.bytes
        self._newest_ns = max(self._newest_ns, one.stamp_ns)
        self._last[slot] = one.stamp_ns
        if one.key and slot.kind == "video":
            self._keys.setdefault(slot, deque()).append(one.stamp_ns)
        while self.bytes > self._limit:
            self._drop()
        needed_ns = self._needed_ns()
        while self._pieces and self._pieces[0].stamp_ns < needed_ns:
            self._drop()

    def _drop(self) -> None:
        dropped = self._pieces.popleft()
        self.bytes -= dropped.bytes
        keys = self._keys.get(dropped.track.slot)
        if dropped.key and keys and keys[0] == dropped.stamp_ns:
            keys.popleft()

    def _needed_ns(self) -> int:
        limit_ns = needed_ns = self._newest_ns - self._length_ns
        for slot, keys in self._keys.items():
            while len(keys) > 1 and keys[1] <= limit_ns:
                keys.popleft()
            # A picture that came to its end long ago keeps nothing.
            if keys and self._last[slot] >= limit_ns:
                needed_ns = min(needed_ns, keys[0])
        return needed_ns

    def since(self, stamp_ns: int, sources: Iterable[str]) -> list[Piece]:
        """The pieces of `sources` from `stamp_ns` on, in the order they came.

        Each picture begins with its last key frame at or before `stamp_ns`, or with the first there is;
        sound begins with the pictures. Without a picture it begins at or before `stamp_ns` itself.
        """
        wanted = frozenset(sources)
        pieces = [one for one in self._pieces if wanted.intersection(one.track.slot.sources)]
        starts = _starts(pieces, stamp_ns, "video")
        if starts:
            first_ns = min(pieces[index].stamp_ns for index in starts.values())
            for index, one in enumerate(pieces):
                if one.track.slot.kind == "audio" and one.stamp_ns >= first_ns:
                    starts.setdefault(one.track.slot, index)
        else:
            starts = _starts(pieces, stamp_ns, "audio")
        begin_ns = {slot: pieces[index].stamp_ns for slot, index in starts.items()}
        # What is shown before the key frame but comes after it needs the pictures before it.
        return [
            one
            for index, one in enumerate(pieces)
            if one.track.slot in starts
            and index >= starts[one.track.slot]
            and one.stamp_ns >= begin_ns[one.track.slot]
        ]


def _starts(pieces: list[Piece], stamp_ns: int, kind: str) -> dict[Slot, int]:
    starts: dict[Slot, int] = {}
    for index, one in enumerate(pieces):
        slot = one.track.slot
        if one.key and slot.kind == kind and (slot not in starts or one.stamp_ns <= stamp_ns):
            starts[slot] = index
    return starts
