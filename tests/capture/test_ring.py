"""The ring: its bounds hold whatever comes, and a clip begins at a key frame."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import av
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.capture.device import Encoded
from edged.capture.ring import OVERHEAD_BYTES, Piece, Ring, Slot, Track, piece, track
from edged.wire.clock import SECOND_NS
from tests.capture.films import LIVE_NS, flash_and_beep, packets

CAM, MIC = Slot(("cam",), "video"), Slot(("mic",), "audio")


def header(slot: Slot) -> Track:
    """A track of which only the slot counts."""
    container = av.open("/dev/null", "w", format="matroska")
    stream = container.add_stream("mjpeg", 25) if slot == CAM else container.add_stream("aac", 48_000)
    return track(slot, stream)


TRACKS = {slot: header(slot) for slot in (CAM, MIC)}


def made(slot: Slot, stamp_ns: int, size: int, key: bool) -> Piece:
    """A piece with that payload."""
    packet: Any = av.Packet(size)
    return Piece(TRACKS[slot], packet, stamp_ns, stamp_ns, 0, key or slot == MIC, size + OVERHEAD_BYTES)


STEP = st.tuples(st.sampled_from([CAM, MIC]), st.integers(1, 400), st.integers(1, 3000), st.booleans())


@settings(deadline=None)
@given(
    steps=st.lists(STEP, max_size=120),
    seconds=st.floats(0, 5),
    limit=st.integers(1000, 60_000),
    asked_ms=st.integers(-1000, 40_000),
)
def test_bounds_are_kept_and_clips_begin_with_key_frames(
    steps: list[tuple[Slot, int, int, bool]], seconds: float, limit: int, asked_ms: int
) -> None:
    ring, now_ns, all_of = Ring(seconds, limit), 0, list[Piece]()
    for slot, wait_ms, size, key in steps:
        now_ns += wait_ms * 1_000_000
        one = made(slot, now_ns, size, key)
        all_of.append(one)
        ring.add(one)
        held = all_of[len(all_of) - len(ring) :]
        assert ring.bytes == sum(kept.bytes for kept in held) <= limit
        keys = [kept.stamp_ns for kept in held if kept.key and kept.track.slot == CAM]
        old_ns = now_ns - round(seconds * SECOND_NS)
        # Of what is older than the bound there is one picture's run at most.
        assert len([stamp for stamp in keys if stamp < old_ns]) <= 1
        if held and held[0].stamp_ns < old_ns:
            assert keys
            assert keys[0] <= held[0].stamp_ns
    held = all_of[len(all_of) - len(ring) :]
    asked_ns = asked_ms * 1_000_000
    got = ring.since(asked_ns, ["cam", "mic"])
    assert got == [one for one in held if one in got], "the order is kept"
    shown = [one for one in got if one.track.slot == CAM]
    heard = [one for one in got if one.track.slot == MIC]
    keys = [one.stamp_ns for one in held if one.track.slot == CAM and one.key]
    if keys:
        begin_ns = max([stamp for stamp in keys if stamp <= asked_ns], default=keys[0])
        assert shown[0].key
        assert shown[0].stamp_ns == begin_ns
        assert shown[-1] == [one for one in held if one.track.slot == CAM][-1]
        assert heard == [one for one in held if one.track.slot == MIC and one.stamp_ns >= begin_ns]
    else:
        assert not shown
        stamps = [one.stamp_ns for one in held if one.track.slot == MIC]
        if stamps:
            begin_ns = max([stamp for stamp in stamps if stamp <= asked_ns], default=stamps[0])
            assert heard[0].stamp_ns == begin_ns
    assert ring.since(asked_ns, ["other"]) == []


def test_what_is_needed_for_the_time_before_is_there(tmp_path: Path) -> None:
    ring = Ring(10, 64 << 20)
    film = flash_and_beep(tmp_path / "a.mp4")
    tracks: dict[str, Track] = {}
    for encoded in packets(film):
        name = encoded.sources[0]
        if name not in tracks:
            tracks[name] = track(Slot(encoded.sources, encoded.origin.type), encoded.origin)
        ring.add(piece(tracks[name], encoded))
        got = ring.since(encoded.stamp_ns - 10 * SECOND_NS, ["cam", "mic"])
        if name == "cam" and encoded.stamp_ns > LIVE_NS + 11 * SECOND_NS:
            assert got[0].key
            assert 10 <= (encoded.stamp_ns - got[0].stamp_ns) / SECOND_NS <= 11.2


def test_a_packet_keeps_itself_and_no_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    path = tmp_path / "big.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", 25, width=640, height=480, pix_fmt="yuv420p")
        for _ in range(100):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 255, (720, 640), np.uint8), "yuv420p")
            container.mux(stream.encode(frame))
    before, kept = _resident_bytes(), list[Encoded]()
    for encoded in packets(path):
        if len(kept) < 3:
            kept.append(encoded)
    sums = [int(np.frombuffer(memoryview(encoded.packet), np.uint8).sum()) for encoded in kept]
    gc.collect()
    assert path.stat().st_size > 40 << 20
    assert _resident_bytes() - before < 15 << 20
    assert sums == [int(np.frombuffer(memoryview(encoded.packet), np.uint8).sum()) for encoded in kept]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
