"""Files, HTTP and RTSP through PyAV: picture and sound of one URL, on one clock."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from edged.capture.address import PROTOCOLS, checked, redact, with_secrets
from edged.capture.device import TICK_S, Arrivals, Encoded, Frame, Item, Sound, Timing
from edged.capture.pictures import MAX_PIXELS, Pictures
from edged.capture.timebase import JUMP_NS, TimeBase
from edged.config.fields import LocalPath
from edged.config.source import Source
from edged.errors import SourceError
from edged.wire.clock import SECOND_NS, now_ns

if TYPE_CHECKING:
    import av.container

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
PROBE_S = 1
"""What has not shown itself after so long is not there."""
SETTLE_NS = SECOND_NS // 4
"""What came while the connection was probed comes all at once: its stamps wait for so long, until what
was in time tells how late it was."""
WAITING = 2000
"""Packets between the thread that reads and the main loop: some twenty seconds of picture and sound."""
REST_S = 0.5
"""At rest packets are handed over together after so long; a wish ends the rest with the next packet."""
BEHIND_NS = SECOND_NS
"""A live packet that has waited for so long is not decoded; the next key frame is."""
HOLE_NS = 10 * SECOND_NS
"""A longer hole in a file's stamps is not waited for."""
MAX_BAD_PACKETS = 250
"""So many packets in a row that can't be decoded are the end of a stream."""
NO_TIMESTAMPS = 0x80
"""Of a format's flags (avformat.h): the demuxer invents stamps; what comes is stamped at its arrival."""


def _address(url: str, info: ValidationInfo) -> str:
    return checked(url, (info.context or {}).get("folder"))


class Config(Source):
    """A file, or an HTTP or RTSP stream."""

    kind: Literal["stream"]
    url: Annotated[str, Field(min_length=1), AfterValidator(_address)]
    """A file's path (relative to the configuration), or an http, https, rtsp or rtsps URL. `${NAME}` in
    the URL stands for an environment variable."""
    username: str | None = None
    """The user at the camera; in the URL it would be read by whoever reads the configuration."""
    password_file: LocalPath | None = None
    """A file that holds the password alone; it is read at each connection."""
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

    @model_validator(mode="after")
    def _one_user(self) -> Config:
        if self.password_file and not self.username:
            raise ValueError("password_file needs a username")
        if self.username and "://" not in self.url:
            raise ValueError("a file has no username")
        if self.username and "@" in urlsplit(self.url).netloc:
            raise ValueError("name the user either in the URL or by 'username'")
        return self


def open(sources: Mapping[str, Config], timing: Timing) -> Stream:  # noqa: A001
    """Opens the URL that all `sources` share.

    Raises:
        SourceError: it can't be opened, or holds nothing that is asked for.
    """
    import av

    # PyAV 19 has no such argument; before it, a title that is no UTF-8 would be an error.
    lenient: Any = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
    first = next(iter(sources.values()))
    own = {"username", "password_file", "transport", "loop"}
    if any(other.model_dump(include=own) != first.model_dump(include=own) for other in sources.values()):
        message = f"{redact(first.url)}: its sources contradict each other in {', '.join(sorted(own))}"
        raise SourceError(message, permanent=True)
    scheme = urlsplit(first.url).scheme if "://" in first.url else ""
    camera = first.url.startswith("/dev/")
    if not scheme and not camera and not Path(first.url).is_file():
        raise SourceError(f"{first.url}: there is no such file", permanent=True)
    # While FFmpeg looks for what is in it, it decodes pictures, too.
    options = {"protocol_whitelist": PROTOCOLS[scheme], "max_pixels": str(MAX_PIXELS)}
    if scheme:
        # FFmpeg would wait for up to five seconds, mostly to guess a frame rate that nobody asks for.
        options |= {"analyzeduration": str(PROBE_S * 1_000_000), "fpsprobesize": "0"}
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = first.transport
    url = with_secrets(first.url, first.username, first.password_file)
    try:
        container = av.open(
            url if scheme or camera else f"file:{url}",
            format="video4linux2,v4l2" if camera else None,
            options={} if camera else options,
            timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S) if scheme else None,
            **lenient,
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        message = f"{redact(first.url)}: can't be opened: {_reason(error)}"
        raise SourceError(message, permanent=first.finite) from error
    try:
        return Stream(sources, container, first, timing)
    except BaseException:  # whatever it was, the connection must not stay
        container.close()
        raise


