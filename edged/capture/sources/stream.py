"""Files, HTTP and RTSP through PyAV: picture and sound of one URL, on one clock."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field, ValidationInfo

from edged.capture.device import Chunk, Chunker, Frame, Sampler, Timing
from edged.config.fields import Source
from edged.errors import SourceError
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.views import CHUNK_NS, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import av.container

log = logging.getLogger(__name__)

PROTOCOLS = {
    # What FFmpeg may open for each scheme: a playlist or a redirect must not lead elsewhere.
    "": "file",
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,udp,tls,tcp",
}
OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
MAX_BAD_PACKETS = 250
"""So many packets in a row that can't be decoded are the end of a stream."""
JUMP_NS = 2 * SECOND_NS
SLACK_NS = SECOND_NS


def _address(url: str, info: ValidationInfo) -> str:
    if any(ord(sign) < 32 for sign in url):
        raise ValueError("a URL holds no control characters")
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in PROTOCOLS:
        raise ValueError(f"'{scheme}://' is not supported; a file, {', '.join(s for s in PROTOCOLS if s)}")
    if scheme:
        if not urlsplit(url).hostname:
            raise ValueError("the URL names no host")
        return url
    folder = (info.context or {}).get("folder")
    return str(Path(folder, url).absolute()) if folder else url


class Config(Source):
    """A file, or an HTTP or RTSP stream."""

    kind: Literal["stream"]
    url: Annotated[str, Field(min_length=1), AfterValidator(_address)]
    """A file's path (relative to the configuration), or an http, https, rtsp or rtsps URL."""
    loop: bool = False
    """Begin a file again when it ends."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP media travel."""

    @property
    def device(self) -> str:
        """The URL."""
        return self.url

    @property
    def finite(self) -> bool:
        """Files end."""
        return "://" not in self.url and not self.url.startswith("/dev/")


def redact(url: str) -> str:
    """The URL without user and password, for messages."""
    parts = urlsplit(url)
    if "://" not in url or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def open(sources: Mapping[str, Config], timing: Timing) -> Stream:  # noqa: A001
    """Opens the URL that all `sources` share.

    Raises:
        SourceError: it can't be opened, or holds nothing that is asked for.
    """
    import av

    first = next(iter(sources.values()))
    scheme = urlsplit(first.url).scheme if "://" in first.url else ""
    camera = first.url.startswith("/dev/")
    if not scheme and not camera and not Path(first.url).is_file():
        raise SourceError(f"{first.url}: there is no such file", permanent=True)
    options = {"protocol_whitelist": PROTOCOLS[scheme]}
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = first.transport
    try:
        container = av.open(
            first.url if scheme or camera else f"file:{first.url}",
            format="video4linux2,v4l2" if camera else None,
            options={} if camera else options,
            timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S) if scheme else None,
            metadata_errors="ignore",
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        message = f"{redact(first.url)}: can't be opened: {_reason(error)}"
        raise SourceError(message, permanent=first.finite) from error
    try:
        return Stream(sources, container, first, timing)
    except SourceError:
        container.close()
        raise


def _reason(error: BaseException) -> str:
    # Not str(error): FFmpeg puts the URL into it, with user and password.
    return str(getattr(error, "strerror", None) or type(error).__name__)


