"""Clips, snapshots and tapes of one device. Decided in the main loop, written in a thread."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.capture.clips import SNAPSHOT_SCHEMA, Clips, PartFile
from edged.capture.device import Encoded, Frame, Sampler, Sound
from edged.capture.encode import PictureEncoder, SoundEncoder
from edged.capture.listening import Keeper
from edged.capture.ring import Piece, Ring, Slot, Track, piece, track
from edged.capture.tape import Lines, Tape
from edged.capture.writing import ClipFile, Writer, reason_of
from edged.wire.clock import SECOND_NS, WallClock
from edged.wire.records import RecordClip, Recorded, TakeSnapshot
from edged.wire.setup import RecordSetup

if TYPE_CHECKING:
    import av

    from edged.capture.device import Origin

log = logging.getLogger(__name__)

GRACE_NS = SECOND_NS
"""A device that brings nothing more holds its clip open for so long."""
HEADER_NS, KEY_FRAME_NS = SECOND_NS, 10 * SECOND_NS
"""A file's header is written when every source has brought something; one that may never is not waited
for longer than this, and a picture's key frame not longer than that."""
CLOSE_S = 0.5
JPEG_QUALITY = 3
"""2 is the best, 31 the worst."""
LAMBDA = 118
"""FFmpeg's unit of quality."""


@dataclass(slots=True)
class _Input:
    """What packets of a slot are at present."""

    origin: Origin
    track: Track | None
    """None: no container can hold them."""
    copies: bool
    """The payload lies in a driver's memory, which goes when the device is closed."""
    waits: bool
    """For a key frame: after a reconnect nothing can be decoded before it."""


@dataclass(slots=True, eq=False)
class _Clip:
    """What was asked for, and how far it is."""

    name: str
    sources: set[str]
    from_ns: int
    until_ns: int
    events: list[str]
    file: ClipFile | None = None
    waiting: list[Piece] = field(default_factory=list)
    """Until it is known which tracks the file has."""
    turns: bool = False
    """The sound has another header: a new file begins with the next key frame."""
    passed: set[Slot] = field(default_factory=set)
    """What has come to the end that was asked for."""
    first_ns: int = 0
    last_ns: int = 0
    files: int = 0

    def wants(self, slot: Slot) -> bool:
        return not self.sources.isdisjoint(slot.sources)


