"""Files through PyAV: stamps, choices, and media that are not what they should be."""

from __future__ import annotations

import functools
import http.server
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from edged.capture.address import redact, with_secrets
from edged.capture.device import Encoded, Frame, Sound, Timing
from edged.capture.sources import stream
from edged.errors import SourceError
from edged.wire.clock import SECOND_NS, now_ns
from tests.servers.media import flash_and_beep

REPLAY = Timing(replay=True, paced=False)


def config(url: Path | str, modality: str = "video", **more: object) -> stream.Config:
    """One source of a file."""
    return stream.Config.model_validate({"kind": "stream", "url": str(url), "modality": modality, **more})


def handed_on(device: stream.Stream) -> Iterator[Frame | Sound]:
    """What a device gives that is not for clips."""
    return (item for item in device.read() if isinstance(item, Frame | Sound))


def read(**sources: stream.Config) -> list[Frame | Sound]:
    """All that the sources of one file give, at their active rates."""
    device = stream.open(sources, REPLAY)
    device.want({name: source.rate_hz.active for name, source in sources.items()})
    try:
        return list(handed_on(device))
    finally:
        device.close()


def test_picture_and_sound_share_a_clock(tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / "a.mp4")
    device = stream.open({"cam": config(path, rate_hz=25), "mic": config(path, "audio")}, REPLAY)
    bright: list[int] = []
    loud: list[int] = []
    for item in handed_on(device):
        if isinstance(item, Frame):
            if item.picture.to_ndarray(format="gray").mean() > 128:
                bright.append(item.stamp_ns)
        else:
            above = np.flatnonzero(np.abs(item.samples) > 0.1)
            loud += [item.stamp_ns + int(at) * SECOND_NS // item.rate_hz for at in above]
    device.close()
    assert abs(bright[0] - 2 * SECOND_NS) <= 1_000_000
    assert abs(min(loud) - bright[0]) <= 40_000_000
    assert abs(max(loud) - 3 * SECOND_NS) <= 40_000_000


def test_every_packet_is_there_for_clips(data: Path) -> None:
    path = data / "av/scene_quiet.mp4"
    device = stream.open({"cam": config(path), "mic": config(path, "audio")}, REPLAY)
    packets = [item for item in device.read() if isinstance(item, Encoded)]
    device.close()
    assert sum(one.sources == ("cam",) for one in packets) == 3002
    assert sum(one.sources == ("mic",) for one in packets) == 14064
    # The container is closed: what describes the tracks is still there.
    names = {one.origin.codec_context.name for one in packets if isinstance(one.origin, AudioStream)}
    assert names == {"aac"}


def test_sound_follows_without_a_gap(data: Path) -> None:
    path = data / "av/scene_a.mp4"
    blocks = [item for item in read(mic=config(path, "audio")) if isinstance(item, Sound)]
    assert {block.rate_hz for block in blocks} == {48_000}
    starts = np.array([block.stamp_ns for block in blocks])
    lengths = np.array([len(block.samples) for block in blocks]) * SECOND_NS // 48_000
    assert np.abs(np.diff(starts) - lengths[:-1]).max() <= 1000
    assert 139 <= (starts[-1] + lengths[-1]) / SECOND_NS <= 139.6


def test_reading_can_begin_in_the_middle(data: Path) -> None:
    path = data / "av/scene_a.mp4"
    sources = {"cam": config(path), "mic": config(path, "audio")}
    device = stream.open(sources, Timing(replay=True, paced=False, start_ns=100 * SECOND_NS))
    items = list(handed_on(device))
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
    assert [one.stamp_ns - timing.opened_ns for one in frames] == [n * SECOND_NS // 25 for n in range(100)]
    assert all(one.due_ns == one.stamp_ns for one in frames)


def test_many_streams_and_subtitles(data: Path) -> None:
    path = data / "video/nasa_13013.mp4"
    items = read(cam=config(path), mic=config(path, "audio"))
    assert {item.source for item in items} == {"cam", "mic"}
    # The better of its two pictures.
    frames = [item.picture for item in items if isinstance(item, Frame)]
    assert {(one.width, one.height) for one in frames} == {(480, 270)}
    assert len(frames) == 390


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
    assert redact(url) == "rtsp://127.0.0.1:9/main"
    with pytest.raises(SourceError) as caught:
        stream.open({"cam": config(url)}, REPLAY)
    assert "secret" not in str(caught.value)
    assert "rtsp://127.0.0.1:9/main: can't be opened" in str(caught.value)
    assert not caught.value.permanent


def opened(source: stream.Config) -> str:
    """The URL that FFmpeg gets."""
    return with_secrets(source.url, source.username, source.password_file)


def test_user_and_password_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("s/e:c@ret\n")
    with_file = config("rtsp://127.0.0.1:9/main", username="me", password_file=str(tmp_path / "password"))
    assert opened(with_file) == "rtsp://me:s%2Fe%3Ac%40ret@127.0.0.1:9/main"
    with_variable = config("rtsp://me:${CAM_PASSWORD}@127.0.0.1:9/main")
    with pytest.raises(SourceError, match="CAM_PASSWORD is not set") as caught:
        opened(with_variable)
    assert caught.value.permanent
    monkeypatch.setenv("CAM_PASSWORD", "p@ss")
    assert opened(with_variable) == "rtsp://me:p%40ss@127.0.0.1:9/main"
    (tmp_path / "password").unlink()
    with pytest.raises(SourceError, match="can't be read: No such file"):
        opened(with_file)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("rtsp://a/b", {"password_file": "p"}),
        ("a.mp4", {"username": "me"}),
        ("rtsp://me@a/b", {"username": "me"}),
    ],
)
def test_users_that_make_no_sense(url: str, more: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="username"):
        config(url, **more)


