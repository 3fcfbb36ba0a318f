"""Files through PyAV: stamps, choices, and media that are not what they should be."""

from __future__ import annotations

import functools
import http.server
import io
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from edged.capture.device import Chunk, Frame, Timing
from edged.capture.sources import stream
from edged.errors import SourceError
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES

REPLAY = Timing(replay=True, paced=False)


def config(url: Path | str, modality: str = "video", rate_hz: float = 5.0) -> stream.Config:
    """One source of a file."""
    return stream.Config.model_validate(
        {"kind": "stream", "url": str(url), "modality": modality, "rate_hz": rate_hz}
    )


def flash_and_beep(path: Path, seconds: int = 4, fps: int = 25) -> Path:
    """A film that is white, and beeps, in the third second only."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", fps, options={"tune": "zerolatency"})
        picture.width, picture.height, picture.pix_fmt = 160, 120, "yuv420p"
        sound = container.add_stream("aac", 48_000, layout="mono")
        for count in range(seconds * fps):
            shade = 255 if 2 * fps <= count < 3 * fps else 0
            frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), shade, np.uint8), "rgb24")
            frame.pts, frame.time_base = count, Fraction(1, fps)
            container.mux(picture.encode(frame))
        at = np.arange(seconds * 48_000) / 48_000
        wave = (0.5 * np.sin(2 * np.pi * 1000 * at) * ((at >= 2) & (at < 3))).astype(np.float32)
        for start in range(0, len(wave), 1024):
            part = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
            part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
            container.mux(sound.encode(part))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    return path


def read(**sources: stream.Config) -> list[Frame | Chunk]:
    """All that the sources of one file give."""
    device = stream.open(sources, REPLAY)
    try:
        return list(device.read())
    finally:
        device.close()


def test_picture_and_sound_share_a_clock(tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / "a.mp4")
    device = stream.open({"cam": config(path, rate_hz=25), "mic": config(path, "audio")}, REPLAY)
    bright: list[int] = []
    loud: list[int] = []
    for item in device.read():
        if isinstance(item, Frame):
            if item.picture.to_ndarray(format="gray").mean() > 128:
                bright.append(item.stamp_ns)
        else:
            above = np.flatnonzero(np.abs(item.samples) > 0.1)
            loud += [item.stamp_ns + int(at) * SECOND_NS // 16_000 for at in above]
    device.close()
    assert abs(bright[0] - 2 * SECOND_NS) <= 1_000_000
    assert abs(min(loud) - bright[0]) <= 40_000_000
    assert abs(max(loud) - 3 * SECOND_NS) <= 40_000_000


def test_the_rate_chooses_frames_on_a_grid(tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / "a.mp4")
    stamps = [item.stamp_ns for item in read(cam=config(path, rate_hz=5))]
    assert stamps == [count * SECOND_NS // 5 for count in range(20)]


def test_two_rates_of_one_picture(tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / "a.mp4")
    items = read(slow=config(path, rate_hz=1), fast=config(path, rate_hz=10))
    assert sum(item.source == "slow" for item in items) == 4
    assert sum(item.source == "fast" for item in items) == 40


def test_chunks_follow_each_other_without_a_gap(data: Path) -> None:
    path = data / "av/scene_a.mp4"
    chunks = [item for item in read(mic=config(path, "audio")) if isinstance(item, Chunk)]
    assert {chunk.samples.shape for chunk in chunks} == {(CHUNK_SAMPLES,)}
    starts = np.array([chunk.stamp_ns for chunk in chunks])
    assert (np.diff(starts) == CHUNK_NS).all()
    assert 139 <= (starts[-1] + CHUNK_NS) / SECOND_NS <= 139.5


def test_reading_can_begin_in_the_middle(data: Path) -> None:
    path = data / "av/scene_a.mp4"
    sources = {"cam": config(path), "mic": config(path, "audio")}
    device = stream.open(sources, Timing(replay=True, paced=False, start_ns=100 * SECOND_NS))
    items = list(device.read())
    device.close()
    for name in sources:
        first = next(item.stamp_ns for item in items if item.source == name)
        assert 0 <= first - 100 * SECOND_NS <= 250_000_000
    assert items[-1].stamp_ns >= 138 * SECOND_NS


def test_live_stamps_are_on_the_monotonic_clock(tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / "a.mp4")
    timing = Timing(replay=False, paced=True)
    device = stream.open({"cam": config(path)}, timing)
    frames = [item for item in device.read() if isinstance(item, Frame)]
    device.close()
    assert [one.stamp_ns - timing.opened_ns for one in frames] == [n * SECOND_NS // 5 for n in range(20)]
    assert all(one.due_ns == one.stamp_ns for one in frames)


def test_many_streams_and_subtitles(data: Path) -> None:
    path = data / "video/nasa_13013.mp4"
    items = read(cam=config(path), mic=config(path, "audio"))
    assert {item.source for item in items} == {"cam", "mic"}


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_what_a_file_lacks_is_named(modality: str, data: Path) -> None:
    other, path = ("sound", data / "video/one-by-one-person.mp4")
    if modality == "audio":
        device = stream.open({"cam": config(path), "mic": config(path, "audio")}, REPLAY)
        assert device.missing == {"mic": f"{path} has no {other}"}
        device.close()
    else:
        path = data / "audio/rain.wav"
        with pytest.raises(SourceError, match="has no picture"):
            stream.open({"cam": config(path)}, REPLAY)


@pytest.mark.parametrize("content", [b"", b"\0" * 10_000, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"])
def test_what_is_no_video_says_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=str(path)):
        list(stream.open({"cam": config(path)}, REPLAY).read())


def test_a_truncated_file_ends_and_a_damaged_one_goes_on(data: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with (
        av.open(str(data / "video/one-by-one-person.mp4")) as source,
        av.open(buffer, "w", "matroska") as copy,
    ):
        template = source.streams.video[0]
        stream_out = copy.add_stream_from_template(template)
        for packet in source.demux(template):
            if packet.dts is not None:
                packet.stream = stream_out
                copy.mux(packet)
    whole = buffer.getvalue()
    path = tmp_path / "a.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    half = read(cam=config(path))
    assert 100 < len(half) < 697
    random = np.random.default_rng(1)
    damaged = bytearray(whole)
    for at in random.integers(len(whole) // 10, len(whole), 300):
        damaged[at] ^= 0xFF
    path.write_bytes(bytes(damaged))
    assert len(read(cam=config(path))) > 100


def test_user_and_password_appear_in_no_message() -> None:
    url = "rtsp://me:secret@127.0.0.1:9/main"
    assert stream.redact(url) == "rtsp://127.0.0.1:9/main"
    with pytest.raises(SourceError) as caught:
        stream.open({"cam": config(url)}, REPLAY)
    assert "secret" not in str(caught.value)
    assert "rtsp://127.0.0.1:9/main: can't be opened" in str(caught.value)
    assert not caught.value.permanent


@pytest.mark.parametrize("url", ["ftp://host/a", "concat://a", "file:///etc/passwd", "http://", "a\nb.mp4"])
def test_urls_that_are_none_of_ours(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        config(url)


def test_picture_and_sound_over_http(tmp_path: Path) -> None:
    """A real server on loopback; what is not a file is live, and read at its own speed."""
    flash_and_beep(tmp_path / "a.mp4")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/a.mp4"
            timing = Timing(replay=False, paced=True)
            device = stream.open({"cam": config(url, rate_hz=25), "mic": config(url, "audio")}, timing)
            items: list[Frame | Chunk] = []
            with pytest.raises(SourceError, match="the stream ended"):
                _collect(device, items)
            device.close()
            assert {item.source for item in items} == {"cam", "mic"}
            # The first second may be lost to finding the stream's clock.
            chunks = [item.stamp_ns for item in items if isinstance(item, Chunk)]
            assert len(chunks) >= 3 * SECOND_NS // CHUNK_NS - 1
            assert (np.diff(chunks)[-20:] == CHUNK_NS).all()
            assert all(item.stamp_ns >= timing.opened_ns for item in items)
            with pytest.raises(SourceError, match=f"{url}x: can't be opened"):
                stream.open({"cam": config(f"{url}x")}, timing)
        finally:
            server.shutdown()
            thread.join()


def _collect(device: stream.Stream, items: list[Frame | Chunk]) -> None:
    for item in device.read():
        time.sleep(max(0, item.due_ns - now_ns()) / SECOND_NS)  # as the worker does
        items.append(item)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""
