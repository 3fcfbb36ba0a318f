"""Pictures and sound of raw devices as packets, encoded as they come."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from edged.capture.device import Encoded
from edged.wire.clock import SECOND_NS
from edged.wire.pool import Samples

if TYPE_CHECKING:
    import av
    from av.audio.codeccontext import AudioCodecContext

log = logging.getLogger(__name__)

PICTURE_CODECS: dict[str, tuple[int, dict[str, str]]] = {
    # By preference: ticks a second (MPEG-4 knows at most 65535), and options.
    "libx264": (
        90_000,
        {"preset": "veryfast", "tune": "zerolatency", "forced-idr": "1", "sc_threshold": "0"},
    ),
    "mpeg4": (60_000, {"qmin": "3", "qmax": "8"}),
    "mjpeg": (90_000, {"qmin": "3", "qmax": "8"}),
}
KEY_NS = SECOND_NS
"""A key frame at least each second: a clip begins at one."""
THREADS = 2
OPUS_HZ = 48_000
"""What Opus is decoded to, whatever it was encoded from."""
PACKET_NS = 20_000_000
OPTIONS = {"application": "lowdelay"}
"""Without the speech coder, whose state a new encoder can't take over: each change would click."""
LOOKAHEAD_NS = 2_500_000
"""libopus' delay then: a packet's first decoded sample is so much older than the first it was given."""
PRIMING_PACKETS = 4
"""A new encoder hears so much of what the old one said before its own packets count."""
GAP_NS = 20_000_000
"""Stamps that are further off than this mean that sound is missing; below it they are imprecise."""
BITS_A_SECOND = {8_000: 24_000, 12_000: 24_000, 16_000: 32_000, 24_000: 40_000, 48_000: 64_000}


