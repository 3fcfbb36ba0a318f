"""Packets into a file, as they are, on the clock of their stamps."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Protocol

from edged.capture.ring import Piece, Slot, Track
from edged.wire.clock import SECOND_NS

MP4_CODECS = frozenset(
    {"h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "aac", "mp3", "opus", "flac", "ac3", "eac3"}
)
SUFFIXES = {"mp4": ".mp4", "matroska": ".mkv"}
PICTURE_HZ = 90_000
TAPE_HZ = 1_000_000
"""Ticks of a tape's pictures: their stamps come back to the microsecond."""
TAPE_OPTIONS = {
    # Each packet is whole in the file at once, and keeps its own time.
    "movflags": "frag_every_frame+empty_moov+default_base_moof+frag_discont",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
    "flush_packets": "1",
}


class Target(Protocol):
    """Where the bytes go."""

    def write(self, data: bytes) -> int:
        """Writes all of it, or raises OSError."""

    def seek(self, offset: int, whence: int) -> int:
        """As of a file."""

    def tell(self) -> int:
        """As of a file."""


def container_of(tracks: Iterable[Track]) -> str:
    """MP4 where all tracks belong there, else Matroska."""
    return "mp4" if all(one.codec in MP4_CODECS for one in tracks) else "matroska"


class Muxer:
    """One container that is being written."""

    def __init__(self, target: Target, tracks: Iterable[Track], zero_ns: int, *, tape: bool = False) -> None:
        """Stamp `zero_ns` is the beginning of the container's clock.

        Raises:
            av.FFmpegError, ValueError: a track does not go into the container.
        """
        import av

        tracks = list(tracks)
        format_name = container_of(tracks)
        options = TAPE_OPTIONS if tape and format_name == "mp4" else {}
        if tape and not options:
            options = {"avoid_negative_ts": "disabled", "flush_packets": "1"}
        file: Any = target
        self._container = av.open(file, "w", format=format_name, container_options=options)
        self._zero_ns = zero_ns
        self._tape = tape
        self._streams: dict[Slot, tuple[Any, int]] = {}
        self._last_dts: dict[Slot, int] = {}
        for one in tracks:
            template: Any = one.template
            stream = self._container.add_stream_from_template(template, opaque=True)
            sound = one.slot.kind == "audio"
            ticks = template.codec_context.sample_rate if sound else TAPE_HZ if tape else PICTURE_HZ
            stream.time_base = Fraction(1, ticks)
            self._streams[one.slot] = stream, ticks

    def write(self, one: Piece) -> None:
        """Writes a packet of one of the tracks.

        Raises:
            av.FFmpegError, OSError, ValueError: it can't be written.
        """
        import av

        slot = one.track.slot
        stream, ticks = self._streams[slot]
        pts = _ticks(one.stamp_ns - self._zero_ns, ticks)
        dts = _ticks(one.dts_ns - self._zero_ns, ticks)
        if self._tape:
            if pts < 0:
                return  # before the recording began
            dts = max(dts, 0)
        # Stamps may be corrected backwards by a little; a container's clock only goes forward.
        dts = max(dts, self._last_dts.get(slot, dts - 1) + 1)
        self._last_dts[slot] = dts
        payload: Any = one.packet
        packet: av.Packet[Any] = av.Packet(payload)  # shares its memory
        packet.stream = stream
        packet.time_base = Fraction(1, ticks)
        packet.pts, packet.dts = max(pts, dts), dts
        packet.duration = _ticks(one.duration_ns, ticks)
        packet.is_keyframe = one.key
        self._container.mux(packet)

    def close(self) -> None:
        """Writes what a container needs at its end.

        Raises:
            av.FFmpegError, OSError: it can't be written.
        """
        self._container.close()


def _ticks(ns: int, ticks: int) -> int:
    return (ns * ticks + SECOND_NS // 2) // SECOND_NS