class Stream:
    """An open container."""

    def __init__(
        self,
        sources: Mapping[str, Config],
        container: av.container.InputContainer,
        config: Config,
        timing: Timing,
    ) -> None:
        import av

        self.missing: dict[str, str] = {}
        self._container = container
        self._name = redact(config.url)
        self._timing = timing
        self._live = not config.finite
        self._origin_ns = -(1 << 62)
        self._slack_ns = 0
        self._samplers: dict[int, list[tuple[str, Sampler]]] = {}
        self._listeners: dict[int, list[str]] = {}
        self._chunker = Chunker()
        self._resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
        for name, source in sources.items():
            stream = container.streams.best(source.modality)
            if stream is None or not getattr(stream, "codec_context", None):
                what = "picture" if source.modality == "video" else "sound"
                self.missing[name] = f"{self._name} has no {what}"
            elif source.modality == "video":
                stream.codec_context.thread_count = 1
                self._samplers.setdefault(stream.index, []).append((name, Sampler(source.rate_hz)))
            else:
                self._listeners.setdefault(stream.index, []).append(name)
        if not self._samplers and not self._listeners:
            raise SourceError("; ".join(self.missing.values()), permanent=config.finite)

    def read(self) -> Iterator[Frame | Chunk]:
        """Decodes in the order of the container. Packets that can't be decoded are passed over."""
        import av

        wanted = [self._container.streams[index] for index in (*self._samplers, *self._listeners)]
        bad = 0
        if self._timing.start_ns:
            self._seek()
        try:
            for packet in self._container.demux(wanted):
                try:
                    decoded: list[Any] = packet.decode()
                    bad = 0
                except av.FFmpegError as error:
                    bad += 1
                    if bad > MAX_BAD_PACKETS:
                        raise SourceError(f"{self._name}: {bad} packets in a row can't be decoded") from error
                    continue
                for frame in decoded:
                    yield from self._frame(packet.stream.index, frame)
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._name}: can't be read: {_reason(error)}") from error
        if self._live:
            raise SourceError(f"{self._name}: the stream ended")

    def close(self) -> None:
        """Closes the container."""
        with contextlib.suppress(Exception):
            self._container.close()

    def _seek(self) -> None:
        import av

        with contextlib.suppress(av.FFmpegError):  # then from its beginning, to the same place
            self._container.seek(self._timing.start_ns // 1000)

    def _frame(self, index: int, frame: Any) -> Iterator[Frame | Chunk]:  # noqa: ANN401
        if frame.pts is None or frame.time_base is None:
            return
        media_ns = self._media_ns(frame.pts, frame.time_base)
        if media_ns < self._timing.start_ns:
            return  # between the key frame that was sought and where to begin
        if index in self._samplers:
            stamp_ns, due_ns = (
                self._timing.stamp_ns(media_ns),
                self._timing.due_ns(media_ns) if not self._live else 0,
            )
            for name, sampler in self._samplers[index]:
                if sampler.take(stamp_ns):
                    yield Frame(name, stamp_ns, frame, due_ns)
            return
        for part in self._resampler.resample(frame):
            if part.pts is None or part.time_base is None:
                continue
            stamp_ns = self._timing.stamp_ns(self._media_ns(part.pts, part.time_base))
            for start_ns, samples in self._chunker.add(stamp_ns, part.to_ndarray()[0]):
                end_ns = start_ns - self._timing.stamp_ns(0) + CHUNK_NS
                for name in self._listeners[index]:
                    yield Chunk(name, start_ns, samples, self._timing.due_ns(end_ns))

    def _media_ns(self, pts: int, time_base: Any) -> int:  # noqa: ANN401
        """Nanoseconds since the opening.

        A file counts from its own zero, so picture and sound keep their distance. A live stream is
        pinned to its arrival. What arrives before it can have been taken moves the pin, by `SLACK_NS` in
        all: the first packet may have been late. A server that goes on sending faster than real time (a
        film over HTTP) is read at the film's speed instead. A jump pins it anew.
        """
        raw_ns = int(pts * time_base.numerator * SECOND_NS // time_base.denominator)
        if not self._live:
            return raw_ns
        arrived_ns = now_ns() - self._timing.opened_ns
        early_ns = raw_ns - self._origin_ns - arrived_ns
        if abs(early_ns) > JUMP_NS:
            self._origin_ns, self._slack_ns = raw_ns - arrived_ns, SLACK_NS
        elif early_ns > 0:
            shift_ns = min(early_ns, self._slack_ns)
            self._origin_ns += shift_ns
            self._slack_ns -= shift_ns
        return raw_ns - self._origin_ns