def test_an_unquoted_password_is_refused_and_shown_to_nobody() -> None:
    url = "rtsp://admin:pa/ss@cam/1"
    assert redact(url) == "rtsp://cam/1"
    with pytest.raises(ValueError, match="percent-encoded"):
        config(url)


def test_a_file_whose_stamps_begin_late_or_jump_plays_on(tmp_path: Path) -> None:
    """Live, it is paced by its stamps, and nobody waits for an hour of nothing."""
    film = flash_and_beep(tmp_path / "a.mp4", seconds=6)
    late = tmp_path / "late.mkv"
    with av.open(str(film)) as source, av.open(str(late), "w") as target:
        outs = {one.index: target.add_stream_from_template(one) for one in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or not packet.time_base:
                continue
            hours = 1 if packet.pts * packet.time_base < 3 else 3
            packet.pts += round(hours * 3600 / packet.time_base)
            packet.dts += round(hours * 3600 / packet.time_base)
            packet.stream = outs[packet.stream.index]
            target.mux(packet)
    timing = Timing(replay=False, paced=True)
    device = stream.open({"cam": config(late), "mic": config(late, "audio")}, timing)
    items = list(handed_on(device))
    device.close()
    ends = [max(i.stamp_ns for i in items if i.source == name) - timing.opened_ns for name in ("cam", "mic")]
    assert all(5.5 <= end / SECOND_NS <= 6.5 for end in ends), "it lasts six seconds"
    assert max(item.due_ns for item in items) - timing.opened_ns < 7 * SECOND_NS
    bright = [
        i.stamp_ns for i in items if isinstance(i, Frame) and i.picture.to_ndarray(format="gray").mean() > 128
    ]
    loud = [i.stamp_ns for i in items if isinstance(i, Sound) and np.abs(i.samples).max() > 0.1]
    assert abs(bright[0] - loud[0]) <= 60_000_000, "picture and sound have jumped together"


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
            items: list[Frame | Sound] = []
            with pytest.raises(SourceError, match="the stream ended"):
                _collect(device, items)
            device.close()
            assert {item.source for item in items} == {"cam", "mic"}
            blocks = [item for item in items if isinstance(item, Sound)]
            assert sum(len(block.samples) for block in blocks) >= 3.9 * 48_000
            steps = np.diff([block.stamp_ns for block in blocks])[-20:]
            assert np.abs(steps - 1024 * SECOND_NS // 48_000).max() <= 1_000_000
            # A live server may have kept a second for us; this one has all.
            assert all(item.stamp_ns >= timing.opened_ns - 1.1 * SECOND_NS for item in items)
            with pytest.raises(SourceError, match=f"{url}x: can't be opened"):
                stream.open({"cam": config(f"{url}x")}, timing)
        finally:
            server.shutdown()
            thread.join()


def _collect(device: stream.Stream, items: list[Frame | Sound]) -> None:
    for item in handed_on(device):
        time.sleep(max(0, item.due_ns - now_ns()) / SECOND_NS)  # as the worker does
        items.append(item)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""