class Recorder:
    """Keeps the ring, and writes what is asked for. All methods return at once, `close` excepted."""

    def __init__(
        self,
        name: str,
        setup: RecordSetup,
        tell: Callable[[Recorded], None],
        *,
        start_ns: int = 0,
        clock: Callable[[], WallClock] = WallClock.live,
    ) -> None:
        """`name` is the device's: its clips lie in the folder of that name. `tell` gets each result, within
        `tick` or `close`. `start_ns` is the stamp at which tapes begin.
        """
        self._name, self._setup, self._tell = name, setup, tell
        self._start_ns, self._clock = start_ns, clock
        self._ring = Ring(setup.before_s, setup.ring_bytes)
        self._files = Clips(Path(setup.folder), name, setup.max_bytes, setup.max_age_s)
        self._inputs: dict[Slot, _Input] = {}
        self._cameras: dict[str, tuple[PictureEncoder, Sampler, float]] = {}
        self._microphones: dict[str, tuple[SoundEncoder, Keeper]] = {}
        self._unfit: set[str] = set()
        """Sources that can't be encoded."""
        self._clips: list[_Clip] = []
        self._tapes: dict[Slot, Tape] = {}
        self._descriptors = Lines(Path(setup.folder) / f"{name}.jsonl")
        self._results: queue.SimpleQueue[Recorded] = queue.SimpleQueue()
        self._counts: Counter[str] = Counter(clips_written=0, clips_failed=0, clips_evicted=0)
        self._writer = Writer(f"record {name}", self._files)
        self._writer.put(0, self._files.clean)

    def add(self, encoded: Encoded) -> None:
        """Takes a packet."""
        if not encoded.packet.size:
            return
        slot = Slot(encoded.sources, encoded.origin.type)
        known = self._inputs.get(slot)
        if known is None or known.origin is not encoded.origin:
            known = self._inputs[slot] = self._input(slot, encoded.origin, known)
        if known.track is None:
            return
        if known.copies:
            encoded = replace(encoded, packet=_copy(encoded.packet))
        one = piece(known.track, encoded)
        if known.waits and not one.key:
            return
        known.waits = False
        if self._setup.tape:
            self._tape(one)
        self._ring.add(one)
        for clip in list(self._clips):
            self._feed(clip, one)

    def picture(self, source: str, frame: Frame, rate_hz: float) -> None:
        """Takes a raw picture; so many a second are encoded."""
        if source in self._unfit:
            return
        encoder, sampler, before_hz = self._cameras.get(source) or (
            PictureEncoder((source,)),
            Sampler(rate_hz),
            rate_hz,
        )
        if rate_hz != before_hz:
            sampler.at(rate_hz)
        self._cameras[source] = encoder, sampler, rate_hz
        if sampler.take(frame.stamp_ns):
            self._encode(source, partial(encoder.encode, frame.picture, frame.stamp_ns))

    def sound(self, source: str, sound: Sound, rate_hz: int) -> None:
        """Takes raw sound; it is kept at `rate_hz`, one of Opus' rates."""
        if source in self._unfit:
            return
        if source not in self._microphones:
            self._microphones[source] = SoundEncoder((source,)), Keeper(rate_hz)
        encoder, keeper = self._microphones[source]
        keeper.rate(rate_hz)
        for stamp_ns, samples, kept_hz in keeper.add(sound):
            self._encode(source, partial(encoder.add, stamp_ns, samples, kept_hz))

    def _encode(self, source: str, work: Callable[[], list[Encoded]]) -> None:
        import av

        try:
            for encoded in work():
                self.add(encoded)
        except (av.FFmpegError, ValueError, RuntimeError) as error:
            log.error("%s can't be recorded: it can't be encoded: %s", source, reason_of(error))
            self._unfit.add(source)

    def record(self, wish: RecordClip) -> str | None:
        """Begins a clip, or extends the one that is being written at that time.

        Returns the name of the clip that will hold it; None when it is refused, which is told.
        """
        if fault := self._files.fault(wish.clip):
            self._results.put(Recorded(wish.clip, wish.sources, written=False, reason=fault))
            return None
        wanted = set(wish.sources)
        for clip in self._clips:
            apart = wish.from_ns > clip.until_ns or wish.until_ns < clip.from_ns
            if clip.name != wish.clip and (apart or clip.sources.isdisjoint(wanted)):
                continue
            if self._extend(clip, wish, wanted):
                return clip.name
        clip = _Clip(wish.clip, wanted, wish.from_ns, wish.until_ns, [wish.event])
        self._clips.append(clip)
        self._fill(clip)
        return clip.name

    def snapshot(self, wish: TakeSnapshot, frame: Frame) -> None:
        """Writes the picture as JPEG."""
        fault = self._files.fault(wish.snapshot)
        if not fault:
            # A copy: a device may draw its next picture into the same memory.
            picture = frame.picture.reformat(format="yuvj420p", dst_color_range="JPEG")
            work = partial(self._write_snapshot, wish, picture, frame.stamp_ns)
            if self._writer.put(picture.width * picture.height * 3 // 2, work):
                return
            fault = "the disk is too slow"
        self._results.put(Recorded(f"{wish.snapshot}.jpg", (wish.source,), written=False, reason=fault))

    def descriptor(self, said: Mapping[str, object]) -> None:
        """Notes on the tape what was analysed and measured; nothing when there is no tape."""
        if self._setup.tape:
            line = json.dumps(said, separators=(",", ":")).encode() + b"\n"
            if not self._writer.put(len(line), partial(self._descriptors.write, line)):
                self._counts["tape_dropped"] += 1

    def tick(self, now_ns: int) -> None:
        """Ends what is over, and tells what was written. `now_ns` is on the clock of the stamps."""
        for clip in list(self._clips):
            if now_ns >= clip.until_ns + GRACE_NS:
                self._end(clip, "nothing more came")
        self._deliver()

    def counts(self) -> dict[str, int]:
        """What was written, lost, and deleted for room, since the start."""
        return dict(self._counts + self._files.counts)

    def close(self) -> None:
        """Finishes what is open, as far as the disk can in half a second."""
        for source, (encoder, keeper) in self._microphones.items():
            for stamp_ns, samples, kept_hz in keeper.end():
                self._encode(source, partial(encoder.add, stamp_ns, samples, kept_hz))
        for clip in list(self._clips):
            self._end(clip, "recording was stopped")
        for tape in self._tapes.values():
            self._writer.put(0, tape.finish)
        self._writer.put(0, self._descriptors.close)
        if not self._writer.close(CLOSE_S):
            log.warning("%s: the disk is too slow; what is being written is lost", self._name)
        self._deliver()

    # Tracks.

    def _input(self, slot: Slot, origin: Origin, before: _Input | None) -> _Input:
        container = getattr(origin, "container", None)
        copies = container is not None and container.format.name.startswith("video4linux2")
        try:
            fresh: Track | None = track(slot, origin)
        except ValueError as error:
            log.warning("%s can't be recorded: %s", slot.sources[0], error)
            fresh = None
        if before and before.track and fresh and before.track.header == fresh.header:
            fresh = before.track
        return _Input(origin, fresh, copies, waits=slot.kind == "video")

    # Clips.

    def _extend(self, clip: _Clip, wish: RecordClip, wanted: set[str]) -> bool:
        """Whether the clip that is being written can hold the wish, too."""
        lacks = not wanted <= clip.sources
        if lacks or wish.from_ns < clip.from_ns:
            from_ns = min(wish.from_ns, clip.from_ns)
            back = self._ring.since(from_ns, clip.sources | wanted)
            first_ns = back[0].stamp_ns if back else clip.first_ns + 1
            reaches = not clip.files or (clip.files == 1 and first_ns <= max(clip.first_ns, from_ns))
            if lacks and not reaches:
                return False  # and what it holds already is no more to be had
            if lacks or (clip.files and reaches and first_ns < clip.first_ns):
                self._again(clip, wanted, wish)
                return True
        clip.from_ns = min(clip.from_ns, wish.from_ns)
        if wish.until_ns > clip.until_ns:
            clip.until_ns = wish.until_ns
            clip.passed.clear()
        self._note(clip, wish.event)
        return True

    def _again(self, clip: _Clip, wanted: set[str], wish: RecordClip) -> None:
        """Begins the clip anew, from the ring."""
        if clip.file:
            self._writer.put(0, clip.file.discard)
        clip.file, clip.files, clip.turns = None, 0, False
        clip.sources |= wanted
        clip.from_ns = min(clip.from_ns, wish.from_ns)
        clip.until_ns = max(clip.until_ns, wish.until_ns)
        clip.waiting.clear()
        clip.passed.clear()
        self._note(clip, wish.event)
        self._fill(clip)

    @staticmethod
    def _note(clip: _Clip, event: str) -> None:
        if event not in clip.events:
            clip.events.append(event)

    def _fill(self, clip: _Clip) -> None:
        for one in self._ring.since(clip.from_ns, clip.sources):
            if clip in self._clips:
                self._feed(clip, one, held=True)

    def _feed(self, clip: _Clip, one: Piece, *, held: bool = False) -> None:
        slot = one.track.slot
        if not clip.wants(slot):
            return
        if clip.file:
            known = clip.file.tracks.get(slot)
            pictures = any(other.kind == "video" and other != slot for other in clip.file.tracks)
            if known is not one.track and slot.kind == "audio" and pictures:
                clip.turns = True  # the picture goes on: with its next key frame there is a new file
                return
            if known is not one.track or (clip.turns and slot.kind == "video" and one.key):
                self._finish(clip, "the stream changed; it goes on in another file")
        if clip.file:
            # What lies in the ring costs nothing more.
            if not self._writer.put(0 if held else one.bytes, partial(clip.file.write, one)):
                self._give_up(clip, "the disk is too slow")
                return
        else:
            if one.key or any(other.track.slot == slot for other in clip.waiting):
                clip.waiting.append(one)
            if self._header_known(clip):
                self._open(clip)
        clip.last_ns = max(clip.last_ns, one.stamp_ns + one.duration_ns)
        if one.dts_ns >= clip.until_ns:
            clip.passed.add(slot)
        if clip.file and clip.passed.issuperset(clip.file.tracks):
            self._end(clip, "")

    def _header_known(self, clip: _Clip) -> bool:
        if not clip.waiting:
            return False
        there = {one.track.slot for one in clip.waiting}
        if clip.sources <= {source for slot in there for source in slot.sources}:
            return True
        pictures = any(s.kind == "video" and clip.wants(s) and s not in there for s in self._inputs)
        span_ns = clip.waiting[-1].stamp_ns - clip.waiting[0].stamp_ns
        return span_ns >= (KEY_FRAME_NS if pictures else HEADER_NS)

    def _open(self, clip: _Clip) -> None:
        tracks = {one.track.slot: one.track for one in clip.waiting}
        clip.first_ns = min(one.stamp_ns for one in clip.waiting)
        clip.file = ClipFile(self._files, clip.name, tracks, clip.first_ns, self._results.put)
        clip.file.sources = tuple(sorted(clip.sources))
        clip.files += 1
        self._writer.put(0, partial(clip.file.open, clip.waiting))
        clip.waiting = []

    def _end(self, clip: _Clip, reason: str) -> None:
        self._clips.remove(clip)
        if clip.waiting and not clip.file:
            self._open(clip)
        if clip.file:
            self._finish(clip, reason)
        elif not clip.files:
            reason = "the sources brought nothing"
            self._results.put(Recorded(clip.name, tuple(sorted(clip.sources)), written=False, reason=reason))

    def _finish(self, clip: _Clip, reason: str) -> None:
        """Ends the present file, which is the clip's last or not."""
        assert clip.file  # noqa: S101 - for the type checker
        clock = self._clock()
        whole = clip.last_ns >= clip.until_ns
        late = clip.first_ns > clip.from_ns and clip.files == 1
        reasons = ["it begins later than asked: nothing older was kept"] if late else []
        reasons += [] if whole or not reason else [reason]
        facts = {
            "sources": sorted(clip.sources),
            "events": clip.events,
            "from": clock.rfc3339(clip.first_ns),
            "until": clock.rfc3339(clip.last_ns),
            "wanted_from": clock.rfc3339(clip.from_ns),
            "wanted_until": clock.rfc3339(clip.until_ns),
            "duration_s": round((clip.last_ns - clip.first_ns) / SECOND_NS, 3),
            "tracks": [_about(one) for one in clip.file.tracks.values()],
            "complete": not reasons,
            "reason": "; ".join(reasons),
        }
        clip.file.sources = tuple(sorted(clip.sources))
        self._writer.put(0, partial(clip.file.finish, facts))
        clip.file, clip.turns = None, False
        clip.passed.clear()

    def _give_up(self, clip: _Clip, reason: str) -> None:
        self._clips.remove(clip)
        assert clip.file  # noqa: S101 - for the type checker
        self._writer.put(0, partial(clip.file.fail, reason))

    def _deliver(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                result = self._results.get_nowait()
                self._counts["clips_written" if result.written else "clips_failed"] += 1
                self._tell(result)

    # Tapes.

    def _tape(self, one: Piece) -> None:
        slot = one.track.slot
        tape = self._tapes.get(slot)
        if tape is None or tape.track is not one.track:
            if tape:
                self._writer.put(0, tape.finish)
            tape = self._tapes[slot] = Tape(
                Path(self._setup.folder), one.track, self._start_ns, self._results.put
            )
        if tape.waits and not one.key:
            return
        tape.waits = not self._writer.put(one.bytes, partial(tape.write, one))
        self._counts["tape_dropped"] += tape.waits

    # In the thread.

    def _write_snapshot(self, wish: TakeSnapshot, picture: av.VideoFrame, stamp_ns: int) -> None:
        import av

        file: PartFile | None = None
        reason, path = "", f"{wish.snapshot}.jpg"
        try:
            data = _jpeg(picture)
            file = self._files.create(wish.snapshot, ".jpg", SNAPSHOT_SCHEMA)
            path = self._files.relative(file.path)
            file.write(data)
            file.commit(
                {
                    "sources": [wish.source],
                    "events": [wish.event],
                    "at": self._clock().rfc3339(stamp_ns),
                    "width": picture.width,
                    "height": picture.height,
                }
            )
        except (av.FFmpegError, OSError) as error:
            if file:
                file.discard()
            reason = reason_of(error)
        self._results.put(Recorded(path, (wish.source,), written=not reason, reason=reason))


def _copy(packet: av.Packet[Any]) -> av.Packet[Any]:
    import av

    copy: av.Packet[Any] = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
    return copy


def _about(one: Track) -> dict[str, Any]:
    context: Any = one.template.codec_context
    about = {"type": one.slot.kind, "codec": one.codec, "sources": list(one.slot.sources)}
    if one.slot.kind == "video":
        return about | {"width": context.width, "height": context.height}
    return about | {"rate_hz": context.sample_rate, "channels": context.layout.nb_channels}


def _jpeg(picture: av.VideoFrame) -> bytes:
    from fractions import Fraction

    from av.video.codeccontext import VideoCodecContext

    encoder = VideoCodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)  # noqa: S101 - for the type checker
    encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.qscale, encoder.global_quality = True, JPEG_QUALITY * LAMBDA
    picture.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode(None)))