def _reason(error: BaseException) -> str:
    # Not str(error): FFmpeg puts the URL into it, with user and password.
    if type(error).__name__ == "ExitError":  # PyAV broke the call off
        return "nothing came in time"
    return str(getattr(error, "strerror", None) or type(error).__name__)


class Stream:
    """An open container. What is live is read in a thread of its own: a read may take seconds."""

    def __init__(
        self,
        sources: Mapping[str, Config],
        container: av.container.InputContainer,
        config: Config,
        timing: Timing,
    ) -> None:
        import av

        self.missing: dict[str, str] = {}
        self.lost: Counter[str] = Counter()
        self._container = container
        self._name = redact(config.url)
        self._timing = timing
        self._live = not config.finite
        # What came while the container was being probed is as old as the connection.
        self._clock = TimeBase(now_ns() - timing.opened_ns + SECOND_NS)
        self._unstamped = self._live and bool(container.format.flags & NO_TIMESTAMPS)
        self._newest_ns: dict[int, int] = {}
        self._played_ns: dict[int, int] = {}
        self._shifts_ns: dict[int, int] = {}
        self._rates_hz = {n: s.rate_hz.idle for n, s in sources.items() if s.modality == "video"}
        self._watchers: dict[int, tuple[str, ...]] = {}
        self._listeners: dict[int, tuple[str, ...]] = {}
        for name, source in sources.items():
            stream = container.streams.best(source.modality)
            if stream is None or not getattr(stream, "codec_context", None):
                what = "picture" if source.modality == "video" else "sound"
                self.missing[name] = f"{self._name} has no {what}"
                continue
            who = self._watchers if source.modality == "video" else self._listeners
            who[stream.index] = (*who.get(stream.index, ()), name)
        if not self._watchers and not self._listeners:
            raise SourceError("; ".join(self.missing.values()), permanent=config.finite)
        self._pictures = {
            stream.index: Pictures(stream)
            for stream in container.streams.video
            if stream.index in self._watchers
        }
        self._mixers: dict[int, Any] = {}
        # Packets outlive their container in the ring, and so have to what describes them.
        self._copies = av.open(os.devnull, "w", format="null")
        self._origins: dict[int, Any] = {
            index: self._copies.add_stream_from_template(container.streams[index])
            for index in (*self._watchers, *self._listeners)
        }
        self._arrivals: Arrivals[list[tuple[Any, int]]] = Arrivals(WAITING, timing.wake_fd)
        self._lock = threading.Lock()
        self._closing = self._reading_on = False
        """Who comes second, `close` or the end of the thread, closes the container."""

    def want(self, rates_hz: Mapping[str, float]) -> None:
        """A rate that key frames alone give is served by these alone."""
        self._rates_hz |= rates_hz
        for index, pictures in self._pictures.items():
            pictures.want(max(self._rates_hz[name] for name in self._watchers[index]))

    def read(self) -> Iterator[Item | None]:
        """Decodes in the order of the container. Packets that can't be decoded are passed over."""
        import av

        self.want({})
        wanted = [self._container.streams[index] for index in self._origins]
        if self._timing.start_ns and not self._live:
            with contextlib.suppress(av.FFmpegError):  # then from its beginning, to the same place
                self._container.seek(self._timing.start_ns // 1000)
        bad = 0
        try:
            for arrival in self._arriving(wanted) if self._live else self._reading(wanted):
                if arrival is None:
                    yield None
                    continue
                packet, arrived_ns = arrival
                try:
                    yield from self._packet(packet, arrived_ns)
                    bad = 0
                except av.FFmpegError as error:
                    bad += 1
                    if bad > MAX_BAD_PACKETS:
                        raise SourceError(f"{self._name}: {bad} packets in a row can't be decoded") from error
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._name}: can't be read: {_reason(error)}") from error
        if self._live:
            raise SourceError(f"{self._name}: the stream ended")
        if not self._newest_ns and not self._timing.start_ns:
            raise SourceError(f"{self._name}: nothing in it can be decoded", permanent=True)

    def close(self) -> None:
        """Closes the container; where a read is under way, as soon as that is over."""
        with self._lock:
            self._closing, over = True, not self._reading_on
        if over:
            self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(Exception):
            self._container.close()
        self._arrivals.close()

    def _reading(self, wanted: list[Any]) -> Iterator[tuple[Any, int]]:
        return ((packet, 0) for packet in self._packets(wanted))

    def _arriving(self, wanted: list[Any]) -> Iterator[tuple[Any, int] | None]:
        self._reading_on = True
        threading.Thread(target=self._demux, args=(wanted,), name="demux", daemon=True).start()
        first: list[tuple[Any, int]] = []
        failure: Exception | None = None
        try:
            while not first or first[-1][1] - first[0][1] < SETTLE_NS:
                first += self._arrivals.get() or ()
                yield None
        except Exception as error:  # noqa: BLE001 - raised again behind what came before it
            failure = error
        for packet, arrived_ns in first:
            if packet.pts is not None:
                self._clock.prime(packet.stream.index, _ns(packet.pts, packet.time_base), arrived_ns)
        yield from first
        with contextlib.suppress(EOFError):
            if failure:
                try:
                    raise failure
                finally:
                    del failure
            while True:
                if batch := self._arrivals.get(REST_S if self._resting else TICK_S):
                    yield from batch
                else:
                    yield None

    def _packets(self, wanted: list[Any]) -> Iterator[Any]:
        packets = self._container.demux(wanted)
        while True:
            begun_ns = now_ns()
            try:
                packet = next(packets)
            except (StopIteration, IndexError):
                # PyAV looks for tracks that have appeared since the opening when it comes to the end.
                return
            if self._live and packet.size and now_ns() - begun_ns >= READ_TIMEOUT_S * SECOND_NS:
                # A call that is broken off brings what a parser had kept.
                raise SourceError(f"{self._name}: nothing has come for {READ_TIMEOUT_S:.0f} s")
            yield packet

    @property
    def _resting(self) -> bool:
        return not self._listeners and all(one.resting for one in self._pictures.values())

    def _demux(self, wanted: list[Any]) -> None:
        batch: list[tuple[Any, int]] = []
        try:
            for packet in self._packets(wanted):
                batch.append((packet, now_ns()))
                if self._closing:
                    break
                # While nothing but key frames is decoded, the main loop need not wake for each packet.
                if (
                    self._resting
                    and not packet.is_keyframe
                    and batch[-1][1] - batch[0][1] < REST_S * SECOND_NS
                ):
                    continue
                while not self._closing and not self._arrivals.put(batch, until_s=0.5):
                    pass
                batch = []
            self._arrivals.put(batch, until_s=0.0)
            self._arrivals.fail(EOFError())
        except Exception as error:  # noqa: BLE001 - the main loop will raise it
            self._arrivals.put(batch, until_s=0.0)
            self._arrivals.fail(error)
        finally:
            with self._lock:
                self._reading_on = False
            if self._closing:
                self._shut()

    def _packet(self, packet: Any, arrived_ns: int) -> Iterator[Item | None]:  # noqa: ANN401
        index = packet.stream.index
        names = self._watchers.get(index) or self._listeners[index]
        stamp_ns = due_ns = 0
        if packet.size and (packet.pts is not None or self._unstamped):
            media_ns = arrived_ns if self._unstamped else _ns(packet.pts, packet.time_base)
            if self._live:
                stamp_ns = due_ns = self._clock.stamp_ns(index, media_ns, arrived_ns)
            else:
                media_ns = self._rebased_ns(index, media_ns)
                stamp_ns, due_ns = self._timing.stamp_ns(media_ns), self._timing.due_ns(media_ns)
            # Between the key frame that was sought and where to begin, nothing is handed on.
            if self._live or not self._timing.start_ns or media_ns >= self._timing.start_ns:
                yield Encoded(names, packet, stamp_ns, self._origins[index], due_ns)
        if index in self._listeners:
            for frame in packet.decode():
                yield from self._sound(index, frame, packet, stamp_ns)
            return
        late_ns = now_ns() - max(arrived_ns, due_ns) if self._live and arrived_ns else 0
        if late_ns > BEHIND_NS and not packet.is_keyframe:
            self._pictures[index].lose()
            self.lost["behind"] += 1
            return
        for picture in self._pictures[index].decode(packet):
            if picture is None:
                yield None
                continue
            at_ns = self._when(picture, packet, stamp_ns)
            if at_ns is not None and self._goes_on(index, at_ns):
                due_ns = at_ns if self._live else self._timing.due_ns(at_ns - self._timing.stamp_ns(0))
                for name in names:
                    yield Frame(name, at_ns, picture, due_ns)

    def _sound(self, index: int, frame: Any, packet: Any, packet_ns: int) -> Iterator[Item]:  # noqa: ANN401
        import av

        at_ns = self._when(frame, packet, packet_ns)
        if at_ns is None or not self._goes_on(index, at_ns):
            return
        form, rate_hz = (frame.format.name, frame.layout.name, frame.sample_rate), frame.sample_rate
        known = self._mixers.get(index)
        if known is None or known[0] != form:
            known = self._mixers[index] = form, av.AudioResampler("flt", "mono", rate_hz)
        for part in known[1].resample(frame):
            samples = part.to_ndarray()[0]
            end_ns = at_ns - self._timing.stamp_ns(0) + len(samples) * SECOND_NS // rate_hz
            due_ns = at_ns if self._live else self._timing.due_ns(end_ns)
            for name in self._listeners[index]:
                yield Sound(name, at_ns, samples, rate_hz, due_ns)

    def _when(self, frame: Any, packet: Any, packet_ns: int) -> int | None:  # noqa: ANN401
        """The stamp of what was decoded; None where there is no telling."""
        if self._unstamped:
            return packet_ns
        if frame.pts is None:
            return None
        if not self._live:
            return self._timing.stamp_ns(
                _ns(frame.pts, packet.time_base) - self._shifts_ns.get(packet.stream.index, 0)
            )
        # What the decoder held back came with an earlier packet; not before a jump, though.
        earlier_ns = _ns(packet.pts - frame.pts, packet.time_base) if packet.pts is not None else 0
        return packet_ns - earlier_ns if packet_ns and abs(earlier_ns) < JUMP_NS else None

    def _rebased_ns(self, index: int, media_ns: int) -> int:
        """A file that is played live has no hours of nothing, whatever its stamps say: it begins at its
        first packet, and goes on after a jump. Tracks that jump together stay together.
        """
        if self._timing.replay:
            return media_ns
        newest_ns = self._played_ns.get(index, self._timing.start_ns)
        for shift_ns in (self._shifts_ns.get(index, 0), *self._shifts_ns.values()):
            if abs(media_ns - shift_ns - newest_ns) <= HOLE_NS:
                break
        else:
            shift_ns = media_ns - newest_ns
        self._shifts_ns[index], self._played_ns[index] = shift_ns, media_ns - shift_ns
        return media_ns - shift_ns

    def _goes_on(self, index: int, at_ns: int) -> bool:
        """Stamps of one track never run backwards, and begin where reading is to begin."""
        if not self._live and at_ns < self._timing.stamp_ns(self._timing.start_ns):
            return False
        if at_ns <= self._newest_ns.get(index, -1):
            self.lost["backwards"] += 1
            return False
        self._newest_ns[index] = at_ns
        return True


def _ns(pts: int, time_base: Any) -> int:  # noqa: ANN401
    return int(pts * time_base.numerator * SECOND_NS // time_base.denominator)