class PictureEncoder:
    """One camera's pictures; a picture of another size begins a new track."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        self._sources = sources
        self._size = (0, 0)
        self._stream: Any = None
        self._ticks = 0
        self._stamps: dict[int, int] = {}
        self._last_pts = -1
        self._key_ns = 0

    def encode(self, picture: av.VideoFrame, stamp_ns: int) -> list[Encoded]:
        """The packets that are ready. `picture` stays as it is.

        Raises:
            av.FFmpegError: it can't be encoded.
        """
        from av.video.frame import PictureType

        size = (picture.width & ~1, picture.height & ~1)  # yuv420p has colour for pairs only
        if size != self._size:
            self._start(size)
            self._size = size
        pts = max(stamp_ns * self._ticks // SECOND_NS, self._last_pts + 1)
        key = self._last_pts < 0 or not 0 <= stamp_ns - self._key_ns < KEY_NS
        self._last_pts = pts
        self._stamps[pts] = stamp_ns
        before = picture.pts, picture.time_base, picture.pict_type
        picture.pts, picture.time_base = pts, Fraction(1, self._ticks)
        picture.pict_type = PictureType.I if key else PictureType.NONE
        try:
            packets = self._stream.encode(picture)
        finally:
            picture.pts, picture.pict_type = before[0], before[2]
            if before[1] is not None:
                picture.time_base = before[1]
        if key:
            self._key_ns = stamp_ns
        return [
            Encoded(self._sources, packet, self._stamps.pop(packet.pts, stamp_ns), self._stream)
            for packet in packets
        ]

    def _start(self, size: tuple[int, int]) -> None:
        import av

        # An encoder inside a container has a header that clips can copy; nothing is written into it.
        for name, (ticks, options) in PICTURE_CODECS.items():
            if name not in av.codecs_available:
                continue
            container = av.open(io.BytesIO(), "w", format="matroska")
            stream: Any = container.add_stream(name, options=dict(options), time_base=Fraction(1, ticks))
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
            stream.codec_context.gop_size = 600  # the key frames are ours
            stream.codec_context.thread_count = THREADS
            container.start_encoding()
            self._stream, self._ticks = stream, ticks
            self._stamps.clear()
            self._last_pts = -1
            return
        raise RuntimeError("FFmpeg was built without any encoder for pictures")


class SoundEncoder:
    """One microphone's sound as Opus, in packets of 20 ms that follow each other whatever the rate."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        import av

        self._sources = sources
        container = av.open(io.BytesIO(), "w", format="matroska")
        self._origin: Any = container.add_stream("libopus", OPUS_HZ, options=dict(OPTIONS), layout="mono")
        container.start_encoding()
        self._encoder: AudioCodecContext | None = None
        self._rate_hz = 0
        self._fed = 0
        self._said: Samples = np.zeros(0, np.float32)
        """The last that was encoded, for the next encoder to begin with."""
        self._waiting: Samples = self._said
        """What does not fill a packet yet."""
        self._start_ns = 0
        """Stamp of the first sample that waits."""

    def add(self, stamp_ns: int, samples: Samples, rate_hz: int) -> list[Encoded]:
        """The packets that are full now: mono sound from −1 to 1, at one of Opus' rates.

        Raises:
            av.FFmpegError: it can't be encoded.
        """
        return list(self._add(stamp_ns, samples, rate_hz))

    def _add(self, stamp_ns: int, samples: Samples, rate_hz: int) -> Iterator[Encoded]:
        if self._encoder is None:
            self._start_ns = stamp_ns
        off_ns = stamp_ns - self._start_ns - _ns(len(self._waiting), self._rate_hz or rate_hz)
        if off_ns > GAP_NS:
            if len(self._waiting):
                short = self._rate_hz // 50 - len(self._waiting)
                yield from self._packet(np.concatenate([self._waiting, np.zeros(short, np.float32)]))
            self._waiting, self._start_ns = samples[:0], stamp_ns
        elif off_ns < -GAP_NS:
            samples = samples[-off_ns * rate_hz // SECOND_NS :]  # we have that already
        if rate_hz != self._rate_hz:
            self._change(rate_hz)
        self._waiting = np.concatenate([self._waiting, samples])
        size = rate_hz // 50
        while len(self._waiting) >= size:
            block, self._waiting = self._waiting[:size], self._waiting[size:]
            yield from self._packet(block)

    def _change(self, rate_hz: int) -> None:
        from av.audio.codeccontext import AudioCodecContext

        encoder = AudioCodecContext.create("libopus", "w")
        assert isinstance(encoder, AudioCodecContext)  # noqa: S101 - for the type checker
        encoder.sample_rate, encoder.layout, encoder.format = rate_hz, "mono", "flt"
        encoder.options = dict(OPTIONS)
        encoder.bit_rate, encoder.time_base = BITS_A_SECOND[rate_hz], Fraction(1, rate_hz)
        if self._rate_hz:
            size = rate_hz // 50
            both = np.concatenate([self._said, self._waiting])
            again = _resample(both, self._rate_hz, rate_hz)
            primed = len(self._said) * 50 // self._rate_hz * size
            self._said, self._waiting = again[:primed], again[primed:]
        self._encoder, self._rate_hz, self._fed = encoder, rate_hz, 0
        for start in range(0, len(self._said), rate_hz // 50):
            self._encode(self._said[start : start + rate_hz // 50])

    def _packet(self, block: Samples) -> Iterator[Encoded]:
        self._said = np.concatenate([self._said, block])[-PRIMING_PACKETS * len(block) :]
        for packet in self._encode(block):
            yield Encoded(self._sources, packet, self._start_ns - LOOKAHEAD_NS, self._origin)
        self._start_ns += PACKET_NS

    def _encode(self, block: Samples) -> list[Any]:
        import av

        assert self._encoder  # noqa: S101 - for the type checker
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), "flt", "mono")
        frame.sample_rate, frame.pts = self._rate_hz, self._fed
        frame.time_base = Fraction(1, self._rate_hz)
        self._fed += len(block)
        return list(self._encoder.encode(frame))


def _ns(samples: int, rate_hz: int) -> int:
    return samples * SECOND_NS // rate_hz


def _resample(samples: Samples, rate_hz: int, other_hz: int) -> Samples:
    """A tenth of a second between two encoders: a straight line will do."""
    at = np.arange(len(samples) * other_hz // rate_hz) * (rate_hz / other_hz)
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32) if len(samples) else samples
